"""Where time and randomness enter the server: here and nowhere else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Protocol

_POOL_BYTES = 4096
_SLEEP_S_MAX = 60.0


class Alarm(Protocol):
    """A callback that is to come."""

    def cancel(self) -> None:
        """Do not call it. Harmless when it was called."""
        ...


class Clock(Protocol):
    """Time and randomness."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...

    def monotonic_s(self) -> float:
        """Return a time in seconds that never goes back and means nothing by itself."""
        ...

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back on the running event loop after a delay of `monotonic_s`."""
        ...

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> Alarm:
        """Call back at a time of `now_ms`, or earlier: who is called looks at the time again."""
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

    def monotonic_s(self) -> float:
        """Return the machine's monotonic time, which event loops use, too."""
        return time.monotonic()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call back on the running event loop after a delay."""
        return asyncio.get_running_loop().call_later(delay_s, callback)

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> Alarm:
        """Call back at a time, or after a minute: the clock may jump while we sleep."""
        delay_s = max(0.0, (at_ms - self.now_ms()) / 1000)
        return self.call_later(min(delay_s, _SLEEP_S_MAX), callback)

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
