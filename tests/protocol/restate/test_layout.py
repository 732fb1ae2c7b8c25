"""Every message survives the wire, and no bytes do harm."""

from __future__ import annotations

import contextlib
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.errors import RemoteProtocolError
from holdfast.domain.message import Command, Entry, FromHandler, Start, Suspension
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.frame import Frame, FrameDecoder
from holdfast.protocol.restate.layout import COMPLETION_RESULTS, layouts

from . import message_strategy as message

CODECS = [Codec(version, is_keyed=keyed) for version in (5, 6, 7) for keyed in (False, True)]
codecs = st.sampled_from(CODECS)


def frame_of(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.feed(data)
    frame = decoder.next_frame()
    assert frame is not None
    return frame


def decode(codec: Codec, frame: Frame) -> list[Any]:
    """Decode in all ways; only a RemoteProtocolError may be raised."""
    ways: list[Any] = [
        codec.decode_from_handler,
        codec.decode_from_server,
        lambda frame: codec.decode_start(frame, "S", "h"),
    ]
    found = []
    for way in ways:
        with contextlib.suppress(RemoteProtocolError):
            found.append(way(frame))
    return found


OURS = range(0x7E00, 0x7F00)
"""Types of messages that are no part of Restate's protocol, and never travel over it."""


def of_restate(*kinds: Any) -> set[Any]:
    return {kind for kind in kinds if kind.__struct_config__.tag not in OURS}


@pytest.mark.parametrize("version", [5, 6, 7])
def test_there_is_a_layout_and_a_strategy_for_every_message(version: int) -> None:
    known = {layout.message_class for layout in layouts(version).values()}
    assert known == of_restate(*get_args(FromHandler), Start)
    assert set(message.commands) == of_restate(*get_args(Command))
    assert not set(layouts(version)) & set(OURS)


def test_a_command_completes_with_a_type_that_is_known() -> None:
    for number, layout in layouts(6).items():
        if "completion_id" in layout.message_class.__struct_fields__ and layout.is_command:
            assert number + 0x7C00 in COMPLETION_RESULTS, layout.message_class.__name__


@given(codecs, message.entries)
def test_entries_reach_the_handler_as_they_are(codec: Codec, entry: Entry) -> None:
    assert codec.decode_from_server(frame_of(codec.encode(entry))) == entry


@given(codecs, message.from_handler)
def test_messages_reach_the_server_as_they_are(codec: Codec, sent: FromHandler) -> None:
    assert codec.decode_from_handler(frame_of(codec.encode(sent))) == sent


@given(st.sampled_from(CODECS[2:]), message.starts)
def test_start_reaches_the_handler_as_it_is(codec: Codec, start: Start) -> None:
    frame = frame_of(codec.encode_start(start))
    assert codec.decode_start(frame, start.service, start.handler) == start


@given(message.trees)
def test_trees_keep_their_leaves(tree: Any) -> None:
    codec = CODECS[-1]
    received = codec.decode_from_handler(frame_of(codec.encode(Suspension(tree=tree))))
    assert isinstance(received, Suspension)
    assert received.tree in (None, tree)

    def leaves(node: Any) -> set[int]:
        return {*node.completions}.union(*map(leaves, node.children))

    assert set(received.completions) == leaves(tree)


@pytest.mark.parametrize("number", sorted(layouts(6)))
@given(st.data())
def test_bytes_without_sense_raise_one_error_only(number: int, data: st.DataObject) -> None:
    codec = data.draw(codecs)
    decode(codec, Frame(number, data.draw(st.binary(max_size=60))))


@given(codecs, st.integers(0, 0xFFFF), st.binary(max_size=60))
def test_types_without_sense_raise_one_error_only(
    codec: Codec, number: int, payload: bytes
) -> None:
    decode(codec, Frame(number, payload))


@given(codecs, st.one_of(message.entries, message.from_handler), st.data())
def test_broken_messages_raise_one_error_only(
    codec: Codec, sent: Entry | FromHandler, data: st.DataObject
) -> None:
    """Truncated, mutated and glued; what still decodes can be stored and sent again."""
    frame = frame_of(codec.encode(sent))
    payload = bytearray(frame.payload)
    if payload:
        for _ in range(data.draw(st.integers(0, 3))):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        payload = payload[: data.draw(st.integers(0, len(payload)))]
    payload += data.draw(st.binary(max_size=10))
    for received in decode(codec, Frame(frame.type, bytes(payload))):
        msgspec.msgpack.encode(received)
        if not isinstance(received, Start):
            again = frame_of(codec.encode(received))
            assert received in decode(codec, again)
