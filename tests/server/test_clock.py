"""Time and randomness of the operating system."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest

from holdfast.server.clock import Alarm, SystemClock


def test_no_byte_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = os.urandom

    def urandom(size: int) -> bytes:
        sizes.append(size)
        return real(size)

    monkeypatch.setattr(os, "urandom", urandom)
    clock = SystemClock()
    handed = [clock.entropy(12) for _ in range(1000)]
    assert len(set(handed)) == 1000
    assert {len(part) for part in handed} == {12}
    assert len(sizes) == 3, "4096 bytes are 341 times 12"


def test_more_than_a_page_is_given_at_once() -> None:
    assert len(SystemClock().entropy(10_000)) == 10_000


def test_a_forked_process_has_bytes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    clock.entropy(16)
    pool = clock._pool
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert clock.entropy(16) not in pool


async def test_alarms_of_far_times_ring_early_because_the_clock_may_jump() -> None:
    loop, delays = asyncio.get_running_loop(), list[float]()

    class Watched(SystemClock):
        def call_later(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
            delays.append(delay_s)
            return super().call_later(0, callback)

    clock = Watched()
    rung = loop.create_future()
    clock.call_at(clock.now_ms() + 3_600_000, lambda: None).cancel()
    clock.call_at(0, lambda: rung.set_result(None))
    await rung
    assert delays == [60.0, 0.0]
    assert clock.monotonic_s() == pytest.approx(loop.time(), abs=1)
