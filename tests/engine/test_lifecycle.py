"""From the request to the outcome: every transition of `holdfast.engine.lifecycle`."""

from __future__ import annotations

import pytest

from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    End,
    Error,
    Failure,
    Input,
    OneWayCall,
    Output,
    ProposeRunCompletion,
    Run,
    Signal,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine import on_handler_sent
from holdfast.engine.decision import (
    EndAttempt,
    Forward,
    RegisterTimer,
    Reply,
    Respond,
    StartAttempt,
)
from holdfast.engine.record import (
    AttemptLost,
    AttemptResumed,
    Expired,
    HandlerSent,
    Invoke,
    KillRequested,
    PurgeRequested,
    Record,
    SignalSent,
    TimerFired,
)
from holdfast.engine.row import Status, Table
from tests.engine.harness import DEPLOYMENT, NOW_MS, Harness

DONE = (Output(Value(b'"ok"')), End())
CANCEL = Signal(Void(), index=1)


def test_a_new_invocation_of_a_service_starts_with_its_input_known() -> None:
    engine = Harness()
    invocation = engine.invoke()
    (start,) = engine.acted(StartAttempt)
    assert start.entries == (Input(Value(b"1")),)
    assert start.row.attempt == 1
    assert engine.status(invocation) is Status.RUNNING


def test_output_and_end_complete_and_respond() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, *DONE)
    row = engine.row(invocation)
    assert row.status is Status.COMPLETED
    assert engine.acted(Respond) == [Respond(invocation, Value(b'"ok"'))]
    assert engine.acted(EndAttempt) == [EndAttempt(invocation, 1, False)]
    assert row.expires_at_ms == NOW_MS + 1000


def test_the_last_of_several_outputs_counts() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Output(Value(b"1")), Output(Value(b"2")), End())
    assert engine.acted(Respond) == [Respond(invocation, Value(b"2"))]


def test_end_without_output_fails_the_attempt() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, End())
    row = engine.row(invocation)
    assert row.status is Status.BACKING_OFF
    assert row.last_failure is not None
    assert "without an output" in row.last_failure.message


def test_a_step_result_is_recorded_and_handed_back() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1, "pay"), ProposeRunCompletion(1, Value(b"7")))
    recorded = Completion(KIND_RUN, 1, Value(b"7"), NOW_MS)
    assert engine.journal(invocation)[1:] == [Run(1, "pay"), recorded]
    assert engine.acted(Forward) == [Forward(invocation, 1, recorded)]


@pytest.mark.parametrize("messages", [(), (Run(1), ProposeRunCompletion(1, Value(b"")))])
def test_a_result_for_a_step_that_is_not_open_fails_the_attempt(messages: tuple) -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, *messages, ProposeRunCompletion(1, Value(b"again")))
    assert engine.status(invocation) is Status.BACKING_OFF
    results = [e for e in engine.journal(invocation) if isinstance(e, Completion)]
    assert Value(b"again") not in [r.result for r in results]


def test_messages_of_another_attempt_or_epoch_are_ignored() -> None:
    engine = Harness()
    invocation = engine.invoke()
    for epoch, attempt in ((1, 2), (0, 1), (2, 1)):
        engine.apply(HandlerSent(invocation, epoch, attempt, DEPLOYMENT, DONE))
        assert engine.answer is not None
        assert engine.answer.reply is Reply.IGNORED
        assert engine.status(invocation) is Status.RUNNING
    assert len(engine.journal(invocation)) == 1


def test_sleep_completes_when_its_timer_fires_and_only_once() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(NOW_MS + 50, 1))
    assert engine.acted(RegisterTimer) == [RegisterTimer(NOW_MS + 50, invocation, "c1")]
    engine.sent(invocation, Suspension((1,), (1,)))
    assert engine.status(invocation) is Status.SUSPENDED
    fired = TimerFired(NOW_MS + 50, invocation, "c1")
    engine.apply(fired, at_ms=NOW_MS + 60)
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).attempt == 2
    length = len(engine.journal(invocation))
    engine.apply(fired, at_ms=NOW_MS + 61)
    assert len(engine.journal(invocation)) == length


def test_a_timer_never_fires_early() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(NOW_MS + 50, 1))
    with pytest.raises(AssertionError, match="fired early"):
        engine.apply(TimerFired(NOW_MS + 50, invocation, "c1"))


def test_sleep_into_the_past_completes_at_once() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(5, 1))
    assert engine.acted(Forward)
    assert engine.timers() == []


def test_a_suspension_on_something_that_came_already_starts_again() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(SignalSent(invocation, Signal(Value(b"yes"), index=17)))
    assert engine.acted(Forward)
    engine.sent(invocation, Suspension((), (1, 17)))
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).attempt == 2


