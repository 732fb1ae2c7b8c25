"""Retry policies in the engine: of the handler, of one invocation, and what failures ask for."""

from __future__ import annotations

import math

import pytest

from holdfast.domain.message import (
    TIME_MS_MAX,
    DelayRule,
    Error,
    Failure,
    OneWayCall,
    ProposeRunCompletion,
    Run,
    Value,
)
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.engine.decision import Respond, StartAttempt
from holdfast.engine.record import AttemptLost, TimerFired
from holdfast.engine.row import SLOT_RETRY, Status
from tests.engine.harness import Harness

STEADY = RetrySchedule(initial_interval_ms=1_000, factor=1, max_interval_ms=1_000)
KILL = OnMaxAttempts.KILL


def fail(engine: Harness, invocation: str, error: Error) -> int | None:
    """Fail an attempt; return the wait, and start the next one."""
    engine.sent(invocation, error)
    row = engine.row(invocation)
    if row.status is not Status.BACKING_OFF:
        return None
    wait_ms = row.retry_at_ms - engine.now_ms
    engine.now_ms = row.retry_at_ms
    engine.apply(TimerFired(row.retry_at_ms, invocation, SLOT_RETRY))
    return wait_ms


@pytest.mark.parametrize(
    ("count", "elapsed_ms", "chosen_ms", "least_ms", "expected"),
    [
        (1, 0, None, 0, 100),
        (2, 0, None, 0, 200),
        (9, 0, None, 0, 1_000),
        (2000, 0, None, 0, 1_000),
        (10_000, 0, None, 0, None),
        (1, 0, 7, 0, 7),
        (1, 0, None, 50, 100),
        (1, 0, None, 500, 500),
        (1, 4_900, None, 0, 100),
        (1, 4_901, None, 0, None),
        (1, 0, 5_001, 0, None),
        (1, 0, None, 5_001, None),
    ],
)
def test_schedule(
    count: int, elapsed_ms: int, chosen_ms: int | None, least_ms: int, expected: int | None
) -> None:
    schedule = RetrySchedule(100, 2, 1_000, 10_000, OnMaxAttempts.PAUSE, 5_000)
    delay_ms = schedule.delay_ms(count, elapsed_ms, chosen_ms=chosen_ms, least_ms=least_ms)
    assert delay_ms == expected


ODD = [
    RetrySchedule(factor=math.inf),
    RetrySchedule(factor=math.nan),
    RetrySchedule(factor=0),
    RetrySchedule(factor=-2),
    RetrySchedule(factor=1e300),
    RetrySchedule(initial_interval_ms=-1),
    RetrySchedule(initial_interval_ms=10**30, max_interval_ms=10**30),
    RetrySchedule(max_interval_ms=-5),
    RetrySchedule(max_interval_ms=10**400),
    RetrySchedule(max_attempts=0),
    RetrySchedule(max_attempts=-1),
    RetrySchedule(max_duration_ms=-1),
]


@pytest.mark.parametrize("schedule", ODD)
def test_an_odd_policy_is_refused_and_does_no_harm_where_it_is_stored(
    schedule: RetrySchedule,
) -> None:
    assert schedule.problem() is not None
    for count in (1, 2, 65, 2_000, 10**9):
        delay_ms = schedule.delay_ms(count)
        assert delay_ms is None or 0 <= delay_ms <= 10**15
    engine = Harness()
    engine.serve("S", "h")
    caller = engine.invoke()
    call = OneWayCall("S", "h", b"1", None, (), None, 0, 1, retry=schedule)
    engine.sent(caller, call)
    row = engine.row(caller)
    assert row.last_failure is not None
    assert "[HF2037]" in row.last_failure.message
    assert len(engine.journal(caller)) == 1


def test_a_wait_that_a_failure_asks_for_ends_before_time_does() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Error(500, "no", next_retry_delay_ms=2**64 - 1))
    assert engine.row(invocation).retry_at_ms == TIME_MS_MAX


@pytest.mark.parametrize("count", [1, 2, 10, 100, 10**6])
def test_a_wait_is_that_of_the_formula(count: int) -> None:
    for factor in (1, 1.5, 2, 10, 1e6):
        schedule = RetrySchedule(500, factor, 60_000, None)
        expected = 60_000 if factor > 1 and count > 20 else int(500 * factor ** (count - 1))
        assert schedule.delay_ms(count) == min(expected, 60_000)
    assert RetrySchedule(0, 2, 60_000, None).delay_ms(count) == 0


