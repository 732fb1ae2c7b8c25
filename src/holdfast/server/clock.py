"""Where time and randomness enter the server: here and nowhere else."""

from __future__ import annotations

import os
import time
from typing import Protocol


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

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def entropy(self, size: int) -> bytes:
        """Return random bytes of the operating system."""
        return os.urandom(size)
