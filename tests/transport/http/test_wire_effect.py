"""What commands do, on the wire, in every version and mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from wire_harness import CANCEL, OK, Attempt, Mode, Wire, every_mode, wired

from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.ids import awakeable_id
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    End,
    Error,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    NamedTarget,
    OneWayCall,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from holdfast.domain.target import Target
from holdfast.engine.record import CANCELED, KILLED
from holdfast.engine.row import Status

HOUR_MS = 3_600_000
NOT_FOUND = Failure(404, "not found")


@pytest.fixture
async def wire(mode: Mode, tmp_path: Path) -> AsyncIterator[Wire]:
    async with wired(mode, tmp_path) as wire:
        yield wire


def result_of(attempt: Attempt, completion_id: int) -> Any:
    """Return the result of a command that is in the replay."""
    found = [
        e.result
        for e in attempt.journal
        if isinstance(e, Completion) and e.completion_id == completion_id
    ]
    assert len(found) == 1, f"{completion_id} has {found}"
    return found[0]


def call(target: str = "S/run", number: int = 2, **fields: Any) -> Call:
    """Return a call; its child's id is the completion before its result."""
    service, *key, handler = target.split("/")
    options: dict[str, Any] = {
        "parameter": b"arg",
        "object_key": key[0] if key else None,
        "headers": (),
        "idempotency_key": None,
        **fields,
    }
    return Call(
        service, handler, invocation_id_completion_id=number - 1, completion_id=number, **options
    )


def send(target: str = "S/run", number: int = 1, **fields: Any) -> OneWayCall:
    service, *key, handler = target.split("/")
    options: dict[str, Any] = {
        "parameter": b"arg",
        "object_key": key[0] if key else None,
        "headers": (),
        "idempotency_key": None,
        "invoke_at_ms": 0,
        **fields,
    }
    return OneWayCall(service, handler, invocation_id_completion_id=number, **options)


# -- state -----------------------------------------------------------------------------------------


@every_mode
async def test_lazy_reads_see_what_is_written(wire: Wire) -> None:
    """An absent entry is void, an empty one is not; after clearing all there are no names."""
    invocation_id, attempt = await wire.begun("Box/k/put")
    attempt.send(
        attempt.encode(
            SetState("b", Value()),
            SetState("a", Value(b"1")),
            GetLazyState("b", 1),
            GetLazyState("absent", 2),
            GetLazyStateKeys(3),
            ClearState("a"),
            GetLazyState("a", 4),
            GetEagerState("b", Value()),
            GetEagerStateKeys(("b",)),
            ClearAllState(),
            GetLazyStateKeys(5),
        )
    )
    attempt.wait_for(5)
    again = await wire.attempt(invocation_id)
    results = [result_of(again, number) for number in range(1, 6)]
    assert results == [Value(), Void(), StateKeys(("a", "b")), Void(), StateKeys(())]
    # Each answer is right behind its question.
    kinds = [type(entry).__name__ for entry in again.journal[3:5]]
    assert kinds == ["GetLazyState", "Completion"]
    assert again.start.state == {}
    again.finish()


@every_mode
async def test_state_is_not_sent_where_it_is_lazy(mode: Mode, tmp_path: Path) -> None:
    async with wired(mode, tmp_path, enableLazyState=True) as wire:
        first, attempt = await wire.begun("Box/k/put")
        assert attempt.start.is_state_partial
        attempt.say(SetState("a", Value(b"1")), OK, End())
        await wire.outcome(first)
        _, attempt = await wire.begun("Box/k/put")
        assert (attempt.start.state, attempt.start.is_state_partial) == ({}, True)
        attempt.finish()


@every_mode
async def test_shared_handlers_see_stored_writes_and_one_exclusive_runs_at_a_time(
    wire: Wire,
) -> None:
    first, attempt = await wire.begun("Box/k/put")
    second = await wire.send("Box/k/put")
    attempt.send(attempt.encode(SetState("a", Value(b"1"))))
    await wire.stored(first, 2)
    reader, reading = await wire.begun("Box/k/look")
    assert reading.start.state == {"a": b"1"}
    reading.finish()
    assert await wire.outcome(reader) == OK.result
    assert (await wire.row(second)).status is Status.PENDING
    attempt.finish()
    (await wire.attempt(second)).finish()
    assert await wire.outcome(second) == OK.result


