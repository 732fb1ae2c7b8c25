"""The codec against Restate's own replay machine, as it is in their Python SDK.

What we encode it must understand, what it sends must decode, and what was decoded must encode to
the same bytes: it compares recorded commands with new ones, field by field.
"""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.message import (
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
    FromHandler,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Start,
    StateKeys,
    Suspension,
    Value,
    Void,
    completion_kind,
)
from holdfast.protocol.restate.codec import AwaitingOn, Codec, RunAck
from holdfast.protocol.restate.frame import FrameDecoder
from holdfast.protocol.restate.manifest import decode_manifest
from holdfast.protocol.restate.version import invocation_media_type

restate = pytest.importorskip("restate", reason="needs restate-sdk, a development dependency")
sdk: Any = pytest.importorskip("restate._internal")

ID = "inv_1foAirY4KKzi3FyJqpVxiDUsWuxX3p32tU"
AWAKEABLE = "sign_1VIrjy6VAVbOeK7M1IQ8bZ_Xq2scCaph4AAAAEQ"
"""Of signal 17 of that invocation."""


class Peer:
    """One attempt of their machine."""

    def __init__(self, version: int, *entries: Any, **start: Any) -> None:
        self.codec = Codec(version, is_keyed=False)
        self.vm = sdk.PyVM([("content-type", invocation_media_type(version))], False, False)
        assert self.vm.get_response_head().status_code == 200
        journal = [Input(Value(b"in"), (("a", "b"),)), *entries]
        fields: dict[str, Any] = {
            "state": {},
            "is_state_partial": False,
            "retry_count": 0,
            "duration_ms": 0,
            "random_seed": 2**64 - 1,
            **start,
        }
        opening = Start(ID, "Svc", "h", "k", len(journal), **fields)
        self.vm.notify_input(self.codec.encode_start(opening))
        self.send(*journal)
        assert self.vm.is_ready_to_execute()
        self.input = self.vm.sys_input()

    def send(self, *entries: Any) -> None:
        for entry in entries:
            self.vm.notify_input(self.codec.encode(entry))

    def awaited(self, handle: int) -> Any:
        """Let it wait for a result, and return the result; None: it has suspended."""
        state = self.vm.do_progress(sdk.PyUnresolvedFuture.single(handle))
        if isinstance(state, sdk.PySuspended):
            return None
        assert isinstance(state, sdk.PyDoProgressAnyCompleted), state
        return self.vm.take_notification(handle)

    def received(self) -> list[FromHandler]:
        """What it has sent; what is replayed encodes to the same bytes again."""
        decoder = FrameDecoder()
        decoder.feed(bytes(self.vm.take_output()))
        found: list[FromHandler] = []
        while (frame := decoder.next_frame()) is not None:
            message = self.codec.decode_from_handler(frame)
            if isinstance(message, AwaitingOn):
                continue
            if not isinstance(message, Suspension):  # equal trees can be written in many ways
                assert self.codec.encode(message)[8:] == frame.payload, message
            found.append(message)
        decoder.end()
        return found


