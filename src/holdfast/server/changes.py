"""Which invocations have changed, for those who look on: the live pages of the UI.

A hint and no more: rows are the truth. Changes are put together for a moment, so that a busy server
sends a page a few frames a second and not thousands. Nobody looks on: nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import NamedTuple

from holdfast.engine.row import InvocationRow

FRAME_S = 0.15
"""For how long changes are put together."""
FRAME_ROWS_MAX = 200
"""Invocations of one frame. Of more, a frame only says how many there are."""


class Frame(NamedTuple):
    """What has changed in a moment."""

    revision: int
    """Of this process; each frame has the next one."""
    rows: tuple[InvocationRow, ...]
    """As they are now, in the order in which they changed first."""
    gone: tuple[str, ...]
    """Ids of invocations that were removed."""
    more: int
    """How many others have changed: look at the list anew."""


Watcher = Callable[[Frame], None]


class Changes:
    """Collects what has changed and tells those who watch."""

    def __init__(self) -> None:
        self.revision = 0
        self._watchers: list[Watcher] = []
        self._changed: dict[str, InvocationRow | None] = {}
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_watched(self) -> bool:
        """Whether anybody looks on."""
        return bool(self._watchers)

    def note(self, changed: Iterable[tuple[str, InvocationRow | None]]) -> None:
        """Take committed rows by id; None: it was removed."""
        for invocation_id, row in changed:
            self._changed[invocation_id] = row
        if self._changed and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(FRAME_S, self._flush)

    @contextmanager
    def watched(self, watcher: Watcher) -> Generator[int]:
        """Tell `watcher` of each frame. Yields the revision that it begins after."""
        self._watchers.append(watcher)
        try:
            yield self.revision
        finally:
            self._watchers.remove(watcher)

    def _flush(self) -> None:
        self._alarm = None
        changed, self._changed = self._changed, {}
        self.revision += 1
        rows = [row for row in changed.values() if row is not None]
        gone = [invocation_id for invocation_id, row in changed.items() if row is None]
        frame = Frame(
            self.revision,
            tuple(rows[:FRAME_ROWS_MAX]),
            tuple(gone[:FRAME_ROWS_MAX]),
            max(0, len(rows) - FRAME_ROWS_MAX) + max(0, len(gone) - FRAME_ROWS_MAX),
        )
        for watcher in list(self._watchers):
            watcher(frame)