def test_the_failures_of_steps_are_counted_for_so_many_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.engine.lifecycle.STEP_FAILURES_MAX", 3)
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, *(Run(number) for number in range(1, 6)))
    error = Error(500, "no", next_retry_delay_ms=0, failed_steps=(5, 4, 3, 2, 1))
    late = Error(500, "no", next_retry_delay_ms=0, failed_steps=(5, 3, 2, 1))
    for _ in range(2):
        engine.sent(invocation, error)
    counted = {f.completion_id: f.count for f in engine.row(invocation).step_failures}
    assert counted == {5: 2, 4: 2, 3: 2}
    engine.sent(invocation, ProposeRunCompletion(4, Value(b"1")))
    engine.sent(invocation, late)
    counted = {f.completion_id: f.count for f in engine.row(invocation).step_failures}
    assert counted == {5: 3, 3: 3, 2: 1}


def test_a_policy_ends_by_time() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, None, KILL, 2_500))
    invocation = engine.invoke("S", "h")
    waits = [fail(engine, invocation, Error(500, "no")) for _ in range(3)]
    assert waits[-1] is None or fail(engine, invocation, Error(500, "no")) is None
    assert engine.acted(Respond) == [Respond(invocation, Failure(500, "no"))]
    # Jitter does not carry the last attempt over the end.
    assert sum(w for w in waits if w is not None) <= 2_500


def test_the_first_failure_of_a_new_count_begins_its_time() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, None, KILL, 1_500))
    invocation = engine.invoke("S", "h")
    assert fail(engine, invocation, Error(500, "no")) is not None
    engine.now_ms += 10_000
    engine.row(invocation).retry_count = 0  # As a suspension does.
    failed_at_ms = engine.now_ms
    assert fail(engine, invocation, Error(500, "no")) is not None
    assert engine.row(invocation).retry_since_ms == failed_at_ms


def test_the_policy_of_an_invocation_replaces_that_of_its_handler() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=STEADY)
    invocation = engine.invoke("S", "h", retry=RetrySchedule(5, 1, 5, 2, KILL))
    assert fail(engine, invocation, Error(500, "no")) in (5, 6)
    assert fail(engine, invocation, Error(500, "no")) is None
    assert engine.status(invocation) is Status.COMPLETED


def test_a_send_carries_its_policy() -> None:
    engine = Harness()
    engine.serve("S", "h")
    engine.serve("T", "parent")
    parent = engine.invoke("T", "parent")
    own = RetrySchedule(5, 1, 5, 2, KILL)
    engine.sent(parent, OneWayCall("S", "h", b"", None, (), None, 0, 1, retry=own))
    assert engine.acted(StartAttempt)[-1].row.retry == own


def test_a_wait_that_the_handler_chose_counts() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, 3))
    invocation = engine.invoke("S", "h")
    error = Error(500, "later", next_retry_delay_ms=7, delay_rule=DelayRule.CHOSEN)
    assert [fail(engine, invocation, error) for _ in range(3)] == [7, 7, None]
    assert engine.status(invocation) is Status.PAUSED


def test_the_least_wait_does_not_shorten_that_of_the_policy() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, None))
    invocation = engine.invoke("S", "h")
    for least_ms in (0, 500):
        error = Error(500, "429", next_retry_delay_ms=least_ms, delay_rule=DelayRule.LEAST)
        wait_ms = fail(engine, invocation, error)
        assert wait_ms is not None
        assert 1_000 <= wait_ms <= 1_300
    error = Error(500, "429", next_retry_delay_ms=9_000, delay_rule=DelayRule.LEAST)
    wait_ms = fail(engine, invocation, error)
    assert wait_ms is not None
    assert 9_000 <= wait_ms <= 11_700


def test_the_wait_of_a_steps_own_policy_does_not_count() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, 2))
    invocation = engine.invoke("S", "h")
    waits = [fail(engine, invocation, Error(500, "no", next_retry_delay_ms=3)) for _ in range(5)]
    assert waits == [3] * 5
    assert engine.row(invocation).retry_count == 0


def test_a_lost_worker_begins_no_count_of_time() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1_000, 1, 1_000, None, KILL, 1_500))
    invocation = engine.invoke("S", "h")
    engine.apply(AttemptLost(invocation, 1, 1, "gone"))
    engine.now_ms += 60_000
    assert fail(engine, invocation, Error(500, "no")) is not None