def test_a_suspension_on_nothing_fails_the_attempt() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Suspension())
    assert engine.status(invocation) is Status.BACKING_OFF


def test_a_cancel_that_crosses_the_suspension_is_not_missed() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(SignalSent(invocation, CANCEL))
    engine.sent(invocation, Suspension((), (1, 17)))
    assert engine.status(invocation) is Status.RUNNING
    # The next attempt has it in its replay, so waiting again is really waiting.
    engine.sent(invocation, Suspension((), (1, 17)))
    assert engine.status(invocation) is Status.SUSPENDED


@pytest.mark.parametrize("signal", [CANCEL, Signal(Value(b"1"), index=17)])
def test_a_signal_resumes_whoever_waits_for_it(signal: Signal) -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Suspension((), (1, 17)))
    engine.apply(SignalSent(invocation, signal))
    assert engine.status(invocation) is Status.RUNNING


def test_a_signal_that_nobody_waits_for_is_recorded_only() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Suspension((), (1, 17)))
    engine.apply(SignalSent(invocation, Signal(Value(b"1"), index=18)))
    assert engine.status(invocation) is Status.SUSPENDED
    assert len(engine.journal(invocation)) == 2


def test_failed_attempts_back_off_by_the_policy_and_pause_in_the_end() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(100, 2.0, 10_000, 3))
    invocation = engine.invoke("S", "h")
    for low, high in ((100, 130), (200, 260)):
        engine.sent(invocation, Error(500, "boom"))
        row = engine.row(invocation)
        assert row.status is Status.BACKING_OFF
        assert low <= row.retry_at_ms - engine.now_ms <= high
        engine.now_ms = row.retry_at_ms
        engine.apply(TimerFired(row.retry_at_ms, invocation, "retry"))
        assert engine.status(invocation) is Status.RUNNING
    engine.sent(invocation, Error(500, "boom"))
    assert engine.status(invocation) is Status.PAUSED
    assert engine.timers() == []


def test_exhausted_attempts_kill_when_the_policy_says_so() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1, 1.0, 1, 1, OnMaxAttempts.KILL))
    invocation = engine.invoke("S", "h")
    engine.sent(invocation, Error(503, "no luck"))
    assert engine.acted(Respond) == [Respond(invocation, Failure(503, "no luck"))]


def test_a_delay_chosen_by_the_handler_is_exact_and_does_not_count() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1, "s"), Error(500, "x", next_retry_delay_ms=77,
                                               failed_steps=(1,)))  # fmt: skip
    row = engine.row(invocation)
    assert row.retry_at_ms == NOW_MS + 77
    assert row.retry_count == 0
    assert [(f.completion_id, f.count) for f in row.step_failures] == [(1, 1)]


def test_error_can_pause_or_fail() -> None:
    engine = Harness()
    first, second = engine.invoke(), engine.invoke()
    engine.sent(first, Error(500, "stop", behavior=1))
    assert engine.status(first) is Status.PAUSED
    engine.sent(second, Error(418, "final", behavior=2))
    assert engine.acted(Respond) == [Respond(second, Failure(418, "final"))]


def test_a_lost_attempt_starts_again_at_once_and_then_backs_off() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(AttemptLost(invocation, 1, 1, "gone"))
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).attempt == 2
    engine.apply(AttemptLost(invocation, 1, 2, "gone"))
    assert engine.status(invocation) is Status.BACKING_OFF
    engine.apply(AttemptLost(invocation, 1, 1, "late news"))
    assert engine.status(invocation) is Status.BACKING_OFF


def test_losses_after_progress_do_not_use_up_attempts() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1, 1.0, 1, 2))
    invocation = engine.invoke("S", "h")
    for number in range(1, 10):
        engine.sent(invocation, Run(number))
        engine.apply(AttemptLost(invocation, 1, number, "deployed"))
        assert engine.status(invocation) is Status.RUNNING
        assert engine.row(invocation).retry_count == 0


def test_a_refused_attempt_waits_by_the_policy() -> None:
    engine = Harness()
    invocation = engine.invoke()
    refused = AttemptLost(invocation, 1, 1, "404", 404, is_refused=True)
    engine.apply(refused)
    row = engine.row(invocation)
    assert row.status is Status.BACKING_OFF
    assert 500 <= row.retry_at_ms - NOW_MS <= 650
    assert (row.retry_count, row.stale_retry_count) == (1, 1)
    assert row.last_failure is not None
    assert row.last_failure.code == 404


