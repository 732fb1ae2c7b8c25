"""Wakes what is due. A heap over the next timers of a partition; the rest stay rows."""

from __future__ import annotations

import asyncio
import heapq
import logging

from holdfast.domain.errors import StorageError
from holdfast.engine.record import TimerFired
from holdfast.server.clock import Alarm, Clock
from holdfast.server.partition import Partition
from holdfast.storage.base import Store, Timer

WINDOW_TIMERS_MAX = 2_000
"""Timers of one partition in memory."""

_REFILL_RETRY_S = 1.0

_log = logging.getLogger(__name__)


class Timers:
    """The timers of one partition."""

    def __init__(self, partition: Partition, store: Store, clock: Clock) -> None:
        self._partition = partition
        self._store = store
        self._clock = clock
        self._heap: list[Timer] = []
        self._horizon: Timer | None = None
        """Timers after this one may exist and are not in the heap. None: all are in the heap."""
        self._alarm: Alarm | None = None
        self._refill_task: asyncio.Task[None] | None = None
        self._is_stopped = False

    async def load(self) -> None:
        """Read the next timers. Call before the partition starts."""
        await self._read(None)
        self._arm()

    def stop(self) -> None:
        """Fire nothing more."""
        self._is_stopped = True
        if self._alarm is not None:
            self._alarm.cancel()
        if self._refill_task is not None:
            self._refill_task.cancel()

    def register(self, at_ms: int, invocation_id: str, slot: str) -> None:
        """Take in a timer whose row has been committed."""
        timer = Timer(at_ms, invocation_id, slot)
        # A read that is under way may have begun before this one was committed.
        is_reading = self._refill_task is not None
        if self._horizon is not None and timer > self._horizon and not is_reading:
            return
        heapq.heappush(self._heap, timer)
        if len(self._heap) > 2 * WINDOW_TIMERS_MAX:
            self._heap = heapq.nsmallest(WINDOW_TIMERS_MAX, self._heap)
            self._horizon = self._heap[-1]
        if self._heap[0] is timer:
            self._arm()

    async def _read(self, after: Timer | None) -> None:
        timers = await self._store.timers(self._partition.index, after, WINDOW_TIMERS_MAX)
        known = set(self._heap)
        for timer in timers:
            if timer not in known:
                heapq.heappush(self._heap, timer)
        self._horizon = timers[-1] if len(timers) == WINDOW_TIMERS_MAX else None

    def _arm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if not self._heap or self._is_stopped:
            return
        self._alarm = self._clock.call_at(self._heap[0].at_ms, self._ring)

    def _ring(self) -> None:
        now_ms = self._clock.now_ms()
        while self._heap and self._heap[0].at_ms <= now_ms:
            timer = heapq.heappop(self._heap)
            self._partition.submit(TimerFired(timer.at_ms, timer.invocation_id, timer.slot))
        if not self._heap and self._horizon is not None and self._refill_task is None:
            self._refill_task = asyncio.get_running_loop().create_task(self._refill())
            return
        self._arm()

    async def _refill(self) -> None:
        while True:
            try:
                await self._read(self._horizon)
                break
            except StorageError as error:
                _log.warning("the next timers could not be read, it is repeated: %s", error)
                await asyncio.sleep(_REFILL_RETRY_S)
        self._refill_task = None
        self._arm()
