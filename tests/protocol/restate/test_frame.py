from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.errors import LocalProtocolError, RemoteProtocolError
from holdfast.protocol.restate import frame as frame_module
from holdfast.protocol.restate.frame import Frame, FrameDecoder, encode_frame

frames = st.builds(Frame, st.integers(0, 0xFFFF), st.binary(max_size=40), st.booleans())


def drain(decoder: FrameDecoder) -> list[Frame]:
    found = []
    while (frame := decoder.next_frame()) is not None:
        found.append(frame)
    return found


def test_a_header_is_type_flags_and_size() -> None:
    assert encode_frame(Frame(0x0003, b"")).hex(" ") == "00 03 00 00 00 00 00 00"
    asking = Frame(0x0401, b"\x72\x00", is_ack_requested=True)
    assert encode_frame(asking).hex(" ") == "04 01 80 00 00 00 00 02 72 00"


def test_a_stream_can_be_cut_everywhere() -> None:
    sent = [Frame(0x0401, b"abc"), Frame(0x0003, b""), Frame(0xFFFF, b"x" * 300, True)]
    stream = b"".join(map(encode_frame, sent))
    for cut in range(len(stream) + 1):
        decoder = FrameDecoder()
        decoder.feed(stream[:cut])
        found = drain(decoder)
        decoder.feed(stream[cut:])
        assert found + drain(decoder) == sent
        decoder.end()


@given(st.lists(frames, max_size=6), st.data())
def test_pieces_of_any_size_make_the_same_frames(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, sent))
    decoder = FrameDecoder()
    found = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        decoder.feed(stream[:size])
        stream = stream[size:]
        found += drain(decoder)
    assert found == sent
    decoder.end()


def test_flags_without_a_meaning_are_ignored() -> None:
    decoder = FrameDecoder()
    decoder.feed(bytes.fromhex("0003 7fff 00000000"))
    assert decoder.next_frame() == Frame(0x0003, b"", is_ack_requested=False)


def test_the_size_alone_refuses_a_frame_that_is_too_large() -> None:
    decoder = FrameDecoder(payload_size_max=10)
    decoder.feed(encode_frame(Frame(0x0401, b"x" * 10)) + bytes.fromhex("0401 0000 0000000b"))
    assert decoder.next_frame() == Frame(0x0401, b"x" * 10)
    with pytest.raises(RemoteProtocolError, match="11 bytes; at most 10 are taken") as caught:
        decoder.next_frame()
    assert caught.value.code == "HF1321"


def test_a_payload_that_is_too_large_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_module, "PAYLOAD_SIZE_MAX", 10)
    with pytest.raises(LocalProtocolError, match="11 bytes; at most 10 can be sent") as caught:
        encode_frame(Frame(0x0401, b"x" * 11))
    assert caught.value.code == "HF1321"


def test_what_follows_is_not_looked_at_before_it_is_asked_for() -> None:
    """Bytes after a final message are ignored, whatever they are."""
    decoder = FrameDecoder(payload_size_max=10)
    decoder.feed(encode_frame(Frame(0x0003, b"")) + b"\xff" * 20)
    assert decoder.next_frame() == Frame(0x0003, b"")


@pytest.mark.parametrize("size", [1, 7, 8, 11])
def test_a_stream_that_ends_inside_of_a_frame_says_so(size: int) -> None:
    decoder = FrameDecoder()
    decoder.feed(encode_frame(Frame(0x0401, b"1234"))[:size])
    assert decoder.next_frame() is None
    with pytest.raises(RemoteProtocolError, match=f"of which {size} bytes had come") as caught:
        decoder.end()
    assert caught.value.code == "HF1323"
