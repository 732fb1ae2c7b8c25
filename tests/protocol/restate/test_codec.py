from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.errors import LocalProtocolError, RemoteProtocolError
from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    TIME_MS_MAX,
    AttachInvocation,
    AwaitTree,
    Call,
    ClearAllState,
    Combinator,
    CompleteAwakeable,
    Completion,
    End,
    Error,
    Failure,
    GetInvocationOutput,
    GetLazyState,
    Input,
    NamedTarget,
    OneWayCall,
    Output,
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
)
from holdfast.domain.retry import RetrySchedule
from holdfast.protocol.restate.codec import AwaitingOn, Codec, CommandAck, RunAck
from holdfast.protocol.restate.frame import Frame, FrameDecoder

ID = "inv_1foAirY4KKzi3FyJqpVxiDUsWuxX3p32tU"
ID_BYTES = bytes.fromhex("548ae3cba54055b39e2bb335210f1b67f5eadac7026a9878")
V5, V6, V7 = (Codec(version, is_keyed=False) for version in (5, 6, 7))
KEYED = Codec(6, is_keyed=True)


def frame_of(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.feed(data)
    frame = decoder.next_frame()
    assert frame is not None
    decoder.end()
    return frame


def start(**changes: Any) -> Start:
    fields: dict[str, Any] = {
        "invocation_id": ID,
        "service": "Greeter",
        "handler": "greet",
        "key": "k1",
        "known_entries": 1,
        "state": {},
        "is_state_partial": False,
        "retry_count": 0,
        "duration_ms": 0,
        "random_seed": 0,
    }
    return Start(**{**fields, **changes})


# -- the bytes ------------------------------------------------------------------------------------

BYTES = [
    (End(), "0003 0000 00000000"),
    (Output(Value(b'"ok"')), "0401 0000 00000008 72060a04226f6b22"),
    (Output(Value(b"")), "0401 0000 00000002 7200"),
    (Output(Failure(409, "no")), "0401 0000 00000009 7a07 089903 1202 6e6f"),
    (SetState("k", Value(b"")), "0403 0000 00000005 0a016b 1a00"),
    (ClearAllState(), "0405 0000 00000000"),
    (GetLazyState("k", 3), "0402 0000 00000005 0a016b 5803"),
    (Run(1, "r1"), "0411 0000 00000006 5801 62027231"),
    (Sleep(1, 2, "n"), "040c 0000 00000007 0801 5802 62016e"),
    # Raw bytes, in contrast to the value of Output.
    (ProposeRunCompletion(1, Value(b"x")), "0005 0000 00000005 0801 720178"),
    (ProposeRunCompletion(1, Value(b"")), "0005 0000 00000004 0801 7200"),
    (
        Call("S", "h", b"p", "k", (("a", "b"),), "i", 1, 2),
        "040d 0000 0000001b 0a0153 120168 1a0170 2206 0a01611201 62 2a016b 320169 5001 5802",
    ),
    # The same fields have other numbers here.
    (
        OneWayCall("S", "h", b"p", "k", (("a", "b"),), "i", 5, 1),
        "040e 0000 0000001b 0a0153 120168 1a0170 2005 2a06 0a01611201 62 32016b 3a0169 5001",
    ),
    (SendSignal("i", Void(), index=1), "0410 0000 00000007 0a0169 1001 2200"),
    (SendSignal("i", Value(), signal_name="s"), "0410 0000 00000008 0a0169 1a0173 2a00"),
    (CompleteAwakeable("a", Failure(1, "x")), "0414 0000 0000000a 0a0161 1a05 0801 120178"),
    (AttachInvocation("i", 1), "0412 0000 00000005 0a0169 5801"),
    (
        AttachInvocation("", 1, named=NamedTarget("W", "k")),
        "0412 0000 0000000a 2206 0a0157 12016b 5801",
    ),
    (
        GetInvocationOutput("", 1, named=NamedTarget("S", "k", "h", "i")),
        "0413 0000 00000010 1a0c 0a0153 12016b 1a0168 220169 5801",
    ),
    (
        Error(500, "m", "s", 1, "n", 0x0411, 5, 2),
        "0002 0000 00000015 08f403 12016d 1a0173 2001 2a016e 309108 4005 4802",
    ),
    (Completion(0x8011, 1, Value(b"x")), "8011 0000 00000007 0801 2a030a0178"),
    (Completion(0x800C, 0, Void()), "800c 0000 00000004 0800 2200"),
    (Completion(0x8006, 1, StateKeys(())), "8006 0000 00000005 0801 8a0100"),
    (Signal(Void(), index=1), "fbff 0000 00000004 1001 2200"),
]


@pytest.mark.parametrize(("message", "expected"), BYTES, ids=lambda x: type(x).__name__)
def test_messages_are_these_bytes(message: Any, expected: str) -> None:
    assert V6.encode(message).hex() == expected.replace(" ", "")


def test_start_is_these_bytes() -> None:
    sent = start(state={"b": b"", "a": b"1"}, retry_count=2, duration_ms=3, random_seed=4)
    assert V6.encode_start(sent).hex() == (
        "000000000000005b"  # type, flags, size
        f"0a18{ID_BYTES.hex()}1226{ID.encode().hex()}1801"  # ids, known entries
        "22060a016112013122030a0162"  # state, sorted
        "32026b31380240034804"  # key, retry count, duration, seed
    )


def test_numbers_that_a_later_version_adds_are_skipped() -> None:
    frame = Frame(
        0x0411, bytes.fromhex("5801 c23e0178 a0860102 9906 0102030405060708".replace(" ", ""))
    )
    assert V6.decode_from_handler(frame) == Run(1)


# -- what is ours ---------------------------------------------------------------------------------


def test_what_is_ours_is_not_sent() -> None:
    schedule = RetrySchedule(max_attempts=3)
    pairs: list[tuple[Any, Any]] = [
        (Run(1, "r", "run:r#0", "a.py:1 f"), Run(1, "r")),
        (Call("S", "h", b"", None, (), None, 1, 2, "", "k", "s", schedule),
         Call("S", "h", b"", None, (), None, 1, 2)),
        (Completion(0x8011, 1, Void(), at_ms=5), Completion(0x8011, 1, Void())),
        (Error(500, "x", related_completion_id=3, failed_steps=(3,)), Error(500, "x")),
    ]  # fmt: skip
    for ours, theirs in pairs:
        assert V6.encode(ours) == V6.encode(theirs)
    assert V6.encode_start(start(created_at_ms=5, attempt=9)) == V6.encode_start(start())


def test_a_keyed_peer_gets_the_key_as_the_name_and_gives_it_back() -> None:
    sent = Run(1, "fetch weather", "Weather.check[0]/run:fetch weather#1", "a.py:1 f")
    frame = frame_of(KEYED.encode(sent))
    assert b"Weather.check[0]/run:fetch weather#1" in frame.payload
    received = Run(1, "fetch weather", "Weather.check[0]/run:fetch weather#1")
    assert KEYED.decode_from_server(frame) == received
    assert KEYED.decode_from_handler(frame) == received
    assert V6.decode_from_server(frame) == Run(1, "Weather.check[0]/run:fetch weather#1")


def test_a_keyed_peer_keeps_names_that_are_no_keys() -> None:
    frame = frame_of(V6.encode(Run(1, "issue #12")))
    assert KEYED.decode_from_server(frame) == Run(1, "issue #12")


# -- both sides of one stream ---------------------------------------------------------------------


def test_start_comes_back_with_the_target_of_the_request() -> None:
    sent = start(state={"a": b"", "b": b"\x00\xff", "": b"x"}, random_seed=2**64 - 1, retry_count=3)
    received = V6.decode_start(frame_of(V6.encode_start(sent)), "Greeter", "greet")
    assert received == start(state=sent.state, random_seed=2**64 - 1, retry_count=3, attempt=4)


def test_version_5_has_a_seed_that_follows_from_the_id() -> None:
    frame = frame_of(V5.encode_start(start(random_seed=7)))
    assert V5.decode_start(frame, "Greeter", "greet").random_seed == random_seed(ID)


def test_acks_come_back() -> None:
    assert V6.decode_from_server(frame_of(V6.encode_command_ack(CommandAck(3)))) == CommandAck(3)
    assert V7.decode_from_server(frame_of(V7.encode_run_ack(RunAck(3)))) == RunAck(3)


def test_acks_are_these_bytes() -> None:
    assert V6.encode_command_ack(CommandAck(3)).hex() == "00040000000000020803"
    assert V7.encode_run_ack(RunAck(3)).hex() == "00070000000000020803"


def test_an_ack_can_be_asked_for() -> None:
    assert frame_of(V6.encode(Run(1), is_ack_requested=True)).is_ack_requested
    assert not frame_of(V6.encode(Run(1))).is_ack_requested


def test_targets_are_kept_as_they_were_named_and_have_the_id_that_follows() -> None:
    run = AttachInvocation(ID, 1, named=NamedTarget("Wf", "k1"))
    keyed = GetInvocationOutput(
        "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV", 1, named=NamedTarget("Obj", "k1", "add", "abc")
    )
    plain = AttachInvocation(
        "inv_1ePaCRNn06Ka5vW31AYuRQfeD3xkVMbWeM", 1, named=NamedTarget("Svc", None, "echo", "abc")
    )
    for message in (run, keyed, plain):
        assert V6.decode_from_handler(frame_of(V6.encode(message))) == message


def test_times_beyond_the_calendar_are_its_end() -> None:
    forever = 2**64 - 1
    for sent, field in [
        (Sleep(forever, 1), "wake_up_at_ms"),
        (OneWayCall("S", "h", b"", None, (), None, forever, 1), "invoke_at_ms"),
        (Error(500, "", next_retry_delay_ms=forever), "next_retry_delay_ms"),
    ]:
        received = V6.decode_from_handler(frame_of(V6.encode(sent)))
        assert getattr(received, field) == TIME_MS_MAX


def test_an_unknown_behavior_is_a_retry() -> None:
    frame = frame_of(V6.encode(Error(500, "x", behavior=7)))
    assert V6.decode_from_handler(frame) == Error(500, "x")


# -- version 7 ------------------------------------------------------------------------------------


def test_version_7_suspends_with_a_tree_and_older_ones_with_lists() -> None:
    suspension = Suspension((1, 2), (1,), ("go",))
    assert frame_of(V6.encode(suspension)).payload.hex() == "0a0201021201011a02676f"
    assert frame_of(V7.encode(suspension)).payload.hex() == "220d0a0201021201011a02676f2801"
    for codec in (V5, V6, V7):
        assert codec.decode_from_handler(frame_of(codec.encode(suspension))) == suspension


def tree(
    combinator: Combinator, *completions: int, children: tuple[AwaitTree, ...] = ()
) -> AwaitTree:
    return AwaitTree(combinator, completions, children=children)


def test_a_tree_of_which_any_leaf_is_enough_becomes_lists() -> None:
    nested = AwaitTree(
        Combinator.FIRST_COMPLETED,
        signals=(1,),
        children=(
            tree(Combinator.ALL_COMPLETED, 3),
            tree(Combinator.UNKNOWN, 4, children=(tree(Combinator.ALL_COMPLETED, 3),)),
        ),
    )
    received = V7.decode_from_handler(frame_of(V7.encode(Suspension(tree=nested))))
    assert received == Suspension((3, 4), (1,))


@pytest.mark.parametrize("combinator", list(Combinator)[2:])
def test_any_other_tree_is_kept_with_all_its_leaves(combinator: Combinator) -> None:
    nested = AwaitTree(Combinator.FIRST_COMPLETED, signals=(1,), children=(tree(combinator, 2, 3),))
    received = V7.decode_from_handler(frame_of(V7.encode(Suspension(tree=nested))))
    assert received == Suspension((2, 3), (1,), tree=nested)


def test_an_unknown_combinator_is_taken_as_unknown() -> None:
    frame = Frame(0x0001, bytes.fromhex("22060a0201022809"))
    assert V7.decode_from_handler(frame) == Suspension((1, 2))


def test_what_a_running_handler_waits_for_comes_back() -> None:
    sent = AwaitingOn(Suspension((2,), (1,)), is_executing=True)
    assert V7.decode_from_handler(frame_of(V7.encode_awaiting_on(sent))) == sent


def test_what_another_sdk_waits_for_is_read() -> None:
    """As Restate's Python SDK sends it: the cancellation, or the tree of the program."""
    frame = Frame(0x0006, bytes.fromhex("0a0c12010122050a010b280128011001"))
    assert V7.decode_from_handler(frame) == AwaitingOn(Suspension((11,), (1,)), is_executing=True)


def test_messages_of_version_7_are_unknown_to_older_ones() -> None:
    awaiting = frame_of(V7.encode_awaiting_on(AwaitingOn(Suspension((2,)), is_executing=False)))
    ack = frame_of(V7.encode_run_ack(RunAck(1)))
    with pytest.raises(RemoteProtocolError, match="type 0x0006"):
        V6.decode_from_handler(awaiting)
    with pytest.raises(RemoteProtocolError, match="type 0x0007"):
        V6.decode_from_server(ack)


# -- what must not be stored ----------------------------------------------------------------------

MALFORMED = [
    ("Output without value and failure", 0x0401, ""),
    ("SetState without value", 0x0403, "0a016b"),
    ("GetEagerState without result", 0x0407, "0a016b"),
    ("GetEagerStateKeys without value", 0x0408, ""),
    ("CompletePromise without completion", 0x040B, "0a0170 5801"),
    ("AttachInvocation without target", 0x0412, "5801"),
    ("GetInvocationOutput without target", 0x0413, "5801"),
    ("Input without value", 0x0400, ""),
    ("SendSignal without id", 0x0410, "0a0169 2200"),
    ("SendSignal without result", 0x0410, "0a0169 1001"),
    ("CompleteAwakeable without result", 0x0414, "0a0161"),
    ("ProposeRunCompletion without result", 0x0005, "0801"),
    ("key of GetLazyState", 0x0402, "0a02c328 5801"),
    ("key of SetState", 0x0403, "0a02c328 1a00"),
    ("key of ClearState", 0x0404, "0a01ff"),
    ("key of GetEagerState", 0x0407, "0a01ff 6a00"),
    ("key in GetEagerStateKeys", 0x0408, "72030a01ff"),
    ("name that is not UTF-8", 0x0411, "5801 6201ff"),
    ("scope of Call", 0x040D, "0a0153 120168 3a0173"),
    ("limit key of Call", 0x040D, "0a0153 120168 420173"),
    ("scope of OneWayCall", 0x040E, "0a0153 120168 420173"),
    ("limit key of OneWayCall", 0x040E, "0a0153 120168 4a0173"),
    ("scope of a workflow", 0x0412, "2209 0a0157 12016b 1a0173"),
    ("scope of an idempotent request", 0x0413, "1a06 0a0153 2a0173"),
    ("cut varint", 0x0411, "58"),
    ("cut bytes", 0x0401, "7205 0a"),
    ("endless varint", 0x0411, "58" + "ff" * 11),
    ("wire type 7", 0x0411, "5f"),
    ("field number 0", 0x0411, "00 00"),
    ("group without end", 0x0411, "0b"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("type_number", "payload"), [row[1:] for row in MALFORMED], ids=[row[0] for row in MALFORMED]
)
@pytest.mark.parametrize("codec", [V5, V6, V7], ids=["V5", "V6", "V7"])
def test_malformed_messages_are_refused(codec: Codec, type_number: int, payload: str) -> None:
    frame = Frame(type_number, bytes.fromhex(payload))
    with pytest.raises(RemoteProtocolError, match=f"type 0x{type_number:04X}") as caught:
        codec.decode_from_handler(frame)
    assert caught.value.code == "HF1320"


def test_an_error_says_which_message_and_what_is_wrong_with_it() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        V6.decode_from_handler(Frame(0x0403, bytes.fromhex("0a0161")))
    assert caught.value.message == (
        "A message of type 0x0403 and 3 bytes is not a valid SetState: it has no value"
    )


def test_a_suspension_of_version_7_needs_a_tree() -> None:
    """Lists are not looked at there."""
    with pytest.raises(RemoteProtocolError, match="what it waits for"):
        V7.decode_from_handler(frame_of(V6.encode(Suspension((1,)))))


def test_trees_that_are_nested_too_deep_are_refused() -> None:
    payload = b""
    for _ in range(2000):
        size = len(payload)
        length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
        payload = b"\x22" + length + payload
    with pytest.raises(RemoteProtocolError) as caught:
        V7.decode_from_handler(Frame(0x0001, payload))
    assert caught.value.code == "HF1320"


@pytest.mark.parametrize(
    "type_number", [0x0000, 0x0004, 0x0007, 0x040F, 0x0500, 0x8011, 0x800E, 0xFBFF, 0xFC01]
)
@pytest.mark.parametrize("codec", [V5, V6, V7], ids=["V5", "V6", "V7"])
def test_handlers_send_no_such_messages(codec: Codec, type_number: int) -> None:
    with pytest.raises(RemoteProtocolError, match="a command, a proposal or an ending") as caught:
        codec.decode_from_handler(Frame(type_number, b""))
    assert caught.value.code == "HF1322"


@pytest.mark.parametrize(
    "type_number", [0x0000, 0x0001, 0x0002, 0x0003, 0x0005, 0x0006, 0x8001, 0xFC01]
)
def test_servers_send_no_such_messages(type_number: int) -> None:
    with pytest.raises(RemoteProtocolError, match="expected a journal entry") as caught:
        V6.decode_from_server(Frame(type_number, b""))
    assert caught.value.code == "HF1322"


def test_a_stream_begins_with_start() -> None:
    with pytest.raises(RemoteProtocolError, match="expected Start"):
        V6.decode_start(frame_of(V6.encode(Input(Value()))), "S", "h")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("0a0101 1801", "invocation id has 1 bytes, expected 24"),
        ("0a18" + ID_BYTES.hex() + "2203 0a01ff", "is not UTF-8"),
        ("", "invocation id has 0 bytes"),
    ],
)
def test_a_malformed_start_is_refused(payload: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        V6.decode_start(Frame(0x0000, bytes.fromhex(payload)), "S", "h")


@pytest.mark.parametrize(
    ("type_number", "payload", "why"),
    [
        (0x8011, "0801", "it has no result"),
        (0x8011, "2a00", "it is for nothing"),
        (0x8011, "1001 2a00", "it is for index"),
        (0xFBFF, "0801 2a00", "it is for completion_id"),
        (0x8011, "0801 2200", "it carries Void, expected Value or Failure"),
        (0x800E, "0801 2a00", "it carries Value, expected ChildId"),
        (0xFBFF, "1011 82010161", "it carries ChildId, expected Void or Value or Failure"),
        (0x8006, "0801 8a01030a01ff", "is not UTF-8"),
    ],
)
def test_malformed_notifications_are_refused(type_number: int, payload: str, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why) as caught:
        V6.decode_from_server(Frame(type_number, bytes.fromhex(payload)))
    assert caught.value.code == "HF1320"


# -- what we cannot send --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        Run(-1),
        Run(2**32),
        Run(1, "\ud800"),
        SetState("\ud800", Value()),
        Sleep(-1, 1),
        Signal(Void()),
    ],
    ids=["negative", "too large", "name", "state key", "time", "nameless signal"],
)
def test_what_does_not_fit_is_our_mistake(message: Any) -> None:
    with pytest.raises(LocalProtocolError, match="cannot be sent"):
        V6.encode(message)


def test_a_start_needs_an_id_of_24_bytes() -> None:
    with pytest.raises(LocalProtocolError, match="A Start cannot be sent: 'x' is not"):
        V6.encode_start(start(invocation_id="x"))
