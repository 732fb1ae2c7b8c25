"""Workflows: one main invocation per key, and promises that are completed once."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.identity import workflow_id
from holdfast.domain.message import (
    KIND_CALL,
    SIGNAL_CANCEL,
    Call,
    ChildId,
    CompletePromise,
    Completion,
    End,
    Failure,
    GetPromise,
    OneWayCall,
    Outcome,
    Output,
    PeekPromise,
    Result,
    SendSignal,
    SetState,
    Suspension,
    Value,
    Void,
)
from holdfast.engine import command as command_module
from holdfast.engine import promise as promise_module
from holdfast.engine.decision import Answer, Forward, RegisterTimer, Reply, StartAttempt
from holdfast.engine.limit import PROMISE_RETENTION_MS
from holdfast.engine.promise import PROMISE_COMPLETED
from holdfast.engine.record import (
    INVOKED,
    Expired,
    KillRequested,
    PurgeRequested,
    TimerFired,
)
from holdfast.engine.row import (
    SLOT_ABORT,
    SLOT_RETRY,
    SLOT_START,
    SLOT_TIMEOUT,
    PromiseRow,
    Sink,
    Status,
    Table,
    promises_of_slot,
    slot_of_completion,
    slot_of_promises,
)
from tests.engine.harness import NOW_MS, Harness

MAIN = workflow_id("Signup", "ann")
KIND_GET, KIND_PEEK, KIND_COMPLETE = 0x8009, 0x800A, 0x800B
YES = Value(b"yes")
KEPT_MS = NOW_MS + PROMISE_RETENTION_MS
"""How long a promise stays that is completed without a main invocation."""
DONE = (Output(Value(b"1")), End())


def signup() -> Harness:
    engine = Harness()
    engine.serve_workflow()
    return engine


def invoke(engine: Harness, handler: str = "wait", **fields: Any) -> str:
    return engine.invoke("Signup", handler, "ann", **fields)


def run(engine: Harness) -> str:
    return invoke(engine, "run", invocation_id=MAIN)


def promise(engine: Harness, name: str = "p") -> PromiseRow | None:
    return engine.rows.get((Table.PROMISE, "Signup", "ann", name))


def last_result(engine: Harness, invocation_id: str) -> Result:
    entry = engine.journal(invocation_id)[-1]
    assert isinstance(entry, Completion)
    return entry.result


def complete(engine: Harness, outcome: Outcome = YES) -> Result:
    invocation_id = invoke(engine, "confirm")
    engine.sent(invocation_id, CompletePromise("p", outcome, 1))
    actions = engine.actions
    result = last_result(engine, invocation_id)
    engine.sent(invocation_id, *DONE)
    engine.actions = actions
    return result


# -- promises --------------------------------------------------------------------------------------


def test_a_promise_that_is_complete_answers_at_once() -> None:
    engine = signup()
    assert complete(engine) == Void()
    waiter = run(engine)
    engine.sent(waiter, GetPromise("p", 1), PeekPromise("p", 2))
    assert engine.journal(waiter)[2] == Completion(KIND_GET, 1, YES, NOW_MS)
    assert engine.journal(waiter)[4] == Completion(KIND_PEEK, 2, YES, NOW_MS)
    assert promise(engine) == PromiseRow(YES, (), KEPT_MS)


def test_a_completion_resumes_everybody_who_waits() -> None:
    engine = signup()
    suspended, running, other = run(engine), invoke(engine), invoke(engine)
    for waiter in (suspended, running):
        engine.sent(waiter, GetPromise("p", 1))
    engine.sent(other, GetPromise("q", 1))
    engine.sent(suspended, Suspension((1,), (1,)))
    engine.sent(other, Suspension((1,), (1,)))
    assert promise(engine) == PromiseRow(
        None, (Sink(suspended, 1, KIND_GET, NOW_MS), Sink(running, 1, KIND_GET, NOW_MS))
    )
    complete(engine, Failure(418, "no"))
    result = Completion(KIND_GET, 1, Failure(418, "no"), NOW_MS)
    assert [action.row.id for action in engine.acted(StartAttempt)] == [suspended]
    assert Forward(running, 1, result) in engine.actions
    assert engine.journal(suspended)[-1] == engine.journal(running)[-1] == result
    assert engine.status(other) is Status.SUSPENDED
    assert promise(engine) == PromiseRow(Failure(418, "no"))


def test_the_first_completion_counts() -> None:
    engine = signup()
    assert complete(engine, Failure(500, "first")) == Void()
    assert complete(engine) == PROMISE_COMPLETED
    assert promise(engine) == PromiseRow(Failure(500, "first"), (), KEPT_MS)


def test_peeking_does_not_wait_and_writes_nothing() -> None:
    engine = signup()
    invocation_id = invoke(engine)
    engine.sent(invocation_id, PeekPromise("p", 1))
    assert last_result(engine, invocation_id) == Void()
    assert promise(engine) is None


def test_an_invocation_may_complete_what_it_waits_for() -> None:
    engine = signup()
    main = run(engine)
    engine.sent(
        main, GetPromise("p", 1), CompletePromise("p", Value(b"1"), 2), Suspension((1,), (1,))
    )
    assert engine.status(main) is Status.RUNNING
    assert engine.journal(main)[-1] == Completion(KIND_GET, 1, Value(b"1"), NOW_MS)


def test_promises_of_other_keys_and_workflows_are_other_promises() -> None:
    engine = signup()
    engine.serve_workflow("Order")
    ids = [
        invoke(engine),
        engine.invoke("Signup", "wait", "bob"),
        engine.invoke("Order", "wait", "ann"),
    ]
    for invocation_id in ids:
        engine.sent(invocation_id, GetPromise("p", 1))
    complete(engine)
    assert [len(engine.journal(i)) for i in ids] == [3, 2, 2]


def test_who_ends_waits_no_longer() -> None:
    engine = signup()
    first, second = invoke(engine), invoke(engine)
    for waiter in (first, second):
        engine.sent(waiter, GetPromise("p", 1), GetPromise("q", 2))
    engine.apply(KillRequested(first))
    assert promise(engine) == PromiseRow(None, (Sink(second, 1, KIND_GET, NOW_MS),))
    engine.sent(second, *DONE)
    assert promise(engine) is promise(engine, "q") is None


def test_an_outcome_outlives_who_waited_for_it() -> None:
    engine = signup()
    waiter = invoke(engine)
    engine.sent(waiter, GetPromise("p", 1), CompletePromise("p", Value(b"1"), 2), *DONE)
    assert engine.status(waiter) is Status.COMPLETED
    assert promise(engine) == PromiseRow(Value(b"1"), (), KEPT_MS)


def test_a_crowd_before_one_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (promise_module, command_module):
        monkeypatch.setattr(module, "PROMISE_WAITERS_MAX", 2)
    engine = signup()
    ids = [invoke(engine) for _ in range(3)]
    for invocation_id in ids:
        engine.sent(invocation_id, PeekPromise("p", 1), GetPromise("p", 2))
    failure = engine.row(ids[2]).last_failure
    assert failure is not None
    assert (failure.code, failure.message[-8:]) == (429, "[HF2025]")
    assert engine.status(ids[2]) is Status.BACKING_OFF
    assert len(engine.journal(ids[2])) == 3
    complete(engine)
    assert [len(engine.journal(i)) for i in ids] == [5, 5, 3]


def test_only_workflows_have_promises() -> None:
    for command in (GetPromise("p", 1), PeekPromise("p", 1), CompletePromise("p", Value(), 1)):
        engine = Harness()
        for invocation_id in (engine.invoke(), engine.invoke("Cart", "add", "k")):
            engine.sent(invocation_id, command)
            failure = engine.row(invocation_id).last_failure
            assert failure is not None
            assert failure.message.endswith("[HF2021]")
            assert len(engine.journal(invocation_id)) == 1


# -- one main invocation per key -------------------------------------------------------------------


def test_the_main_handler_does_not_wait_and_others_run_beside_it() -> None:
    engine = signup()
    shared = invoke(engine)
    assert engine.status(run(engine)) is Status.RUNNING
    assert engine.status(shared) is Status.RUNNING
    assert not [key for key in engine.rows if key[0] is Table.LOCK]


def test_a_second_request_finds_the_first() -> None:
    engine = signup()
    run(engine)
    run(engine)
    assert engine.answer == Answer(Reply.PREVIOUSLY_ACCEPTED, Status.RUNNING)
    assert len(engine.journal(MAIN)) == 1
    engine.sent(MAIN, *DONE)
    run(engine)
    assert engine.answer == Answer(Reply.PREVIOUSLY_ACCEPTED, Status.COMPLETED)


def test_the_second_call_of_a_handler_fails_and_the_second_send_is_accepted() -> None:
    engine = signup()
    caller = engine.invoke("Caller", "go")
    for number in (1, 3):
        engine.sent(caller, Call("Signup", "run", b"2", "ann", (), None, number, number + 1))
    assert engine.row(MAIN).origin.invocation_id == caller
    assert engine.row(MAIN).retention_ms == 5000
    assert engine.journal(caller)[-2].result == ChildId(MAIN)  # type: ignore[union-attr]
    assert engine.journal(caller)[-1] == Completion(KIND_CALL, 4, INVOKED, NOW_MS)
    engine.sent(caller, OneWayCall("Signup", "run", b"2", "ann", (), None, 0, 5))
    assert last_result(engine, caller) == ChildId(MAIN)
    engine.sent(MAIN, *DONE)
    assert engine.journal(caller)[-1] == Completion(KIND_CALL, 2, Value(b"1"), NOW_MS)


def test_an_idempotency_key_on_the_main_handler_fails_the_attempt() -> None:
    engine = signup()
    caller = engine.invoke("Caller", "go")
    engine.sent(caller, Call("Signup", "run", b"2", "ann", (), "key", 1, 2))
    failure = engine.row(caller).last_failure
    assert failure is not None
    assert failure.message.endswith("[HF2024]")


def test_only_the_main_handler_writes_state() -> None:
    engine = signup()
    shared = invoke(engine)
    engine.sent(shared, SetState("n", Value(b"1")))
    failure = engine.row(shared).last_failure
    assert failure is not None
    assert "HF2017" in failure.message
    engine.sent(run(engine), SetState("n", Value(b"2")))
    assert engine.state("Signup", "ann") == {"n": b"2"}


# -- retention -------------------------------------------------------------------------------------


def test_what_belongs_to_a_workflow_goes_together() -> None:
    engine = signup()
    engine.sent(run(engine), SetState("n", Value(b"2")), CompletePromise("p", Value(), 1))
    late = invoke(engine)
    engine.sent(late, GetPromise("q", 1), Suspension((1,), (1,)))
    engine.sent(MAIN, *DONE)
    expires_at_ms = engine.row(MAIN).expires_at_ms
    engine.apply(Expired(MAIN), at_ms=expires_at_ms - 1)
    assert promise(engine)
    assert engine.state("Signup", "ann")
    engine.apply(Expired(MAIN), at_ms=expires_at_ms)
    assert not engine.state("Signup", "ann")
    assert not [key for key in engine.rows if key[0] is Table.PROMISE]
    assert engine.journal(MAIN) == []
    gone = last_result(engine, late)
    assert isinstance(gone, Failure)
    assert (gone.code, gone.metadata) == (410, {"error_code": "HF2023"})
    assert engine.status(late) is Status.RUNNING
    assert engine.status(run(engine)) is Status.RUNNING
    assert engine.answer == Answer(Reply.ACCEPTED, Status.RUNNING)


def test_other_handlers_of_a_workflow_take_nothing_with_them() -> None:
    engine = signup()
    engine.sent(run(engine), SetState("n", Value(b"2")), CompletePromise("p", Value(), 1))
    shared = invoke(engine)
    engine.sent(shared, *DONE)
    engine.apply(Expired(shared), at_ms=engine.row(shared).expires_at_ms)
    assert promise(engine)
    assert engine.state("Signup", "ann")


def test_a_kill_spares_workflows_that_others_have_made() -> None:
    engine = signup()
    run(engine)
    caller = engine.invoke("Caller", "go")
    engine.sent(
        caller,
        Call("Signup", "run", b"2", "ann", (), None, 1, 2),
        Call("Signup", "run", b"2", "bob", (), None, 3, 4),
    )
    engine.apply(KillRequested(caller))
    assert engine.status(MAIN) is Status.RUNNING
    assert engine.status(workflow_id("Signup", "bob")) is Status.COMPLETED


# -- promises without a main invocation ------------------------------------------------------------


def left(engine: Harness) -> list[Any]:
    """Return what is there besides invocations."""
    return [key for key in engine.rows if key[0] is not Table.INVOCATION]


def fire(engine: Harness) -> None:
    """Let the next timer ring."""
    at_ms, invocation_id, slot = engine.timers()[0]
    engine.apply(TimerFired(at_ms, invocation_id, slot), at_ms=at_ms)


def test_a_promise_of_a_key_that_never_runs_is_removed_after_its_retention() -> None:
    engine = signup()
    complete(engine)
    [timer] = engine.timers()
    assert timer[:2] == (KEPT_MS, MAIN)
    assert engine.acted(RegisterTimer) == [RegisterTimer(*timer)]
    assert promise(engine) == PromiseRow(YES, (), KEPT_MS)
    fire(engine)
    assert left(engine) == []


def test_a_promise_that_is_completed_when_its_workflow_is_gone_is_removed_after_its_retention() -> (
    None
):
    engine = signup()
    engine.sent(run(engine), *DONE)
    straggler = invoke(engine, "confirm")
    engine.apply(PurgeRequested(MAIN))
    engine.sent(straggler, CompletePromise("p", YES, 1), *DONE)
    assert promise(engine)
    fire(engine)
    assert left(engine) == []


def test_a_main_invocation_takes_over_what_was_completed_before_it() -> None:
    engine = signup()
    complete(engine)
    run(engine)
    fire(engine)
    assert promise(engine) == PromiseRow(YES, (), KEPT_MS)
    engine.sent(MAIN, GetPromise("p", 1), *DONE)
    assert engine.journal(MAIN)[2] == Completion(KIND_GET, 1, YES, NOW_MS)
    engine.apply(PurgeRequested(MAIN))
    assert left(engine) == []


def test_a_workflow_takes_the_timers_of_its_promises_with_it() -> None:
    engine = signup()
    complete(engine)
    engine.sent(run(engine), *DONE)
    engine.apply(PurgeRequested(MAIN))
    assert left(engine) == []


def test_only_promises_whose_retention_has_passed_are_removed() -> None:
    engine = signup()
    complete(engine)
    engine.now_ms += 10
    straggler, waiter = invoke(engine, "confirm"), invoke(engine)
    engine.sent(straggler, CompletePromise("q", YES, 1), *DONE)
    engine.sent(waiter, GetPromise("r", 1))
    fire(engine)
    assert promise(engine) is None
    assert promise(engine, "q") == PromiseRow(YES, (), KEPT_MS + 10)
    fire(engine)
    assert promise(engine, "q") is None
    assert promise(engine, "r") == PromiseRow(None, (Sink(waiter, 1, KIND_GET, NOW_MS + 10),))


@pytest.mark.parametrize("names", [("Signup", "ann"), ("a/b", "c/d"), ("7/", "")])
def test_the_slot_of_a_timer_says_whose_promises(names: tuple[str, str]) -> None:
    assert promises_of_slot(slot_of_promises(*names)) == names
    for slot in (SLOT_START, SLOT_RETRY, SLOT_TIMEOUT, SLOT_ABORT, slot_of_completion(1)):
        assert promises_of_slot(slot) is None


# -- cancellations that callers pass on ------------------------------------------------------------


def test_a_caller_that_was_refused_does_not_cancel_the_workflow_of_another() -> None:
    engine = signup()
    run(engine)
    caller = engine.invoke("Caller", "go")
    cancel = SendSignal(MAIN, Void(), SIGNAL_CANCEL, is_passed_on=True)
    engine.sent(caller, Call("Signup", "run", b"2", "ann", (), None, 1, 2), cancel)
    assert len(engine.journal(MAIN)) == 1
    engine.sent(caller, SendSignal(MAIN, Void(), SIGNAL_CANCEL))
    assert len(engine.journal(MAIN)) == 2


def test_a_caller_passes_its_cancellation_on_to_the_workflow_that_it_has_made() -> None:
    engine = signup()
    caller = engine.invoke("Caller", "go")
    engine.sent(
        caller,
        Call("Signup", "run", b"2", "ann", (), None, 1, 2),
        SendSignal(MAIN, Void(), SIGNAL_CANCEL, is_passed_on=True),
    )
    assert len(engine.journal(MAIN)) == 2