def test_a_refused_attempt_waits_at_least_as_long_as_it_was_asked_to() -> None:
    engine = Harness()
    one, other = engine.invoke(), engine.invoke()
    engine.apply(AttemptLost(one, 1, 1, "503", 503, is_refused=True, retry_after_ms=3000))
    assert engine.row(one).retry_at_ms >= NOW_MS + 3000
    engine.apply(AttemptLost(other, 1, 1, "503", 503, is_refused=True, retry_after_ms=1))
    assert engine.row(other).retry_at_ms >= NOW_MS + 500


def test_a_refusal_may_leave_the_count_of_the_handler_alone() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(AttemptLost(invocation, 1, 1, "415", 415, is_refused=True, is_counted=False))
    row = engine.row(invocation)
    assert row.status is Status.BACKING_OFF
    assert (row.retry_count, row.stale_retry_count) == (1, 0)


def test_refusals_use_up_attempts() -> None:
    engine = Harness()
    engine.serve("S", "h", retry=RetrySchedule(1, 1.0, 1, 1))
    invocation = engine.invoke("S", "h")
    engine.apply(AttemptLost(invocation, 1, 1, "404", 404, is_refused=True))
    assert engine.status(invocation) is Status.PAUSED


def test_a_full_journal_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_handler_sent, "JOURNAL_LENGTH_MAX", 3)
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1), Run(2), Run(3))
    row = engine.row(invocation)
    assert row.status is Status.PAUSED
    assert row.last_failure is not None
    assert "HF2012" in row.last_failure.message
    assert row.journal_length == 3


def test_a_new_leader_restarts_what_was_running_and_hears_no_old_attempt() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.epoch = 2
    engine.apply(AttemptResumed(invocation))
    assert engine.row(invocation).attempt == 2
    engine.apply(HandlerSent(invocation, 1, 1, DEPLOYMENT, DONE))
    assert engine.status(invocation) is Status.RUNNING


def test_a_delayed_invocation_waits_for_its_time() -> None:
    engine = Harness()
    invocation = engine.invoke(execute_at_ms=NOW_MS + 500)
    assert engine.status(invocation) is Status.SCHEDULED
    assert not engine.acted(StartAttempt)
    engine.apply(TimerFired(NOW_MS + 500, invocation, "start"), at_ms=NOW_MS + 500)
    assert engine.status(invocation) is Status.RUNNING


def test_one_exclusive_invocation_per_key_in_order_of_arrival() -> None:
    engine = Harness()
    ids = [engine.invoke("Counter", "add", "k") for _ in range(4)]
    other = engine.invoke("Counter", "add", "other")
    assert engine.status(other) is Status.RUNNING
    for position, invocation in enumerate(ids):
        assert engine.status(invocation) is Status.RUNNING
        assert all(engine.status(i) is Status.PENDING for i in ids[position + 1 :])
        engine.sent(invocation, *DONE)
    assert (Table.LOCK, "Counter", "k") not in engine.rows
    assert not [k for k in engine.rows if k[0] is Table.INBOX]


def test_the_key_is_held_while_suspended_and_backing_off() -> None:
    engine = Harness()
    first, second = (engine.invoke("Counter", "add", "k") for _ in range(2))
    engine.sent(first, Suspension((), (1, 17)))
    assert engine.status(second) is Status.PENDING
    engine.apply(SignalSent(first, Signal(Value(), index=17)))
    engine.sent(first, Error(500, "boom"))
    assert engine.status(second) is Status.PENDING


def test_shared_handlers_do_not_wait_for_the_key() -> None:
    engine = Harness()
    engine.serve("Counter", "get", HandlerKind.SHARED)
    engine.invoke("Counter", "add", "k")
    assert engine.status(engine.invoke("Counter", "get", "k")) is Status.RUNNING


@pytest.mark.parametrize("record", [KillRequested, lambda i: SignalSent(i, CANCEL)])
def test_a_waiting_one_that_is_ended_leaves_the_queue(record) -> None:
    engine = Harness()
    first, second, third = (engine.invoke("Counter", "add", "k") for _ in range(3))
    engine.apply(record(second))
    assert engine.status(second) is Status.COMPLETED
    assert engine.row(second).has_failed
    engine.sent(first, *DONE)
    assert engine.status(third) is Status.RUNNING


def test_waiters_that_leave_at_the_ends_leave_no_gap() -> None:
    engine = Harness()
    first, second, third, fourth = (engine.invoke("Counter", "add", "k") for _ in range(4))
    engine.apply(KillRequested(second))
    engine.apply(KillRequested(fourth))
    lock = engine.rows[Table.LOCK, "Counter", "k"]
    assert (lock.head, lock.tail) == (1, 2)
    engine.sent(first, *DONE)
    assert engine.status(third) is Status.RUNNING
    engine.sent(third, *DONE)
    assert (Table.LOCK, "Counter", "k") not in engine.rows


