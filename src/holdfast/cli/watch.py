"""Notices that Python files of a project have changed, by looking at their times."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

_INTERVAL_S = 0.3
_SCAN_SHARE_MAX = 0.05
"""At most this share of the time is spent on looking, however large the project is."""
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})

Snapshot = dict[str, tuple[int, int]]
"""Path → (modification time in nanoseconds, size)."""


def scan(folder: Path) -> Snapshot:
    """Return the Python files below a folder; hidden folders and installed packages left out."""
    found: Snapshot = {}
    folders = [os.fspath(folder)]
    while folders:
        try:
            entries = list(os.scandir(folders.pop()))
        except OSError:
            continue  # Deleted or forbidden meanwhile.
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                        folders.append(entry.path)
                elif entry.name.endswith(".py"):
                    status = entry.stat()
                    found[entry.path] = (status.st_mtime_ns, status.st_size)
            except OSError:
                continue
    return found


async def watch(
    folder: Path,
    known: Snapshot,
    on_change: Callable[[], None],
    *,
    interval_s: float = _INTERVAL_S,
) -> None:
    """Call `on_change` after files have changed and then stayed as they are. Until cancelled.

    Args:
        folder: Where to look, and below.
        known: What `scan` returned before the files were loaded: a change since then counts.
        on_change: Called on the event loop.
        interval_s: How often to look, at most.
    """
    latest: Snapshot | None = None
    while True:
        begun = time.monotonic()
        seen = await asyncio.to_thread(scan, folder)
        took_s = time.monotonic() - begun
        # Editors and version control write many files: wait until they are done.
        if seen == latest and seen != known:
            known = seen
            on_change()
        latest = seen
        await asyncio.sleep(max(interval_s, took_s / _SCAN_SHARE_MAX))
