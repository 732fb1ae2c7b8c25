"""Signals: named ones are a queue that is never lost, and a cancel never waits for a retry."""

from __future__ import annotations

import pytest

from holdfast.domain.message import (
    End,
    Error,
    Failure,
    Output,
    Run,
    SendSignal,
    Signal,
    Suspension,
    Value,
    Void,
)
from holdfast.engine.decision import Forward, Reply, StartAttempt
from holdfast.engine.record import AttemptLost, SignalSent, TimerFired
from holdfast.engine.row import Status
from tests.engine.harness import Harness

CANCEL = Signal(Void(), index=1)
GO = Signal(Value(b"1"), name="go")
WAIT = Suspension((), (1,), ("go",))


def named(engine: Harness, invocation: str) -> list[object]:
    entries = engine.journal(invocation)
    return [e.result for e in entries if isinstance(e, Signal) and e.name == "go"]


def test_a_named_signal_is_forwarded_or_wakes_who_waits_for_it() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(SignalSent(invocation, GO))
    assert [forward.notification.result for forward in engine.acted(Forward)] == [GO.result]
    # The attempt may not have seen it before it suspended.
    engine.sent(invocation, WAIT)
    assert engine.status(invocation) is Status.RUNNING
    # Now it has: only the next one is news.
    engine.sent(invocation, WAIT)
    assert engine.status(invocation) is Status.SUSPENDED
    engine.apply(SignalSent(invocation, Signal(Value(b"2"), name="other")))
    assert engine.status(invocation) is Status.SUSPENDED
    engine.apply(SignalSent(invocation, GO))
    assert engine.status(invocation) is Status.RUNNING
    engine.sent(invocation, WAIT)
    assert engine.status(invocation) is Status.SUSPENDED
    assert named(engine, invocation) == [GO.result] * 2


def test_a_suspension_may_wait_for_a_named_signal_alone() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Suspension((), (), ("go",)))
    assert engine.status(invocation) is Status.SUSPENDED
    engine.apply(SignalSent(invocation, GO))
    assert engine.status(invocation) is Status.RUNNING


def test_who_waits_to_begin_keeps_named_signals() -> None:
    engine = Harness()
    delayed = engine.invoke(execute_at_ms=engine.now_ms + 1000)
    assert engine.status(delayed) is Status.SCHEDULED
    engine.apply(SignalSent(delayed, GO))
    engine.apply(SignalSent(delayed, Signal(Value(b"x"), index=17)))
    assert engine.status(delayed) is Status.SCHEDULED
    ((at_ms, _, slot),) = engine.timers()
    engine.apply(TimerFired(at_ms, delayed, slot), at_ms=at_ms)
    assert engine.status(delayed) is Status.RUNNING
    assert len(engine.journal(delayed)) == 2
    assert named(engine, delayed) == [GO.result]


def test_a_completed_invocation_takes_none() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Output(Value(b"1")), End())
    engine.apply(SignalSent(invocation, GO))
    assert engine.answer is not None
    assert engine.answer.reply is Reply.ALREADY_COMPLETED
    assert named(engine, invocation) == []


def test_a_full_journal_takes_none_and_still_takes_a_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.engine.on_record.JOURNAL_LENGTH_MAX", 2)
    engine = Harness()
    invocation = engine.invoke()
    for expected in (Reply.ACCEPTED, Reply.OVERLOADED):
        engine.apply(SignalSent(invocation, GO))
        assert engine.answer is not None
        assert engine.answer.reply is expected
    engine.apply(SignalSent(invocation, CANCEL))
    assert len(engine.journal(invocation)) == 3


def test_a_handler_signals_another_invocation() -> None:
    engine = Harness()
    sender, receiver = engine.invoke(), engine.invoke()
    engine.sent(sender, SendSignal(receiver, Failure(418, "no"), None, "go"))
    assert named(engine, receiver) == [Failure(418, "no")]


@pytest.mark.parametrize("behavior", [0, 1])
def test_a_cancel_that_a_failing_attempt_has_not_seen_starts_the_next_one(behavior: int) -> None:
    engine = Harness()
    invocation = engine.invoke()
    error = Error(500, "no", next_retry_delay_ms=60_000, behavior=behavior)
    engine.sent(invocation, Run(1, key="k"))
    engine.apply(SignalSent(invocation, CANCEL))
    engine.sent(invocation, error)
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).attempt == 2
    # That one has: it is a failure like any other.
    engine.sent(invocation, error)
    assert engine.status(invocation) is (Status.PAUSED if behavior else Status.BACKING_OFF)


def test_a_lost_attempt_and_a_cancel_start_the_next_one() -> None:
    engine = Harness()
    invocation = engine.invoke()
    for attempt in (1, 2):
        engine.apply(AttemptLost(invocation, engine.epoch, attempt, "gone"))
    assert engine.status(invocation) is Status.BACKING_OFF
    engine.apply(SignalSent(invocation, CANCEL))
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).retry_at_ms == 0
    # Its retry timer fires into the void.
    ((at_ms, _, slot),) = engine.timers()
    engine.apply(TimerFired(at_ms, invocation, slot), at_ms=at_ms)
    assert not engine.acted(StartAttempt)
    assert engine.row(invocation).timer_count == 0