def test_kill_ends_now_and_frees_the_key() -> None:
    engine = Harness()
    first, second = (engine.invoke("Counter", "add", "k") for _ in range(2))
    engine.apply(KillRequested(first))
    assert engine.acted(EndAttempt) == [EndAttempt(first, 1, True)]
    assert Respond(first, Failure(409, "killed")) in engine.actions
    assert engine.status(second) is Status.RUNNING
    engine.apply(KillRequested(first))
    assert engine.answer is not None
    assert engine.answer.reply is Reply.ALREADY_COMPLETED


def test_kill_removes_timers() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(NOW_MS + 5, 1), Sleep(NOW_MS + 6, 2))
    assert len(engine.timers()) == 2
    engine.apply(KillRequested(invocation))
    assert engine.timers() == []


def test_cancel_wakes_a_paused_invocation() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Error(500, "stop", behavior=1))
    engine.apply(SignalSent(invocation, CANCEL))
    assert engine.status(invocation) is Status.RUNNING


def test_unknown_and_completed_invocations_say_so() -> None:
    engine = Harness()
    unknown = engine.new_id("S", None)
    for record in (KillRequested(unknown), SignalSent(unknown, CANCEL)):
        engine.apply(record)
        assert engine.answer is not None
        assert engine.answer.reply is Reply.NOT_FOUND
    invocation = engine.invoke()
    engine.sent(invocation, *DONE)
    length = len(engine.journal(invocation))
    engine.apply(SignalSent(invocation, CANCEL))
    assert engine.answer.reply is Reply.ALREADY_COMPLETED
    assert len(engine.journal(invocation)) == length


def test_retention_removes_a_completed_invocation_and_nothing_else() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(Expired(invocation))
    assert engine.status(invocation) is Status.RUNNING
    engine.sent(invocation, *DONE)
    engine.apply(Expired(invocation), at_ms=NOW_MS + 999)
    assert engine.status(invocation) is Status.COMPLETED
    engine.apply(Expired(invocation), at_ms=NOW_MS + 1000)
    assert (Table.INVOCATION, invocation) not in engine.rows
    assert engine.journal(invocation) == []


def test_the_same_id_twice_is_one_invocation() -> None:
    engine = Harness()
    invocation = engine.invoke(idempotency_key="a")
    engine.invoke(invocation_id=invocation, idempotency_key="a")
    assert engine.answer is not None
    assert engine.answer.reply is Reply.PREVIOUSLY_ACCEPTED
    assert len(engine.journal(invocation)) == 1


def test_an_invocation_that_is_made_again_in_the_batch_of_its_removal_has_no_past() -> None:
    for last, status in (
        (Suspension((2,)), Status.SUSPENDED),
        (None, Status.COMPLETED),
    ):
        engine = Harness()
        invocation = engine.invoke(idempotency_key="k")
        target, kind = Target("Greeter", "greet"), HandlerKind.PLAIN
        again = Invoke(invocation, target, ServiceKind.SERVICE, kind, b"2", idempotency_key="k")
        call = OneWayCall("Greeter", "greet", b"2", None, (), None, NOW_MS * 2, 1)
        engine.sent(invocation, call, Sleep(NOW_MS, 2), *DONE)
        (child,) = {key[1] for key in engine.rows if key[0] is Table.INVOCATION} - {invocation}
        end: Record = KillRequested(invocation)
        if last is not None:
            messages = (Sleep(NOW_MS * 2, 2), last)
            end = HandlerSent(invocation, 1, 1, DEPLOYMENT, messages)
        engine.apply_together(PurgeRequested(invocation), again, end)
        assert engine.status(invocation) is status
        assert engine.status(child) is Status.SCHEDULED


def test_what_an_earlier_invocation_of_the_same_id_says_is_not_heard() -> None:
    engine = Harness()
    invocation = engine.invoke(idempotency_key="k")
    target, kind = Target("Greeter", "greet"), HandlerKind.PLAIN
    again = Invoke(invocation, target, ServiceKind.SERVICE, kind, b"2", idempotency_key="k")
    sent = HandlerSent(invocation, 1, 1, DEPLOYMENT, (Run(1),), NOW_MS)
    lost = AttemptLost(invocation, 1, 1, "gone", created_at_ms=NOW_MS)
    removal = KillRequested(invocation), PurgeRequested(invocation), again
    engine.apply_together(*removal, sent, lost, at_ms=NOW_MS + 1)
    assert engine.journal(invocation) == [Input(Value(b"2"))]
    assert engine.row(invocation).attempt == 1
    engine.sent(invocation, Run(1))
    assert len(engine.journal(invocation)) == 2
