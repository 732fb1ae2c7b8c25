"""The effect of each command."""

from __future__ import annotations

import pytest

from holdfast.domain.ids import awakeable_id, key_partition_key, partition_of
from holdfast.domain.message import (
    KIND_CALL,
    TIME_MS_MAX,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    Completion,
    End,
    Failure,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    Input,
    OneWayCall,
    Output,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import HandlerKind
from holdfast.engine.decision import Forward, RegisterTimer, SendOutbox, StartAttempt
from holdfast.engine.record import (
    CompletionSent,
    Expired,
    HandlerSent,
    Inbound,
    KillRequested,
)
from holdfast.engine.row import Sink, Status, Table
from tests.engine.harness import NOW_MS, Harness


def call(service: str = "Callee", key: str | None = None, **fields) -> Call:
    return Call(service, "run", b"2", key, (), fields.pop("idempotency_key", None), 1, 2)


def caller_and_callee() -> tuple[Harness, str, str]:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke("Caller", "go")
    engine.sent(caller, call())
    (child,) = [
        e.result.invocation_id
        for e in engine.journal(caller)
        if isinstance(e, Completion) and isinstance(e.result, ChildId)
    ]
    return engine, caller, child


def test_a_call_makes_one_child_and_delivers_its_outcome() -> None:
    engine, caller, child = caller_and_callee()
    assert engine.status(child) is Status.RUNNING
    assert engine.row(child).origin.invocation_id == caller
    assert engine.journal(child) == [Input(Value(b"2"))]
    engine.sent(child, Output(Failure(418, "no", {"a": "b"})), End())
    result = Completion(KIND_CALL, 2, Failure(418, "no", {"a": "b"}), NOW_MS)
    assert engine.journal(caller)[-1] == result
    assert Forward(caller, 1, result) in engine.actions


def test_the_outcome_of_a_call_resumes_a_suspended_caller() -> None:
    engine, caller, child = caller_and_callee()
    engine.sent(caller, Suspension((2,), (1,)))
    engine.sent(child, Output(Value(b"1")), End())
    assert engine.status(caller) is Status.RUNNING


def test_a_call_to_an_unknown_handler_is_retried_not_failed() -> None:
    engine = Harness()
    caller = engine.invoke()
    engine.sent(caller, call("Nobody"))
    row = engine.row(caller)
    assert row.status is Status.BACKING_OFF
    assert row.last_failure is not None
    assert "no deployment serves Nobody/run" in row.last_failure.message
    assert len(engine.journal(caller)) == 1


@pytest.mark.parametrize(("kind", "key"), [(HandlerKind.PLAIN, "k"), (HandlerKind.EXCLUSIVE, None)])
def test_a_key_must_fit_the_service(kind: HandlerKind, key: str | None) -> None:
    engine = Harness()
    engine.serve("Callee", "run", kind)
    caller = engine.invoke()
    engine.sent(caller, call(key=key))
    assert engine.status(caller) is Status.BACKING_OFF


def test_the_answer_for_an_earlier_life_of_the_caller_is_not_heard() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke("Caller", "go", idempotency_key="k")
    engine.sent(caller, call())
    (child,) = [i for (t, i) in _invocations(engine) if t == "Callee"]
    engine.sent(caller, Output(Value()), End())
    engine.now_ms += 5000
    engine.apply(Expired(caller))
    engine.invoke("Caller", "go", invocation_id=caller, idempotency_key="k")
    engine.sent(child, Output(Value(b"old")), End())
    assert engine.journal(caller) == [Input(Value(b"1"))]


def test_a_child_starts_after_its_commit_unless_a_key_names_it() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke("Caller", "go")
    engine.sent(caller, call())
    (start,) = engine.acted(StartAttempt)
    assert start.entries is None
    engine.sent(caller, call(idempotency_key="pay-1"))
    (start,) = engine.acted(StartAttempt)
    assert start.entries is not None


def test_an_idempotent_call_joins_the_invocation_that_exists() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    first, second = engine.invoke("Caller", "go"), engine.invoke("Caller", "go")
    engine.sent(first, call(idempotency_key="pay-1"))
    engine.sent(second, call(idempotency_key="pay-1"))
    (child,) = [i for (t, i) in _invocations(engine) if t == "Callee"]
    engine.sent(child, Output(Value(b"9")), End())
    for caller in (first, second):
        assert engine.journal(caller)[-1] == Completion(KIND_CALL, 2, Value(b"9"), NOW_MS)
    third = engine.invoke("Caller", "go")
    engine.sent(third, call(idempotency_key="pay-1"))
    assert engine.journal(third)[-1] == Completion(KIND_CALL, 2, Value(b"9"), NOW_MS)


def _invocations(engine: Harness) -> list[tuple[str, str]]:
    return [(r.target.service, r.id) for k, r in engine.rows.items() if k[0] is Table.INVOCATION]


def test_a_one_way_call_goes_on_and_can_be_delayed() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke()
    engine.sent(caller, OneWayCall("Callee", "run", b"", None, (), None, NOW_MS + 9, 1))
    (timer,) = engine.acted(RegisterTimer)
    assert timer.at_ms == NOW_MS + 9
    assert engine.status(timer.invocation_id) is Status.SCHEDULED


def test_two_sends_to_one_key_keep_order() -> None:
    engine = Harness()
    engine.serve("Counter", "run", HandlerKind.EXCLUSIVE)
    caller = engine.invoke()
    sends = [OneWayCall("Counter", "run", bytes([i]), "k", (), None, 0, i + 1) for i in range(3)]
    engine.sent(caller, *sends)
    seen = []
    while running := [
        i for (t, i) in _invocations(engine)
        if t == "Counter" and engine.status(i) is Status.RUNNING
    ]:  # fmt: skip
        (child,) = running
        entry = engine.journal(child)[0]
        assert isinstance(entry, Input)
        seen.append(entry.value.content)
        engine.sent(child, Output(Value()), End())
    assert seen == [b"\x00", b"\x01", b"\x02"]


def test_kill_spreads_to_everything_that_was_called() -> None:
    engine, caller, child = caller_and_callee()
    engine.sent(child, OneWayCall("Callee", "run", b"", None, (), None, NOW_MS + 9, 1))
    (timer,) = engine.acted(RegisterTimer)
    engine.apply(KillRequested(caller))
    for invocation in (caller, child, timer.invocation_id):
        assert engine.status(invocation) is Status.COMPLETED
        assert engine.journal(invocation)[-1] == Output(Failure(409, "killed"))
    assert engine.timers() == []


def test_state_is_written_with_the_entry_and_read_lazily() -> None:
    engine = Harness()
    invocation = engine.invoke("Counter", "add", "k")
    engine.sent(
        invocation,
        SetState("a", Value(b"1")),
        SetState("b", Value(b"")),
        GetLazyState("a", 1),
        GetLazyState("zzz", 2),
        GetLazyStateKeys(3),
        ClearState("a"),
        GetLazyState("a", 4),
    )
    results = [e.result for e in engine.journal(invocation) if isinstance(e, Completion)]
    assert results == [Value(b"1"), Void(), StateKeys(("a", "b")), Void()]
    assert engine.state("Counter", "k") == {"b": b""}


def test_clear_all_removes_old_and_new_and_keeps_what_follows() -> None:
    engine = Harness()
    first = engine.invoke("Counter", "add", "k")
    engine.sent(first, SetState("old", Value(b"1")), Output(Value()), End())
    second = engine.invoke("Counter", "add", "k")
    engine.sent(
        second,
        SetState("new", Value(b"2")),
        ClearAllState(),
        GetLazyState("old", 1),
        SetState("after", Value(b"3")),
        GetLazyStateKeys(2),
    )
    results = [e.result for e in engine.journal(second) if isinstance(e, Completion)]
    assert results == [Void(), StateKeys(("after",))]
    assert engine.state("Counter", "k") == {"after": b"3"}


def test_state_is_for_keyed_services_and_writes_for_exclusive_handlers() -> None:
    engine = Harness()
    plain = engine.invoke()
    engine.sent(plain, SetState("a", Value(b"1")))
    assert engine.status(plain) is Status.BACKING_OFF
    engine.serve("Counter", "peek", HandlerKind.SHARED)
    shared = engine.invoke("Counter", "peek", "k")
    engine.sent(shared, SetState("a", Value(b"1")))
    assert engine.status(shared) is Status.BACKING_OFF
    assert engine.state("Counter", "k") == {}


def test_an_awakeable_is_completed_by_its_id() -> None:
    engine = Harness()
    waiting, other = engine.invoke(), engine.invoke()
    engine.sent(waiting, Suspension((), (1, 20)))
    engine.sent(other, CompleteAwakeable(awakeable_id(waiting, 20), Value(b'"yes"')))
    signal = engine.journal(waiting)[-1]
    assert signal == Signal(Value(b'"yes"'), 20, None, NOW_MS)
    assert engine.status(waiting) is Status.RUNNING


def test_a_malformed_id_fails_the_attempt_and_sends_nothing() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, SendSignal("inv_nonsense", Void(), index=1))
    row = engine.row(invocation)
    assert row.status is Status.BACKING_OFF
    assert row.last_failure is not None
    assert "HF1003" in row.last_failure.message


