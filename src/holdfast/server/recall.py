"""What a partition remembers of what it has committed, so that busy object keys need no reads.

Two things are read for each attempt on a key: its journal, which for a first attempt is one
`Input`, and the state. Both have just gone through the partition, and nobody else writes them: so
it keeps the inputs of invocations that have not begun, and the state of keys that was read lately.
What is not here is read from the store, so anything may be forgotten at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from holdfast.domain.message import Input
from holdfast.engine.decision import ClearState, Range, Row
from holdfast.engine.row import InvocationRow, JournalRow, Key, StateRow, Table
from holdfast.storage.base import StoredState

TOTAL_BYTES_MAX = 4 * 1024 * 1024
"""Of inputs, and of state: of one partition."""
ONE_BYTES_MAX = 64 * 1024
"""Longer inputs, and state of a key that is longer, are not remembered."""

_OVERHEAD_BYTES = 300


class Recall:
    """The memory of one partition. What has not been used for the longest time goes first."""

    def __init__(self) -> None:
        self.version = 0
        """Rises with every commit: what was read before it may be old."""
        self._inputs: dict[str, Input] = {}
        self._input_bytes = 0
        self._states: dict[tuple[str, str], dict[str, StateRow]] = {}
        """All of the state, by service and key."""
        self._state_bytes = 0

    def note(
        self,
        rows: Mapping[Key, Row | None],
        ranges: Iterable[Range],
        journal: Iterable[JournalRow],
    ) -> None:
        """Take in what was committed."""
        self.version += 1
        if self._states:
            for deletion in ranges:
                if type(deletion) is ClearState:
                    self._drop_state((deletion.service, deletion.key))
            for key, row in rows.items():
                if key[0] is Table.STATE:
                    self._note_state(key, cast("StateRow | None", row))
        for written in journal:
            if written.index == 0 and type(written.entry) is Input:
                row = rows.get((Table.INVOCATION, written.invocation_id))
                if type(row) is InvocationRow and row.target.key is not None:
                    self._note_input(row.id, written.entry)

    # -- inputs ------------------------------------------------------------------------------------

    def take_input(self, row: InvocationRow) -> Input | None:
        """Return the whole journal of an invocation that has not begun, and forget it."""
        entry = self._inputs.pop(row.id, None)
        if entry is None:
            return None
        self._input_bytes -= _size_of_input(entry)
        return entry if row.journal_length == 1 else None

    def _note_input(self, invocation_id: str, entry: Input) -> None:
        known = self._inputs.pop(invocation_id, None)
        if known is not None:
            self._input_bytes -= _size_of_input(known)
        size = _size_of_input(entry)
        if size > ONE_BYTES_MAX:
            return
        self._inputs[invocation_id] = entry
        self._input_bytes += size
        while self._input_bytes > TOTAL_BYTES_MAX:
            self._input_bytes -= _size_of_input(self._inputs.pop(next(iter(self._inputs))))

    # -- state -------------------------------------------------------------------------------------

    def state(self, service: str, key: str, at_ms: int) -> StoredState | None:
        """Return all state of an object key, without what has expired; None: not known."""
        known = self._states.pop((service, key), None)
        if known is None:
            return None
        self._states[service, key] = known
        return StoredState({n: known[n] for n in sorted(known) if known[n].is_live(at_ms)}, True)

    def keep_state(self, service: str, key: str, found: StoredState, version: int) -> None:
        """Remember state that was read.

        Args:
            service: Of the object.
            key: Of the object.
            found: What was read, up to expired entries.
            version: As it was before that.
        """
        self._drop_state((service, key))
        size = _size_of_state(found.entries)
        if found.is_complete and size <= ONE_BYTES_MAX and version == self.version:
            self._states[service, key] = dict(found.entries)
            self._state_bytes += size
            while self._state_bytes > TOTAL_BYTES_MAX:
                self._drop_state(next(iter(self._states)))

    def _note_state(self, key: Key, row: StateRow | None) -> None:
        where = (cast(str, key[1]), cast(str, key[2]))
        known = self._states.get(where)
        if known is None:
            return
        name = cast(str, key[3])
        self._state_bytes -= _size_of_entry(name, known.pop(name, None))
        if row is not None:
            known[name] = row
            self._state_bytes += _size_of_entry(name, row)
            if len(row.value) > ONE_BYTES_MAX or self._state_bytes > TOTAL_BYTES_MAX:
                self._drop_state(where)

    def _drop_state(self, where: tuple[str, str]) -> None:
        known = self._states.pop(where, None)
        if known is not None:
            self._state_bytes -= _size_of_state(known)


def _size_of_input(entry: Input) -> int:
    headers = sum(len(name) + len(value) for name, value in entry.headers)
    return len(entry.value.content) + headers + _OVERHEAD_BYTES


def _size_of_state(entries: Mapping[str, StateRow]) -> int:
    return _OVERHEAD_BYTES + sum(_size_of_entry(name, row) for name, row in entries.items())


def _size_of_entry(name: str, row: StateRow | None) -> int:
    return 0 if row is None else len(name) + len(row.value) + _OVERHEAD_BYTES