# -- calls -----------------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("outcome", [Value(b""), Failure(418, "no", {"a": "b"})])
async def test_a_call_gives_the_id_at_once_and_the_outcome_unchanged(
    wire: Wire, outcome: Value | Failure
) -> None:
    parent, attempt = await wire.begun(headers=(("from-ingress", "1"),))
    attempt.send(attempt.encode(call(headers=(("mine", "2"),), name="c")))
    attempt.wait_for(2)
    [_, _, made] = (await wire.stored(parent, 3))[:3]
    assert isinstance(made, Completion)
    assert made.kind == KIND_CHILD_ID
    assert isinstance(made.result, ChildId)
    child = await wire.attempt(made.result.invocation_id)
    # Headers of the ingress are not passed on, those of the call are.
    assert child.journal == [Input(Value(b"arg"), (("mine", "2"),))]
    child.finish(outcome)
    again = await wire.attempt(parent)
    assert again.journal[1] == call(headers=(("mine", "2"),), name="c")
    assert result_of(again, 2) == outcome
    assert [e.kind for e in again.journal if isinstance(e, Completion)] == [
        KIND_CHILD_ID,
        KIND_CALL,
    ]
    again.finish()


@every_mode
async def test_a_delayed_send_waits_and_two_to_one_key_keep_their_order(wire: Wire) -> None:
    at_ms = wire.host.now_ms() + 200
    parent, attempt = await wire.begun()
    attempt.say(
        send("Box/k/put", 1, parameter=b"a"),
        send("Box/k/put", 2, parameter=b"b"),
        send(number=3, invoke_at_ms=at_ms),
        OK,
        End(),
    )
    await wire.outcome(parent)
    made = [e.result for e in await wire.stored(parent, 8) if isinstance(e, Completion)]
    ids = [result.invocation_id for result in made if isinstance(result, ChildId)]
    first = await wire.attempt(ids[0])
    assert first.journal[0] == Input(Value(b"a"))
    assert (await wire.row(ids[1])).status is Status.PENDING
    first.finish()
    second = await wire.attempt(ids[1])
    assert second.journal[0] == Input(Value(b"b"))
    second.finish()
    late = await wire.attempt(ids[2])
    assert wire.host.now_ms() >= at_ms
    late.finish()


@every_mode
async def test_an_idempotency_key_makes_one_invocation_of_several_calls(wire: Wire) -> None:
    parent, attempt = await wire.begun()
    attempt.send(
        attempt.encode(
            call(idempotency_key="once"),
            call(number=4, idempotency_key="once"),
            send(number=5, idempotency_key="once"),
        )
    )
    attempt.wait_for(4)
    expected = idempotent_id(Target("S", "run"), "once")
    child = await wire.attempt(expected)
    child.finish(Value(b"7"))
    again = await wire.attempt(parent)
    while sum(isinstance(e, Completion) for e in again.journal) < 5:
        again.wait_for(2, 4)
        again = await wire.attempt(parent)
    assert [result_of(again, n) for n in (1, 3, 5)] == [ChildId(expected)] * 3
    assert [result_of(again, n) for n in (2, 4)] == [Value(b"7")] * 2
    assert (await wire.row(expected)).attempt == 1
    again.finish()


@every_mode
async def test_a_call_to_what_is_not_served_heals_with_its_registration(wire: Wire) -> None:
    parent, attempt = await wire.begun()
    attempt.send(attempt.encode(call("Later/run")))
    await wire.failed_with(parent, "HF2018")
    wire.services.append({"name": "Later", "ty": "SERVICE", "handlers": [{"name": "run"}]})
    await wire.register("/more")
    again = await wire.attempt(parent)
    again.send(again.encode(call("Later/run")))
    again.wait_for(2)
    made = (await wire.stored(parent, 3))[2]
    assert isinstance(made, Completion)
    assert isinstance(made.result, ChildId)
    child = await wire.attempt(made.result.invocation_id)
    assert child.exchange.fields[":path"] == "/more/invoke/Later/run"
    child.finish()
    (await wire.attempt(parent)).finish()
    assert await wire.outcome(parent) == OK.result


