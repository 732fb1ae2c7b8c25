"""Handlers that break the protocol: their attempt fails, and nothing else; also over a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from wire_harness import OK, Mode, every_mode, wired

from holdfast.domain.message import (
    CompleteAwakeable,
    CompletePromise,
    End,
    FromHandler,
    GetEagerState,
    GetLazyState,
    GetPromise,
    Input,
    OneWayCall,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Suspension,
    Value,
    Void,
)
from holdfast.engine.row import Status
from holdfast.protocol.restate.codec import Codec, CommandAck
from holdfast.protocol.restate.frame import ACK_REQUESTED, Frame, encode_frame

Said = Callable[[Codec], bytes]


class Case(NamedTuple):
    """What a handler says, and how its attempt fails."""

    code: str
    said: Said
    target: str = "S/run"
    versions: tuple[int, ...] = (5, 6, 7)


def messages(*all_messages: FromHandler) -> Said:
    return lambda codec: b"".join(codec.encode(message) for message in all_messages)


def frame(number: int, payload: str = "") -> Said:
    """A frame of any type; the payload in hexadecimal digits."""
    return lambda codec: encode_frame(Frame(number, bytes.fromhex(payload)))


def nested(depth: int) -> Said:
    """A tree of so many nodes, one inside of the other; protobuf would refuse to write it."""
    node = bytes.fromhex("0801")
    for _ in range(depth):
        size = len(node)
        # Field 4 of `Future` and of `Suspension`; the size is a number of up to two bytes.
        node = (
            b"\x22" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + node
        )
    return lambda codec: encode_frame(Frame(0x0001, node))


CASES = {
    # What would be stored before it is understood, and then fail each time that it is read.
    "end without output": Case("HF2013", messages(End())),
    "unknown type": Case("HF1322", frame(0x0500)),
    "type of a private entry": Case("HF1322", frame(0xFC01)),
    "unassigned command": Case("HF1322", frame(0x040F)),
    "output without result": Case("HF1320", frame(0x0401)),
    "input without value": Case("HF1320", frame(0x0400)),
    "state without value": Case("HF1320", frame(0x0403, "0a0161"), "Box/k/put"),
    "eager state without result": Case("HF1320", frame(0x0407, "0a0161"), "Box/k/put"),
    "eager names without value": Case("HF1320", frame(0x0408), "Box/k/put"),
    "promise without result": Case("HF1320", frame(0x040B, "0a0161"), "Flow/k/run"),
    "attach to nothing": Case("HF1320", frame(0x0412, "5801")),
    "output of nothing": Case("HF1320", frame(0x0413, "5801")),
    "name of state that is no text": Case("HF1320", frame(0x0402, "0a02c3285801"), "Box/k/put"),
    "name to clear that is no text": Case("HF1320", frame(0x0404, "0a02c328"), "Box/k/put"),
    "signal without id": Case("HF1320", frame(0x0410, "0a01612200")),
    "signal without result": Case("HF1320", frame(0x0410, "0a01611001")),
    "awakeable without result": Case("HF1320", frame(0x0414, "0a0161")),
    "proposal without result": Case("HF1320", frame(0x0005, "0801")),
    # Frames and protobuf.
    "bytes that are no protobuf": Case("HF1320", frame(0x0401, "ffffffff")),
    "text that is no text": Case("HF1320", frame(0x0411, "6202c328")),
    "sub-message of another kind": Case("HF1320", frame(0x0401, "7001")),
    "header over the limit": Case("HF1321", lambda codec: b"\x04\x01\x00\x00\xff\xff\xff\xff"),
    "noise": Case("HF1321", lambda codec: b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    # Not for handlers to say, or not now.
    "start": Case("HF1322", frame(0x0000)),
    "acknowledgement": Case("HF1322", lambda codec: codec.encode_command_ack(CommandAck(1))),
    "acknowledgement of a result": Case("HF1322", frame(0x0007, "0801")),
    "completion": Case("HF1322", frame(0x8011, "08012a00")),
    "signal to itself": Case("HF1322", frame(0xFBFF, "10012200")),
    "second input": Case("HF2014", messages(Input(Value(b"1")))),
    "suspension on nothing": Case("HF2010", messages(Suspension()), versions=(5, 6)),
    "result of no step": Case("HF2011", messages(ProposeRunCompletion(9, Value()))),
    "second result of a step": Case(
        "HF2011",
        messages(Run(1), *[ProposeRunCompletion(1, Value(b"1"))] * 2),
    ),
    # Where it makes no sense.
    "state of a service": Case("HF2016", messages(SetState("a", Value(b"1")))),
    "lazy state of a service": Case("HF2016", messages(GetLazyState("a", 1))),
    "eager state of a service": Case("HF2016", messages(GetEagerState("a", Void()))),
    "state written by a shared handler": Case(
        "HF2017", messages(SetState("a", Value(b"1"))), "Box/k/look"
    ),
    "promise of an object": Case("HF2021", messages(GetPromise("p", 1)), "Box/k/put"),
    "peek of a service": Case("HF2021", messages(PeekPromise("p", 1))),
    "promise completed by a service": Case(
        "HF2021", messages(CompletePromise("p", Value(b"1"), 1))
    ),
    "signal to no id": Case("HF1003", messages(SendSignal("nobody", Void(), 1))),
    "awakeable of no id": Case("HF1003", messages(CompleteAwakeable("sign_1nothing", Value()))),
    "call of an unknown service": Case(
        "HF2018", messages(OneWayCall("Nobody", "run", b"", None, (), None, 0, 1))
    ),
    "key for a service": Case("HF2020", messages(OneWayCall("S", "run", b"", "k", (), None, 0, 1))),
    "idempotency key for a workflow": Case(
        "HF2024", messages(OneWayCall("Flow", "run", b"", "k", (), "once", 0, 1))
    ),
    # Between the versions.
    "awaiting on": Case("HF1322", frame(0x0006, "0a020a00"), versions=(5, 6)),
    "suspension without a tree": Case("HF1320", frame(0x0001, "0a0101"), versions=(7,)),
    "suspension on an empty tree": Case("HF2010", frame(0x0001, "2200"), versions=(7,)),
    "tree that is too deep": Case("HF1320", nested(200), versions=(7,)),
    "scope": Case("HF1320", frame(0x040E, "0a0153120372756e4201735001"), versions=(7,)),
}


@every_mode
async def test_a_broken_handler_harms_nobody_else(mode: Mode, tmp_path: Path) -> None:
    """Each way to break the protocol, beside one that goes on; then the server starts anew."""
    cases = {name: case for name, case in CASES.items() if mode.version in case.versions}
    async with wired(mode, tmp_path) as wire:
        bystander, standing = await wire.begun()
        standing.send(standing.encode(Run(1, name="mine")))
        broken: dict[str, tuple[str, list[object]]] = {}
        for name, case in cases.items():
            target = case.target.replace("/k/", f"/{name}/")
            invocation_id, attempt = await wire.begun(target)
            attempt.send(attempt.encode(Run(77, name="before")) + case.said(wire.codec))
            row = await wire.failed_with(invocation_id, case.code)
            assert row.status in (Status.RUNNING, Status.BACKING_OFF), name
            broken[name] = (invocation_id, list(attempt.journal))
            await attempt.until_given_up()
        await wire.stored(bystander, 2)
        await wire.restart()
        for name, (invocation_id, journal) in broken.items():
            again = await wire.attempt(invocation_id)
            # What was right stands, and nothing of what was not; results of what was right, too.
            kept = [e for e in again.journal if not isinstance(e, Run) or e.completion_id == 77]
            assert kept[: len(journal) + 1] == [*journal, Run(77, name="before")], name
            again.finish()
            assert await wire.outcome(invocation_id) == OK.result, name
        again = await wire.attempt(bystander)
        assert again.journal[1:] == [Run(1, name="mine")]
        again.finish()
        assert await wire.outcome(bystander) == OK.result
        await wire.check_that_it_lives()


@every_mode
async def test_what_is_odd_but_harmless_is_taken(mode: Mode, tmp_path: Path) -> None:
    """As Restate's server does: ids are matched, and nothing else is read into them."""
    async with wired(mode, tmp_path) as wire:
        invocation_id, attempt = await wire.begun()
        odd = encode_frame(Frame(0x0411, bytes.fromhex("5805"), is_ack_requested=True))
        assert int.from_bytes(odd[2:4], "big") == ACK_REQUESTED
        attempt.send(b"\x04\x11\x7f\xff\x00\x00\x00\x02\x58\x06" + odd)
        attempt.send(attempt.encode(Run(1), Run(1), Run(0), ProposeRunCompletion(1, Value(b"x"))))
        attempt.send(attempt.encode(SendSignal(invocation_id, Void(), 3)))
        attempt.send(attempt.encode(SendSignal(invocation_id, Void(), 0)))
        attempt.wait_for(1)
        again = await wire.attempt(invocation_id)
        again.finish()
        assert await wire.outcome(invocation_id) == OK.result
        flow, attempt = await wire.begun("Flow/k/run")
        attempt.say(PeekPromise("", 1), OK, End())
        assert await wire.outcome(flow) == OK.result


@pytest.mark.parametrize("cut", range(1, 26, 3))
async def test_a_frame_cut_anywhere_fails_its_attempt(cut: int, tmp_path: Path) -> None:
    async with wired(Mode(7), tmp_path) as wire:
        invocation_id, attempt = await wire.begun()
        said = attempt.encode(Run(1, name="a step"), OK)
        assert cut < len(said)
        attempt.send(said[:cut])
        attempt.exchange.end()
        again = await wire.attempt(invocation_id)
        assert len(again.journal) == (1 if cut < len(attempt.encode(Run(1, name="a step"))) else 2)
        again.finish()
        assert await wire.outcome(invocation_id) == OK.result
