"""A clock that stands until it is moved."""

from __future__ import annotations

import heapq
import math
import os
from collections.abc import Callable

_US_PER_MS = 1_000
_US_PER_S = 1_000_000


class VirtualAlarm:
    """A callback that is to come. See `server.clock.Alarm`."""

    __slots__ = ("at_us", "callback")

    def __init__(self, at_us: int, callback: Callable[[], None]) -> None:
        self.at_us = at_us
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call it."""
        self.callback = None


class VirtualClock:
    """Time that stands still between jumps, and the randomness of the system.

    Args:
        begin_ms: What time it is at first, in milliseconds since the epoch.
    """

    def __init__(self, begin_ms: int) -> None:
        self._begin_us = begin_ms * _US_PER_MS
        self._now_us = self._begin_us
        self._heap: list[tuple[int, int, VirtualAlarm]] = []
        self._count = 0

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_us // _US_PER_MS

    def monotonic_s(self) -> float:
        """Return the seconds since the clock was made, and one: zero means never to others."""
        return 1 + (self._now_us - self._begin_us) / _US_PER_S

    def entropy(self, size: int) -> bytes:
        """Return random bytes."""
        return os.urandom(size)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> VirtualAlarm:
        """Call back after a delay."""
        return self._put(self._now_us + math.ceil(delay_s * _US_PER_S), callback)

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> VirtualAlarm:
        """Call back at a time."""
        return self._put(max(self._now_us, at_ms * _US_PER_MS), callback)

    def _put(self, at_us: int, callback: Callable[[], None]) -> VirtualAlarm:
        alarm = VirtualAlarm(at_us, callback)
        self._count += 1
        heapq.heappush(self._heap, (at_us, self._count, alarm))
        return alarm

    def next_ms(self) -> int | None:
        """Return the time of the next alarm, rounded up; None if there is none."""
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        return -(-self._heap[0][0] // _US_PER_MS) if self._heap else None

    def move_to(self, at_ms: int) -> None:
        """Move the clock forward, and call back what is due then. Never moves it back."""
        self._now_us = max(self._now_us, at_ms * _US_PER_MS)
        while (next_ms := self.next_ms()) is not None and next_ms <= self.now_ms():
            alarm = heapq.heappop(self._heap)[2]
            callback, alarm.callback = alarm.callback, None
            assert callback is not None, "cancelled alarms are not next"
            callback()
