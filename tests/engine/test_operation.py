"""What a person does: pause, resume, restart and purge."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    KIND_RUN,
    TIME_MS_MAX,
    AttachInvocation,
    Call,
    ChildId,
    Completion,
    End,
    Entry,
    Error,
    Failure,
    GetInvocationOutput,
    Input,
    Output,
    ProposeRunCompletion,
    Run,
    Signal,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.engine import on_operation
from holdfast.engine.decision import EndAttempt, Forward, Reply, Respond, StartAttempt
from holdfast.engine.record import (
    AttachRequested,
    AttemptResumed,
    Expired,
    HandlerSent,
    KillRequested,
    PauseRequested,
    PurgeRequested,
    RestartRequested,
    ResumeRequested,
    SignalSent,
    TimerFired,
)
from holdfast.engine.row import SLOT_RETRY, SLOT_START, Origin, OriginKind, Sink, Status, Table
from tests.engine.harness import DEPLOYMENT, NOW_MS, Harness

DONE = (Output(Value(b'"ok"')), End())
CANCEL = Signal(Void(), index=1)
KIND_SLEEP = 0x800C


def call(number: int = 1, child: str = "Child") -> Call:
    return Call(child, "run", b"1", None, (), None, number, number + 1)


def replied(engine: Harness) -> tuple[Reply, Status | None]:
    assert engine.answer is not None
    return engine.answer.reply, engine.answer.status


def suspended(engine: Harness) -> str:
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(NOW_MS + 500, 1))
    engine.sent(invocation, Suspension((1,), (1,)))
    assert engine.status(invocation) is Status.SUSPENDED
    return invocation


def backing_off(engine: Harness) -> str:
    invocation = engine.invoke()
    engine.sent(invocation, Error(500, "no"))
    assert engine.status(invocation) is Status.BACKING_OFF
    return invocation


def running(engine: Harness) -> str:
    return engine.invoke()


def paused(engine: Harness) -> str:
    invocation = engine.invoke()
    engine.apply(PauseRequested(invocation))
    return invocation


def scheduled(engine: Harness) -> str:
    return engine.invoke(execute_at_ms=NOW_MS + 1000)


def pending(engine: Harness) -> str:
    engine.invoke("Box", "put", "k")
    return engine.invoke("Box", "put", "k")


def completed(engine: Harness) -> str:
    invocation = engine.invoke()
    engine.sent(invocation, *DONE)
    return invocation


OPEN = {
    Status.RUNNING: running,
    Status.SUSPENDED: suspended,
    Status.BACKING_OFF: backing_off,
    Status.PAUSED: paused,
    Status.SCHEDULED: scheduled,
    Status.PENDING: pending,
}
MAKE = OPEN | {Status.COMPLETED: completed}


@pytest.mark.parametrize(
    ("record", "allowed"),
    [
        (PauseRequested, (Status.RUNNING, Status.SUSPENDED, Status.BACKING_OFF)),
        (ResumeRequested, (Status.PAUSED, Status.SUSPENDED, Status.BACKING_OFF)),
        (PurgeRequested, (Status.COMPLETED,)),
    ],
)
@pytest.mark.parametrize("status", list(MAKE))
def test_the_status_decides(record: type, allowed: tuple[Status, ...], status: Status) -> None:
    engine = Harness()
    invocation = MAKE[status](engine)
    assert engine.status(invocation) is status
    rows = dict(engine.rows)
    engine.apply(record(invocation))
    if status in allowed:
        assert replied(engine) == (Reply.ACCEPTED, status)
        return
    if record is PauseRequested and status is Status.PAUSED:
        expected = Reply.IGNORED
    elif status is Status.COMPLETED:
        expected = Reply.ALREADY_COMPLETED
    else:
        expected = Reply.CONFLICT
    assert replied(engine) == (expected, status)
    assert (engine.rows, engine.actions) == (rows, [])


@pytest.mark.parametrize("record", [PauseRequested, ResumeRequested, PurgeRequested])
def test_unknown_ones_are_not_found(record: type) -> None:
    engine = Harness()
    engine.apply(record(engine.new_id("Greeter", None)))
    assert replied(engine) == (Reply.NOT_FOUND, None)


# -- pause and resume ------------------------------------------------------------------------------


def test_a_pause_ends_the_attempt_and_what_it_says_later_is_not_heard() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1))
    engine.apply(PauseRequested(invocation))
    assert engine.actions == [EndAttempt(invocation, 1, True)]
    late = HandlerSent(invocation, 1, 1, DEPLOYMENT, (ProposeRunCompletion(1, Value(b"1")),))
    engine.apply(late)
    assert replied(engine) == (Reply.IGNORED, None)
    assert len(engine.journal(invocation)) == 2
    # A new leader does not start it again.
    engine.epoch = 2
    assert engine.apply(AttemptResumed(invocation)) == []
    engine.apply(ResumeRequested(invocation))
    (start,) = engine.acted(StartAttempt)
    assert (start.row.attempt, start.row.journal_length, start.row.open_runs) == (2, 2, (1,))


def test_what_arrives_while_it_is_paused_is_stored_and_does_not_resume_it() -> None:
    engine = Harness()
    invocation = suspended(engine)
    engine.apply(PauseRequested(invocation))
    engine.apply(TimerFired(NOW_MS + 500, invocation, "c1"), at_ms=NOW_MS + 500)
    engine.apply(SignalSent(invocation, Signal(Value(b"1"), index=17)))
    assert engine.actions == []
    assert engine.status(invocation) is Status.PAUSED
    kinds = [type(entry) for entry in engine.journal(invocation)]
    assert kinds == [Input, Sleep, Completion, Signal]
    engine.apply(ResumeRequested(invocation))
    assert engine.status(invocation) is Status.RUNNING


def test_a_cancel_resumes_a_paused_one() -> None:
    engine = Harness()
    invocation = paused(engine)
    engine.apply(SignalSent(invocation, CANCEL))
    assert engine.status(invocation) is Status.RUNNING


def test_the_retry_of_a_paused_one_does_not_fire() -> None:
    engine = Harness()
    invocation = backing_off(engine)
    ((at_ms, _, slot),) = engine.timers()
    assert slot == SLOT_RETRY
    engine.apply(PauseRequested(invocation))
    assert (engine.timers(), engine.row(invocation).timer_count) == ([], 0)
    assert engine.apply(TimerFired(at_ms, invocation, slot), at_ms=at_ms) == []
    assert engine.status(invocation) is Status.PAUSED


@pytest.mark.parametrize("make", [backing_off, paused, suspended])
def test_resume_starts_with_fresh_counters_and_leaves_no_timer_of_a_retry(
    make: Callable[[Harness], str],
) -> None:
    engine = Harness()
    invocation = make(engine)
    engine.apply(ResumeRequested(invocation))
    row = engine.row(invocation)
    assert (row.status, row.retry_count, row.stale_retry_count) == (Status.RUNNING, 0, 0)
    assert row.step_failures == ()
    assert not [timer for timer in engine.timers() if timer[2] == SLOT_RETRY]
    assert len(engine.acted(StartAttempt)) == 1
    engine.apply(ResumeRequested(invocation))
    assert replied(engine) == (Reply.CONFLICT, Status.RUNNING)


def test_resume_pins_to_another_deployment() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1))
    engine.apply(PauseRequested(invocation))
    engine.apply(ResumeRequested(invocation))
    assert engine.row(invocation).deployment_id == DEPLOYMENT
    engine.apply(PauseRequested(invocation))
    engine.apply(ResumeRequested(invocation, "dp_other"))
    assert engine.row(invocation).deployment_id == "dp_other"


def test_a_paused_one_keeps_its_key() -> None:
    engine = Harness()
    first = engine.invoke("Box", "put", "k")
    second = engine.invoke("Box", "put", "k")
    engine.apply(PauseRequested(first))
    assert engine.status(second) is Status.PENDING
    engine.apply(ResumeRequested(first))
    engine.sent(first, *DONE)
    assert engine.status(second) is Status.RUNNING


# -- purge -----------------------------------------------------------------------------------------


def test_purge_leaves_nothing() -> None:
    engine = Harness()
    invocation = completed(engine)
    engine.apply(PurgeRequested(invocation))
    assert (engine.rows, engine.journals) == ({}, {})
    engine.apply(PurgeRequested(invocation))
    assert replied(engine) == (Reply.NOT_FOUND, None)


def test_purge_journal_keeps_the_outcome_and_its_retention() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Run(1), ProposeRunCompletion(1, Value(b"1")), *DONE)
    before = engine.row(invocation).expires_at_ms
    engine.apply(PurgeRequested(invocation, is_journal_only=True))
    assert engine.journal(invocation) == [Output(Value(b'"ok"'))]
    row = engine.row(invocation)
    assert (row.status, row.journal_length, row.output_index) == (Status.COMPLETED, 1, 0)
    assert row.expires_at_ms == before
    # Who attaches now still gets it.
    waiting = engine.invoke()
    engine.sent(waiting, AttachInvocation(invocation, 1))
    assert engine.journal(waiting)[-1].result == Value(b'"ok"')  # type: ignore[union-attr]
    engine.apply(PurgeRequested(invocation, is_journal_only=True))
    assert replied(engine) == (Reply.IGNORED, Status.COMPLETED)
    engine.apply(Expired(invocation), at_ms=before)
    assert invocation not in engine.journals


# -- restart ---------------------------------------------------------------------------------------


def restart(engine: Harness, source: str, from_index: int = 0, **fields: str) -> str:
    target = engine.row(source).target
    new_id = engine.new_id(target.service, target.key)
    engine.apply(RestartRequested(source, new_id, from_index, **fields))
    return new_id


def test_restart_makes_a_new_one_with_the_same_input() -> None:
    engine = Harness()
    source = engine.invoke(headers=(("a", "b"),), idempotency_key="k")
    engine.sent(source, *DONE)
    new = restart(engine, source)
    assert replied(engine) == (Reply.ACCEPTED, Status.RUNNING)
    row = engine.row(new)
    assert engine.journal(new) == [Input(Value(b"1"), (("a", "b"),))]
    assert row.origin == Origin(OriginKind.RESTART, source, "Greeter/greet")
    assert (row.idempotency_key, row.deployment_id, row.restarted) == (None, None, None)
    assert row.retention_ms == engine.row(source).retention_ms
    (start,) = engine.acted(StartAttempt)
    # Unlike a client's, it may not start before its commit: nobody would ask for it again.
    assert start.entries is None
    engine.apply(RestartRequested(source, new))
    assert replied(engine) == (Reply.PREVIOUSLY_ACCEPTED, Status.RUNNING)
    assert engine.actions == []


@pytest.mark.parametrize("status", list(OPEN))
def test_restart_is_for_completed_ones(status: Status) -> None:
    engine = Harness()
    source = OPEN[status](engine)
    new = restart(engine, source)
    assert replied(engine) == (Reply.CONFLICT, status)
    assert (Table.INVOCATION, new) not in engine.rows


def test_restart_refuses_workflows_purged_journals_and_unknown_ones() -> None:
    engine = Harness()
    engine.serve_workflow()
    flow = engine.invoke("Signup", "run", "k")
    engine.sent(flow, *DONE)
    restart(engine, flow)
    assert replied(engine) == (Reply.UNSUPPORTED, Status.COMPLETED)
    source = completed(engine)
    engine.apply(PurgeRequested(source, is_journal_only=True))
    restart(engine, source)
    assert replied(engine) == (Reply.GONE, Status.COMPLETED)
    unknown = engine.new_id("Greeter", None)
    engine.apply(RestartRequested(unknown, engine.new_id("Greeter", None)))
    assert replied(engine) == (Reply.NOT_FOUND, None)


def test_restart_of_an_exclusive_one_waits_for_the_key() -> None:
    engine = Harness()
    source = engine.invoke("Box", "put", "k")
    engine.sent(source, *DONE)
    holder = engine.invoke("Box", "put", "k")
    new = restart(engine, source)
    assert replied(engine) == (Reply.ACCEPTED, Status.PENDING)
    engine.sent(holder, *DONE)
    assert engine.status(new) is Status.RUNNING


def parallel(engine: Harness) -> tuple[str, list[Entry]]:
    """Two steps side by side, the second ready first; then a third, and the end."""
    source = engine.invoke()
    engine.sent(source, Run(1, "a"), Run(2, "b"))
    engine.sent(source, ProposeRunCompletion(2, Value(b"2")))
    engine.sent(source, Run(3, "c"))
    engine.apply(SignalSent(source, Signal(Value(b"9"), index=17)))
    engine.sent(source, ProposeRunCompletion(1, Value(b"1")))
    engine.sent(source, ProposeRunCompletion(3, Value(b"3")), *DONE)
    return source, engine.journal(source)


def test_restart_from_an_entry_keeps_the_later_results_of_its_commands() -> None:
    engine = Harness()
    source, journal = parallel(engine)
    entry, a, b, b_done, c, _, a_done, *_ = journal
    for from_index, expected in {
        1: [entry, a, a_done],
        2: [entry, a, b, b_done, a_done],
        3: [entry, a, b, b_done, a_done],
        4: [entry, a, b, b_done, c, a_done, journal[7]],
        5: [*journal[:6], a_done, journal[7]],
    }.items():
        new = restart(engine, source, from_index)
        assert replied(engine) == (Reply.ACCEPTED, Status.RUNNING)
        assert engine.journal(new) == expected, from_index
        row = engine.row(new)
        assert row.journal_length == row.attempt_base == len(expected)
        assert row.restarted is not None
        assert row.restarted.entry_count == len(expected)
        assert row.restarted.random_seed == random_seed(source)


@pytest.mark.parametrize("from_index", [-1, 8, 9, 99])
def test_the_last_entry_must_be_there_and_before_the_output(from_index: int) -> None:
    engine = Harness()
    source, journal = parallel(engine)
    assert isinstance(journal[8], Output)
    if from_index == 8:
        restart(engine, source, 7)
        assert replied(engine)[0] is Reply.ACCEPTED
    restart(engine, source, from_index)
    assert replied(engine) == (Reply.OUT_OF_RANGE, Status.COMPLETED)


def test_a_journal_that_is_too_long_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_operation, "RESTART_LENGTH_MAX", 8)
    engine = Harness()
    source, _ = parallel(engine)
    restart(engine, source, 1)
    assert replied(engine) == (Reply.OUT_OF_RANGE, Status.COMPLETED)
    restart(engine, source)
    assert replied(engine)[0] is Reply.ACCEPTED


def killed(engine: Harness, *commands: Entry) -> str:
    """Return one that was killed before its commands had results."""
    source = engine.invoke()
    engine.sent(source, *commands)  # type: ignore[arg-type]
    engine.apply(KillRequested(source))
    return source


def test_open_steps_run_again() -> None:
    engine = Harness()
    source = killed(engine, Run(1), Run(2))
    new = restart(engine, source, 2)
    assert engine.row(new).open_runs == (1, 2)
    engine.sent(new, ProposeRunCompletion(2, Value(b"2")))
    assert engine.journal(new)[-1] == Completion(KIND_RUN, 2, Value(b"2"), NOW_MS)


def test_open_sleeps_go_on_and_those_that_are_due_are_over() -> None:
    engine = Harness()
    source = killed(engine, Sleep(NOW_MS + 500, 1), Sleep(NOW_MS + 900, 2))
    engine.now_ms = NOW_MS + 600
    new = restart(engine, source, 2)
    assert engine.journal(new)[-1] == Completion(KIND_SLEEP, 1, Void(), NOW_MS + 600)
    assert engine.timers() == [(NOW_MS + 900, new, "c2")]
    engine.apply(TimerFired(NOW_MS + 900, new, "c2"), at_ms=NOW_MS + 900)
    assert len(engine.acted(Forward)) == 1


def test_an_open_sleep_beyond_all_time_goes_on_until_its_end() -> None:
    engine = Harness()
    source = killed(engine, Sleep(2 * TIME_MS_MAX, 1))
    new = restart(engine, source, 1)
    assert engine.timers() == [(TIME_MS_MAX, new, "c1")]


def test_the_result_of_an_open_call_reaches_the_new_one() -> None:
    engine = Harness()
    engine.serve("Child", "run")
    source = engine.invoke()
    engine.sent(source, call())
    (child,) = [
        entry.result.invocation_id
        for entry in engine.journal(source)
        if isinstance(entry, Completion) and isinstance(entry.result, ChildId)
    ]
    # It ends without waiting for its call.
    engine.sent(source, *DONE)
    new = restart(engine, source, 1)
    assert engine.journal(new)[2] == Completion(KIND_CHILD_ID, 1, ChildId(child), NOW_MS)
    engine.sent(child, Output(Value(b"7")), End())
    assert engine.journal(new)[-1] == Completion(KIND_CALL, 2, Value(b"7"), NOW_MS)


def test_an_open_call_of_a_killed_one_has_been_killed_too() -> None:
    engine = Harness()
    engine.serve("Child", "run")
    source = killed(engine, call())
    new = restart(engine, source, 1)
    assert engine.journal(new)[-1] == Completion(KIND_CALL, 2, Failure(409, "killed"), NOW_MS)


def test_open_attachments_are_made_again() -> None:
    engine = Harness()
    other = engine.invoke()
    source = killed(engine, AttachInvocation(other, 1))
    new = restart(engine, source, 1)
    row = engine.row(new)
    assert Sink(new, 1, 0x800E + 4, row.created_at_ms) in engine.row(other).sinks
    engine.sent(other, *DONE)
    assert engine.journal(new)[-1].result == Value(b'"ok"')  # type: ignore[union-attr]
    # A question is answered with its command, unless the answer was on its way.
    engine.partition_count = 1 << 20
    asked = engine.invoke()
    engine.sent(asked, GetInvocationOutput(other, 1))
    engine.apply(KillRequested(asked))
    engine.partition_count = 1
    new = restart(engine, asked, 1)
    assert engine.journal(new)[-1].result == Value(b'"ok"')  # type: ignore[union-attr]


def test_a_restart_of_a_restart_sees_what_the_first_one_saw() -> None:
    engine = Harness()
    source, _ = parallel(engine)
    engine.now_ms += 1000
    second = restart(engine, source, 2)
    engine.apply(KillRequested(second))
    engine.now_ms += 1000
    third = restart(engine, second, 2)
    restarted = engine.row(third).restarted
    assert restarted is not None
    assert (restarted.random_seed, restarted.began_at_ms) == (random_seed(source), NOW_MS)
    assert engine.row(third).origin.invocation_id == second
    fresh = restart(engine, second)
    assert engine.row(fresh).restarted is None


def test_a_restart_of_a_delayed_one_begins_at_the_time_that_was_due() -> None:
    engine = Harness()
    due_at_ms = NOW_MS + 60_000
    source = engine.invoke(execute_at_ms=due_at_ms)
    engine.now_ms = due_at_ms
    engine.apply(TimerFired(due_at_ms, source, SLOT_START))
    engine.sent(source, Run(1, "step"))
    engine.apply(KillRequested(source))
    restarted = engine.row(restart(engine, source, 1)).restarted
    assert restarted is not None
    assert restarted.began_at_ms == due_at_ms


def test_a_cancel_in_the_kept_part_is_not_news() -> None:
    engine = Harness()
    source = engine.invoke()
    engine.sent(source, Run(1))
    engine.apply(SignalSent(source, CANCEL))
    engine.sent(source, Run(2, "undo"))
    engine.apply(KillRequested(source))
    new = restart(engine, source, 3)
    assert engine.row(new).cancel_index == 2
    engine.sent(new, Suspension((1,), (1,)))
    assert engine.status(new) is Status.SUSPENDED


def test_a_cancel_of_a_waiting_one_with_a_past_is_told_to_its_handler() -> None:
    engine = Harness()
    source = engine.invoke("Box", "put", "k")
    engine.sent(source, Run(1, "charge"), ProposeRunCompletion(1, Value(b"1")), *DONE)
    holder = engine.invoke("Box", "put", "k")
    new = restart(engine, source, 2)
    engine.apply(SignalSent(new, CANCEL))
    assert engine.status(new) is Status.PENDING
    engine.sent(holder, *DONE)
    assert engine.status(new) is Status.RUNNING
    assert engine.journal(new)[-1].index == 1  # type: ignore[union-attr]


def test_a_killed_restart_takes_the_calls_of_its_past_along() -> None:
    engine = Harness()
    engine.serve("Child", "run")
    source = engine.invoke()
    engine.sent(source, call(), *DONE)
    new = restart(engine, source, 1)
    engine.apply(KillRequested(new))
    assert [action.outcome for action in engine.acted(Respond)] == [Failure(409, "killed")] * 2


def test_attach_to_a_purged_one_is_answered() -> None:
    engine = Harness()
    source = completed(engine)
    engine.apply(PurgeRequested(source))
    waiting = engine.invoke()
    engine.sent(waiting, AttachInvocation(source, 1))
    sink = Sink(waiting, 1, 0, engine.row(waiting).created_at_ms)
    engine.apply(AttachRequested(source, sink, is_waiting=True))
    assert engine.journal(waiting)[-1].result.code == 404  # type: ignore[union-attr]