@every_mode
async def test_attach_and_output_by_id_by_key_and_of_workflows(wire: Wire) -> None:
    """A value once there is one; void while it runs; not found what is not there."""
    flow = await wire.send("Flow/k/run")
    playing = await wire.attempt(flow)
    named = NamedTarget("Flow", "k")
    nobody = NamedTarget("S", None, "run", "nobody")
    nobody_id = idempotent_id(Target("S", "run"), "nobody")
    asker, attempt = await wire.begun()
    attempt.send(
        attempt.encode(
            GetInvocationOutput(flow, 1),
            GetInvocationOutput(workflow_id("Flow", "k"), 2, named=named),
            GetInvocationOutput(nobody_id, 3, named=nobody),
            AttachInvocation(nobody_id, 4, named=nobody),
            AttachInvocation(workflow_id("Flow", "k"), 5, named=named),
            AttachInvocation(flow, 6),
        )
    )
    attempt.wait_for(5)
    await wire.row(asker, Status.SUSPENDED)
    playing.finish(Value(b"played"))
    again = await wire.attempt(asker)
    # As it was named, because the handler compares it with what it sends.
    assert GetInvocationOutput(workflow_id("Flow", "k"), 2, named=named) in again.journal
    assert [result_of(again, n) for n in (1, 2, 3, 4, 5)] == [
        Void(),
        Void(),
        NOT_FOUND,
        NOT_FOUND,
        Value(b"played"),
    ]
    again.finish()


# -- timers, awakeables, signals -------------------------------------------------------------------


