"""A clock that stands until it is moved."""

from __future__ import annotations

from holdfast.testing.clock import VirtualClock


def test_alarms_ring_in_order_when_their_time_has_come() -> None:
    clock = VirtualClock(1_000)
    rung: list[str] = []
    clock.call_at(1_500, lambda: rung.append("b"))
    clock.call_later(0.25, lambda: rung.append("a"))
    clock.call_at(1_500, lambda: rung.append("c"))
    clock.call_at(1_600, lambda: rung.append("never")).cancel()
    clock.call_at(0, lambda: rung.append("past"))
    assert rung == []
    assert clock.next_ms() == 1_000
    clock.move_to(1_499)
    assert rung == ["past", "a"]
    clock.move_to(2_000)
    assert rung == ["past", "a", "b", "c"]
    assert clock.next_ms() is None
    assert clock.now_ms() == 2_000
    clock.move_to(1_000)
    assert clock.now_ms() == 2_000


def test_what_is_less_than_a_millisecond_away_rings_at_the_next_one() -> None:
    clock = VirtualClock(1_000)
    rung: list[int] = []
    clock.call_later(0.0001, lambda: rung.append(clock.now_ms()))
    assert clock.next_ms() == 1_001
    clock.move_to(1_001)
    assert rung == [1_001]


def test_an_alarm_may_set_the_next_one() -> None:
    clock = VirtualClock(0)
    rung: list[int] = []

    def ring() -> None:
        rung.append(clock.now_ms())
        if len(rung) < 3:
            clock.call_later(0, ring)

    clock.call_later(1, ring)
    clock.move_to(1_000)
    assert rung == [1_000] * 3
    assert clock.monotonic_s() == 2.0
    assert len(clock.entropy(16)) == 16
