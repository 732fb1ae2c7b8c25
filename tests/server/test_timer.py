"""Many timers: few are in memory, all fire, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from holdfast.engine.record import TimerFired
from holdfast.server.clock import Alarm, SystemClock
from holdfast.server.partition import Partition
from holdfast.server.timer import WINDOW_TIMERS_MAX, Timers
from holdfast.storage.base import Store, Timer

YEAR_MS = 365 * 24 * 3600 * 1000


class Clock(SystemClock):
    """A clock that is set by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.at_ms = 0
        self.alarm: tuple[int, Callable[[], None]] | None = None

    def now_ms(self) -> int:
        return self.at_ms

    def call_at(self, at_ms: int, callback: Callable[[], None]) -> Alarm:
        self.alarm = (at_ms, callback)
        return asyncio.get_running_loop().call_later(1e6, lambda: None)


class Rows:
    """Stands in for a store and a partition: sorted timers, and what was fired."""

    index = 0

    def __init__(self, count: int) -> None:
        self.timers_left = [Timer(1000 + n // 3, f"inv_{n:06}", "c1") for n in range(count)]
        self.reads = 0
        self.fired: list[Timer] = []

    async def timers(self, partition: int, after: Timer | None, limit: int) -> list[Timer]:
        self.reads += 1
        rest = self.timers_left
        if after is not None:
            rest = [timer for timer in rest if timer > after]
        return rest[:limit]

    def submit(self, record: TimerFired) -> None:
        self.fired.append(Timer(record.timer_at_ms, record.invocation_id, record.slot))


def timers_of(rows: Rows, clock: Clock) -> Any:
    return Timers(cast("Partition", rows), cast("Store", rows), clock)


async def test_a_hundred_thousand_timers() -> None:
    rows, clock = Rows(100_000), Clock()
    timers = timers_of(rows, clock)
    await timers.load()
    assert rows.reads == 1
    assert len(timers._heap) == WINDOW_TIMERS_MAX
    for timer in reversed(rows.timers_left):
        timers.register(*timer)
        assert len(timers._heap) <= 2 * WINDOW_TIMERS_MAX
    clock.at_ms = YEAR_MS
    while len(set(rows.fired)) < 100_000:
        fired = len(rows.fired)
        timers._ring()
        while timers._refill_task is not None:
            await timers._refill_task
        assert len(rows.fired) > fired, "a ring fires something"
    assert [*dict.fromkeys(rows.fired)] == rows.timers_left
    assert rows.reads <= 100_000 // WINDOW_TIMERS_MAX + 2
    timers.stop()


async def test_sleeps_of_years_and_of_the_past() -> None:
    rows, clock = Rows(0), Clock()
    timers = timers_of(rows, clock)
    await timers.load()
    clock.at_ms = 5_000
    timers.register(5_000 + 300 * YEAR_MS, "inv_far", "c1")
    assert clock.alarm is not None
    assert clock.alarm[0] == 5_000 + 300 * YEAR_MS
    timers.register(1, "inv_past", "c1")
    assert clock.alarm[0] == 1
    clock.alarm[1]()
    assert [timer.invocation_id for timer in rows.fired] == ["inv_past"]
    assert clock.alarm[0] == 5_000 + 300 * YEAR_MS
    timers.stop()


async def test_a_timer_that_comes_while_others_are_read_is_kept() -> None:
    rows, clock = Rows(WINDOW_TIMERS_MAX), Clock()
    gate = asyncio.Event()
    timers = timers_of(rows, clock)
    await timers.load()
    read = rows.timers

    async def slow(partition: int, after: Timer | None, limit: int) -> list[Timer]:
        found = await read(partition, after, limit)
        await gate.wait()
        return found

    rows.timers = slow  # type: ignore[method-assign]
    clock.at_ms = 1_000_000
    timers._ring()
    await asyncio.sleep(0)
    timers.register(2_000_000, "inv_late", "c1")
    gate.set()
    await timers._refill_task
    clock.at_ms = 2_000_000
    timers._ring()
    assert rows.fired[-1].invocation_id == "inv_late"
    timers.stop()
