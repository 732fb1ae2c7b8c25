"""Where time and randomness enter the server: here and nowhere else."""

from __future__ import annotations

import os
import time
from typing import Protocol

_POOL_BYTES = 4096


class Clock(Protocol):
    """Time and randomness."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...

    def entropy(self, size: int) -> bytes:
        """Return `size` random bytes that nobody can guess."""
        ...


class SystemClock:
    """The machine's clock and random source."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0
        self._pid: int = 0

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def entropy(self, size: int) -> bytes:
        """Return random bytes of the operating system, asked for a page at a time."""
        used = self._used
        pid = os.getpid()
        if used + size > len(self._pool) or pid != self._pid:
            # A forked process must not hand out the bytes of its parent.
            self._pool = os.urandom(max(_POOL_BYTES, size))
            self._pid = pid
            used = 0
        self._used = used + size
        return self._pool[used : used + size]