def test_attach_and_output_of_known_and_unknown_invocations() -> None:
    engine = Harness()
    target, asker = engine.invoke(), engine.invoke()
    unknown = engine.new_id("S", None)
    engine.sent(
        asker,
        AttachInvocation(target, 1),
        GetInvocationOutput(target, 2),
        AttachInvocation(unknown, 3),
        GetInvocationOutput(unknown, 4),
    )
    engine.sent(target, Output(Value(b"5")), End())
    engine.sent(asker, GetInvocationOutput(target, 5), AttachInvocation(target, 6))
    results = {
        e.completion_id: e.result for e in engine.journal(asker) if isinstance(e, Completion)
    }
    not_found = Failure(404, "not found")
    assert results == {
        1: Value(b"5"), 2: Void(), 3: not_found, 4: not_found, 5: Value(b"5"), 6: Value(b"5"),
    }  # fmt: skip


def _key_of(partition: int) -> str:
    return next(
        k for k in map(str, range(99)) if partition_of(key_partition_key(k), 2) == partition
    )


def test_messages_to_another_partition_go_through_the_outbox_once() -> None:
    here = Harness(partition=0, partition_count=2)
    there = Harness(partition=1, partition_count=2)
    for engine in (here, there):
        engine.serve("Far", "run", HandlerKind.EXCLUSIVE)
    here.serve("Near", "run", HandlerKind.EXCLUSIVE)
    near, key = _key_of(0), _key_of(1)
    caller = here.invoke("Near", "run", near)
    here.sent(caller, Call("Far", "run", b"2", key, (), None, 1, 2))
    (message,) = here.acted(SendOutbox)
    assert message.to_partition == 1
    assert (Table.OUTBOX, 1) in here.rows
    for _ in range(2):
        there.apply(Inbound(0, message.sequence, message.message))
    (child,) = [i for (_, i) in _invocations(there)]
    assert len(there.acted(StartAttempt)) == 0, "the second delivery is dropped"
    there.sent(child, Output(Value(b"3")), End())
    (answer,) = there.acted(SendOutbox)
    assert answer.message == CompletionSent(Sink(caller, 2, KIND_CALL, NOW_MS), Value(b"3"))
    here.apply(Inbound(1, answer.sequence, answer.message))
    assert here.journal(caller)[-1] == Completion(KIND_CALL, 2, Value(b"3"), NOW_MS)