@every_mode
async def test_a_timer_in_the_past_is_due_at_once_and_many_fire(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    soon = wire.host.now_ms() + 20
    attempt.send(attempt.encode(Sleep(1, 1000), *(Sleep(soon, n) for n in range(1, 101))))
    attempt.wait_for(1000)
    again = await wire.attempt(invocation_id)
    assert again.journal[2] == Completion(0x800C, 1000, Void())
    done: set[int] = set()
    while not done >= set(range(1, 101)):
        done = {e.completion_id for e in again.journal if isinstance(e, Completion)}
        if not done >= set(range(1, 101)):
            again.wait_for(*sorted(set(range(1, 101)) - done))
            again = await wire.attempt(invocation_id)
    again.finish()


@every_mode
async def test_an_awakeable_is_completed_by_a_handler_before_and_after_the_wait(
    wire: Wire,
) -> None:
    waiting, attempt = await wire.begun()
    ids = {index: awakeable_id(waiting, index) for index in (17, 18)}
    helper, helping = await wire.begun()
    helping.say(
        CompleteAwakeable(ids[17], Value(bytes(range(256)))),
        CompleteAwakeable(ids[17], Value(b"too late")),
        SendSignal(waiting, Failure(500, "no"), 18),
        SendSignal(waiting, Value(b"named"), None, "go"),
        SendSignal(workflow_id("Flow", "nobody"), Void(), 17),
        OK,
        End(),
    )
    await wire.outcome(helper)
    await wire.stored(waiting, 4)
    attempt.wait_for(signals=(17, 18), named_signals=("go",))
    again = await wire.attempt(waiting)
    assert again.journal[1:] == [
        Signal(Value(bytes(range(256))), index=17),
        Signal(Failure(500, "no"), index=18),
        Signal(Value(b"named"), name="go"),
    ]
    again.finish()


# -- workflows -------------------------------------------------------------------------------------


@every_mode
async def test_a_promise_is_completed_once_and_seen_by_all(wire: Wire) -> None:
    main, attempt = await wire.begun("Flow/k/run")
    attempt.send(attempt.encode(PeekPromise("p", 1), GetPromise("p", 2)))
    attempt.wait_for(2)
    await wire.row(main, Status.SUSPENDED)
    other, helping = await wire.begun("Flow/k/look")
    helping.send(
        helping.encode(
            CompletePromise("p", Value(b"1"), 1),
            CompletePromise("p", Value(b"2"), 2),
            PeekPromise("p", 3),
        )
    )
    helping.wait_for(3)
    helped = await wire.attempt(other)
    lost = result_of(helped, 2)
    assert (result_of(helped, 1), result_of(helped, 3)) == (Void(), Value(b"1"))
    assert isinstance(lost, Failure)
    assert lost.code == 409
    helped.finish()
    again = await wire.attempt(main)
    assert (result_of(again, 1), result_of(again, 2)) == (Void(), Value(b"1"))
    again.finish()


@every_mode
async def test_a_workflow_runs_once(wire: Wire) -> None:
    main, attempt = await wire.begun("Flow/k/run")
    caller, calling = await wire.begun()
    calling.send(calling.encode(call("Flow/k/run"), send("Flow/k/run", 3)))
    calling.wait_for(2)
    again = await wire.attempt(caller)
    assert result_of(again, 1) == result_of(again, 3) == ChildId(main)
    refused = result_of(again, 2)
    assert isinstance(refused, Failure)
    assert refused.code == 409
    again.finish()
    attempt.finish()


# -- cancel and kill -------------------------------------------------------------------------------


@every_mode
async def test_a_cancel_is_heard_running_suspended_paused_and_waiting_to_retry(wire: Wire) -> None:
    running, attempt = await wire.begun()
    attempt.send(attempt.encode(Run(1)))
    await wire.stored(running, 2)
    await wire.host.signal(running, CANCEL)
    if wire.mode.is_live:
        assert await attempt.until_live(1) == [CANCEL]
    else:
        # Its request has ended, so it cannot hear; the next one does.
        attempt = await wire.attempt(running)
        assert CANCEL in attempt.journal
    attempt.finish(Failure(409, "cancelled"))
    assert await wire.outcome(running) == Failure(409, "cancelled")

    for error in (
        Error(500, "no", behavior=1),
        Error(500, "no", next_retry_delay_ms=HOUR_MS),
    ):
        idle, attempt = await wire.begun()
        attempt.say(error)
        await wire.row(idle, Status.PAUSED, Status.BACKING_OFF)
        await wire.host.signal(idle, CANCEL)
        again = await wire.attempt(idle)
        assert again.journal[1:] == [CANCEL]
        again.finish()
        assert await wire.outcome(idle) == OK.result


@every_mode
async def test_a_cancel_ends_what_waits_for_its_key_at_once(wire: Wire) -> None:
    first, attempt = await wire.begun("Box/k/put")
    second = await wire.send("Box/k/put")
    await wire.host.signal(second, CANCEL)
    assert await wire.outcome(second) == CANCELED
    attempt.finish()
    assert await wire.outcome(first) == OK.result


@every_mode
async def test_a_kill_ends_the_whole_tree_and_frees_its_keys(wire: Wire) -> None:
    parent, attempt = await wire.begun("Box/k/put")
    later = wire.host.now_ms() + HOUR_MS
    attempt.send(attempt.encode(call("Box/other/put"), send(number=3, invoke_at_ms=later)))
    attempt.wait_for(2)
    entries = await wire.stored(parent, 5)
    made = [e.result for e in entries if isinstance(e, Completion)]
    ids = [result.invocation_id for result in made if isinstance(result, ChildId)]
    await wire.attempt(ids[0])
    await wire.host.kill(parent)
    for each in (parent, *ids):
        assert await wire.outcome(each) == KILLED
    for target in ("Box/k/put", "Box/other/put"):
        _, following = await wire.begun(target)
        following.finish()


@every_mode
async def test_a_killed_one_is_not_tried_again(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(Error(500, "no", next_retry_delay_ms=HOUR_MS))
    await wire.row(invocation_id, Status.BACKING_OFF)
    await wire.host.kill(invocation_id)
    row = await wire.row(invocation_id, Status.COMPLETED)
    assert row.attempt == 1
    await wire.check_that_it_lives()


@every_mode
async def test_who_calls_its_own_key_waits_until_it_is_cancelled(wire: Wire) -> None:
    outer, attempt = await wire.begun("Box/k/put")
    attempt.send(attempt.encode(call("Box/k/put")))
    attempt.wait_for(2)
    made = (await wire.stored(outer, 3))[2]
    assert isinstance(made, Completion)
    assert isinstance(made.result, ChildId)
    assert (await wire.row(made.result.invocation_id)).status is Status.PENDING
    await wire.host.signal(outer, CANCEL)
    again = await wire.attempt(outer)
    again.send(again.encode(SendSignal(made.result.invocation_id, Void(), 1)))
    again.wait_for(2)
    third = await wire.attempt(outer)
    assert result_of(third, 2) == CANCELED
    third.finish(CANCELED)
    assert await wire.outcome(outer) == CANCELED


# -- deployments -----------------------------------------------------------------------------------


@every_mode
async def test_who_has_begun_stays_with_its_deployment_and_new_ones_go_to_the_latest(
    wire: Wire,
) -> None:
    old, attempt = await wire.begun()
    attempt.say(Sleep(wire.host.now_ms() + 300, 1))
    attempt.wait_for(1)
    await wire.row(old, Status.SUSPENDED)
    without_entry = await wire.send()
    exchange = await wire.request(without_entry)
    await wire.register("/new")
    exchange.respond(500)
    exchange.end()
    moved = await wire.attempt(without_entry)
    assert moved.exchange.fields[":path"] == "/new/invoke/S/run"
    moved.finish()
    _, latest = await wire.begun()
    assert latest.exchange.fields[":path"] == "/new/invoke/S/run"
    latest.finish()
    again = await wire.attempt(old)
    assert again.exchange.fields[":path"] == "/invoke/S/run"
    again.finish()