@pytest.fixture(params=[5, 6, 7], ids=["V5", "V6", "V7"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_it_reads_start_and_input(version: int) -> None:
    peer = Peer(version)
    assert peer.input.invocation_id == ID
    assert peer.input.key == "k"
    assert bytes(peer.input.input) == b"in"
    assert [(header.key, header.value) for header in peer.input.headers] == [("a", "b")]
    if version >= 6:
        assert peer.input.random_seed == 2**64 - 1
    else:
        assert peer.input.random_seed == 1510258363014864396


def test_awakeable_ids_are_those_of_our_server(version: int) -> None:
    assert Peer(version).vm.sys_awakeable()[0] == AWAKEABLE


def all_operations(vm: Any) -> dict[str, int]:
    """Do everything that leaves a command; return handles of results."""
    handles = {
        "get": vm.sys_get_state("there"),
        "get absent": vm.sys_get_state("absent"),
        "keys": vm.sys_get_state_keys(),
    }
    vm.sys_set_state("empty", b"")
    vm.sys_clear_state("there")
    vm.sys_clear_all_state()
    header = sdk.PyHeader(key="h", value="v")
    handles["call"] = vm.sys_call("S", "h", b"p", "key", "ik", [header]).result_handle
    handles["send"] = vm.sys_send("S", "h", b"", None)
    handles["sleep"] = vm.sys_sleep(60_000, "nap")
    handles["run"] = vm.sys_run("step").handle
    handles["promise"] = vm.sys_get_promise("p")
    handles["peek"] = vm.sys_peek_promise("p")
    handles["complete"] = vm.sys_complete_promise_success("p", b"")
    handles["complete again"] = vm.sys_complete_promise_failure("p", sdk.PyFailure(418, "no"))
    vm.sys_complete_awakeable_success(AWAKEABLE, b"")
    vm.sys_complete_awakeable_failure(AWAKEABLE, sdk.PyFailure(418, "no"))
    handles["signal"] = vm.sys_signal("go")
    vm.sys_complete_signal_success(ID, "go", b"v")
    vm.sys_cancel(ID)
    handles["attach"] = vm.attach_invocation(ID)
    handles["awakeable"] = vm.sys_awakeable()[1]
    return handles


ANSWERS: dict[str, Any] = {
    "call": Failure(418, "no", {"k": "v"}),
    "send": ChildId(ID),
    "sleep": Void(),
    "run": Value(b"result"),
    "promise": Value(b""),
    "peek": Void(),
    "complete": Void(),
    "complete again": Failure(409, "completed"),
    "attach": Value(b"out"),
}


def answers(commands: list[Any]) -> list[Any]:
    """Return what a server says to the commands of `all_operations`."""
    names = iter(ANSWERS.items())
    found: list[Any] = []
    for command in commands:
        if isinstance(command, Call):
            found.append(Completion(0x800E, command.invocation_id_completion_id, ChildId(ID)))
        if isinstance(command, OneWayCall):
            number = command.invocation_id_completion_id
            found.append(Completion(0x800E, number, next(names)[1]))
        elif (number := getattr(command, "completion_id", None)) is not None:
            found.append(Completion(completion_kind(command), number, next(names)[1]))
    return [*found, Signal(Value(b"now"), name="go"), Signal(Failure(500, "late"), index=17)]


def check_results(peer: Peer, handles: dict[str, int]) -> None:
    plain = {
        "get": b"1",
        "send": ID,
        "run": b"result",
        "promise": b"",
        "attach": b"out",
        "signal": b"now",
    }
    for name, expected in plain.items():
        assert peer.awaited(handles[name]) == expected, name
    assert peer.awaited(handles["keys"]).keys == ["there"]
    for name in ("get absent", "sleep", "peek", "complete"):
        assert isinstance(peer.awaited(handles[name]), sdk.PyVoid), name
    for name, code in [("call", 418), ("complete again", 409), ("awakeable", 500)]:
        assert peer.awaited(handles[name]).code == code, name


def test_everything_it_sends_is_understood_and_everything_it_hears(version: int) -> None:
    peer = Peer(version, state={"there": b"1"})
    handles = all_operations(peer.vm)
    commands = peer.received()
    assert [type(command) for command in commands] == [
        *(GetEagerState, GetEagerState, GetEagerStateKeys, SetState, ClearState, ClearAllState),
        *(Call, OneWayCall, Sleep, Run, GetPromise, PeekPromise, CompletePromise),
        *(CompletePromise, CompleteAwakeable, CompleteAwakeable, SendSignal, SendSignal),
        AttachInvocation,
    ]
    assert commands[:6] == [
        GetEagerState("there", Value(b"1")),
        GetEagerState("absent", Void()),
        GetEagerStateKeys(("there",)),
        SetState("empty", Value(b"")),
        ClearState("there"),
        ClearAllState(),
    ]
    assert isinstance(commands[6], Call)
    assert commands[6].parameter == b"p"
    assert (commands[6].object_key, commands[6].idempotency_key) == ("key", "ik")
    assert commands[6].headers == (("h", "v"),)
    peer.send(*answers(commands))
    check_results(peer, handles)


def test_it_replays_a_journal_that_went_through_our_values(version: int) -> None:
    """Otherwise it fails with code 570, and sends an Error."""
    first = Peer(version, state={"there": b"1"})
    all_operations(first.vm)
    commands = first.received()
    replay = Peer(version, *commands, *answers(commands), state={"there": b"1"})
    handles = all_operations(replay.vm)
    check_results(replay, handles)
    replay.vm.sys_write_output_success(b"")
    replay.vm.sys_end()
    assert replay.received() == [Output(Value(b"")), End()]


def test_it_reads_state_that_was_not_sent_along(version: int) -> None:
    peer = Peer(version, is_state_partial=True)
    handles = [peer.vm.sys_get_state("a"), peer.vm.sys_get_state("b"), peer.vm.sys_get_state_keys()]
    assert peer.received() == [
        GetLazyState("a", 1),
        GetLazyState("b", 2),
        GetLazyStateKeys(3),
    ]
    peer.send(
        Completion(0x8002, 1, Value(b"")),
        Completion(0x8002, 2, Void()),
        Completion(0x8006, 3, StateKeys(("a", "ä"))),
    )
    assert peer.awaited(handles[0]) == b""
    assert isinstance(peer.awaited(handles[1]), sdk.PyVoid)
    assert peer.awaited(handles[2]).keys == ["a", "ä"]


@pytest.mark.parametrize("outcome", [Value(b"x"), Value(b""), Failure(418, "no")])
def test_steps_are_proposed_and_acknowledged(version: int, outcome: Any) -> None:
    peer = Peer(version)
    handle = peer.vm.sys_run("step").handle
    run = peer.vm.do_progress(sdk.PyUnresolvedFuture.single(handle))
    assert isinstance(run, sdk.PyDoProgressExecuteRun)
    if isinstance(outcome, Value):
        peer.vm.propose_run_completion_success(handle, outcome.content)
    else:
        # Their version 5 has no metadata.
        metadata = [("k", "v")] if version >= 6 else None
        failure = sdk.PyFailure(outcome.code, outcome.message, metadata=metadata)
        outcome = Failure(outcome.code, outcome.message, {"k": "v"} if metadata else None)
        peer.vm.propose_run_completion_failure(handle, failure)
    assert peer.received() == [Run(1, "step"), ProposeRunCompletion(1, outcome)]
    if version >= 7:
        peer.vm.notify_input(peer.codec.encode_run_ack(RunAck(1)))
    else:
        peer.send(Completion(0x8011, 1, outcome))
    result = peer.awaited(handle)
    if isinstance(outcome, Value):
        assert result == outcome.content
    else:
        assert (result.code, result.message) == (outcome.code, outcome.message)
        assert dict(result.metadata or []) == (outcome.metadata or {})


def test_it_suspends(version: int) -> None:
    peer = Peer(version)
    handles = [peer.vm.sys_sleep(60_000, None), peer.vm.sys_signal("go")]
    any_one = sdk.PyUnresolvedFuture.first_completed(
        [sdk.PyUnresolvedFuture.single(handle) for handle in handles]
    )
    peer.vm.notify_input_closed()
    assert isinstance(peer.vm.do_progress(any_one), sdk.PySuspended)
    sleep, suspension = peer.received()
    assert isinstance(sleep, Sleep)
    assert suspension == Suspension((1,), (1,), ("go",))


def test_waiting_for_all_is_a_tree_from_version_7_on(version: int) -> None:
    peer = Peer(version)
    both = sdk.PyUnresolvedFuture.all_completed(
        [sdk.PyUnresolvedFuture.single(peer.vm.sys_sleep(60_000, None)) for _ in range(2)]
    )
    peer.vm.notify_input_closed()
    assert isinstance(peer.vm.do_progress(both), sdk.PySuspended)
    suspension = peer.received()[-1]
    assert isinstance(suspension, Suspension)
    assert sorted(suspension.completions) == [1, 2]
    assert suspension.signals == (1,)
    assert (suspension.tree is not None) == (version >= 7)


def test_it_sees_a_cancellation(version: int) -> None:
    peer = Peer(version)
    handle = peer.vm.sys_sleep(60_000, None)
    peer.send(Signal(Void(), index=1))
    state = peer.vm.do_progress(sdk.PyUnresolvedFuture.single(handle))
    assert isinstance(state, sdk.PyDoProgressCancelSignalReceived)


def test_its_errors_are_understood(version: int) -> None:
    peer = Peer(version)
    peer.vm.sys_set_state("a", b"1")
    peer.vm.notify_error("broken", "trace", 1500)
    _, error = peer.received()
    assert isinstance(error, Error)
    assert (error.code, error.message, error.stacktrace) == (500, "broken", "trace")
    assert error.next_retry_delay_ms == 1500


def test_it_reports_a_journal_that_does_not_fit(version: int) -> None:
    peer = Peer(version, Run(1, "another name"))
    with pytest.raises(sdk.VMException):
        peer.vm.sys_set_state("a", b"1")
    (error,) = peer.received()
    assert isinstance(error, Error)
    assert error.code == 570
    assert error.related_command_type == 0x0403


def test_signals_to_others_are_understood(version: int) -> None:
    peer = Peer(version)
    peer.vm.sys_complete_signal_failure(ID, "go", sdk.PyFailure(418, "no"))
    assert peer.received() == [SendSignal(ID, Failure(418, "no"), signal_name="go")]
    peer.vm.sys_complete_awakeable_success(AWAKEABLE, b"")
    assert peer.received() == [CompleteAwakeable(AWAKEABLE, Value(b""))]


@pytest.mark.parametrize("manifest_version", [2, 3, 4])
@pytest.mark.parametrize("mode", ["bidi", "request_response"])
def test_its_manifest_is_understood(manifest_version: int, mode: str) -> None:
    from restate.discovery import compute_discovery_json

    greeter = restate.Service("Greeter", description="Greets", metadata={"team": "a"})
    workflow = restate.Workflow("Signup")

    @greeter.handler()
    async def greet(ctx: restate.Context, name: str) -> str:
        raise NotImplementedError

    @workflow.main()
    async def run(ctx: restate.WorkflowContext) -> None:
        raise NotImplementedError

    @workflow.handler()
    async def confirm(ctx: restate.WorkflowSharedContext, code: int) -> bytes:
        raise NotImplementedError

    endpoint = restate.endpoint.Endpoint()
    endpoint.bind(greeter, workflow)
    shown = compute_discovery_json(endpoint, manifest_version, mode)
    found = decode_manifest(
        shown.encode(), f"application/vnd.restate.endpointmanifest.v{manifest_version}+json"
    )
    assert found.is_bidirectional == (mode == "bidi")
    assert (found.protocol_version_min, found.protocol_version_max) == (5, 7)
    of_service, of_workflow = found.manifest.services
    assert (of_service.name, of_service.documentation) == ("Greeter", "Greets")
    assert of_service.metadata == {"team": "a"}
    assert of_service.handlers[0].input_content_type == "application/json"
    assert [(h.name, h.kind.name) for h in of_workflow.handlers] == [
        ("run", "WORKFLOW"),
        ("confirm", "SHARED"),
    ]