def test_times_beyond_all_years_are_those_of_the_last_one() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke("Box", "put", "k")
    far_ms = 2**64 - 1
    engine.sent(
        caller,
        Sleep(far_ms, 1),
        OneWayCall("Callee", "run", b"2", None, (), None, far_ms, 2),
        SetState("n", Value(b"1"), expires_at_ms=far_ms),
    )
    assert [at_ms for at_ms, _, _ in engine.timers()] == [TIME_MS_MAX, TIME_MS_MAX]
    assert engine.rows[Table.STATE, "Box", "k", "n"].expires_at_ms == TIME_MS_MAX


@pytest.mark.parametrize("key", [None, ""])
def test_a_keyed_service_needs_a_key(key: str | None) -> None:
    engine = Harness()
    engine.serve("Box", "run", HandlerKind.EXCLUSIVE)
    caller = engine.invoke("Caller", "go")
    engine.sent(caller, call("Box", key))
    failure = engine.row(caller).last_failure
    assert failure is not None
    assert (failure.code, failure.message) == (400, "Box needs a key [HF2019]")


@pytest.mark.parametrize("key", [None, ""])
def test_in_restates_protocol_no_key_is_the_empty_one(key: str | None) -> None:
    engine = Harness()
    engine.serve("Box", "run", HandlerKind.EXCLUSIVE)
    caller = engine.invoke("Caller", "go")
    attempt = engine.row(caller).attempt
    engine.apply(HandlerSent(caller, 1, attempt, "dp_1", (call("Box", key),), protocol_version=6))
    [_, sent, made] = [it.entry for it in engine.journals[caller]]
    assert isinstance(sent, Call)
    assert sent.object_key == ""
    assert isinstance(made, Completion)
    assert isinstance(made.result, ChildId)
    callee = engine.row(made.result.invocation_id)
    assert str(callee.target) == "Box//run"
    lock = engine.rows[Table.LOCK, "Box", ""]
    assert lock.holder == callee.id


def test_a_plain_service_takes_no_key_in_restates_protocol_either() -> None:
    engine = Harness()
    engine.serve("Callee", "run")
    caller = engine.invoke("Caller", "go")
    attempt = engine.row(caller).attempt
    commands = (call("Callee", "k"),)
    engine.apply(HandlerSent(caller, 1, attempt, "dp_1", commands, protocol_version=6))
    failure = engine.row(caller).last_failure
    assert failure is not None
    assert failure.message == "Callee takes no key, got 'k' [HF2020]"
