"""What is taken out of a WebSocket's stream, and what is left to its library."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from holdfast.transport.websocket_tap import Tap, binary_frame

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 100_000)
MASK = b"\x01\xfe\x7f\x80"


class Ends:
    """Where bytes go."""

    def __init__(self, *, is_masked: bool = False, size_bytes_max: int = 1 << 20) -> None:
        self.taken: list[bytes] = []
        self.passed = b""
        self.tap = Tap(is_masked=is_masked, size_bytes_max=size_bytes_max, pass_on=self.pass_on)

    def pass_on(self, data: bytes) -> None:
        self.passed += data

    def take(self, seen_count: int = 0) -> bool:
        return self.tap.take(self.taken.append, seen_count)


def of_library(opcode: Opcode, data: bytes, *, mask: bool, fin: bool = True) -> bytes:
    """Return a frame as the library makes it."""
    return Frame(opcode, data, fin=fin).serialize(mask=mask, extensions=[])


def payload(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize("is_masked", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 10**7])
def test_messages_are_taken_however_the_stream_is_cut(is_masked: bool, step: int) -> None:
    ends = Ends(is_masked=is_masked)
    assert ends.take()
    sizes = [size for size in SIZES if size < 1000 or step > 100]
    messages = [payload(size) for size in sizes]
    stream = b"".join(of_library(Opcode.BINARY, it, mask=is_masked) for it in messages)
    for at in range(0, len(stream), step):
        ends.tap.feed(stream[at : at + step])
    assert ends.taken == messages
    assert ends.passed == b""


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("is_masked", [False, True])
def test_the_library_reads_the_frames_that_we_write(size: int, is_masked: bool) -> None:
    reader = StreamReader()
    reader.feed_data(binary_frame(payload(size), MASK if is_masked else b""))
    parsing = Frame.parse(reader.read_exact, mask=is_masked, max_size=None)
    with pytest.raises(StopIteration) as parsed:
        next(parsing)
    frame = parsed.value.value
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.BINARY, True, payload(size))


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG, Opcode.CLOSE])
def test_control_frames_are_the_library_s_and_messages_around_them_are_taken(
    opcode: Opcode,
) -> None:
    ends = Ends()
    ends.take()
    control = of_library(opcode, b"\x03\xe8", mask=False)
    for data in (binary_frame(b"before") + control[:1], control[1:] + binary_frame(b"after")):
        ends.tap.feed(data)
    assert ends.taken == [b"before", b"after"]
    assert ends.passed == control


@pytest.mark.parametrize(
    "odd",
    [
        of_library(Opcode.BINARY, b"a fragment", mask=False, fin=False),
        of_library(Opcode.TEXT, b"text", mask=False),
        of_library(Opcode.BINARY, b"masked", mask=True),
        b"\xc2\x01x",  # compressed, which nobody has agreed on
        binary_frame(b"x" * 1001)[:4],  # too long: known from its head
    ],
    ids=["fragment", "text", "masked", "compressed", "too-long"],
)
def test_from_the_first_odd_frame_on_everything_is_the_library_s(odd: bytes) -> None:
    ends = Ends(size_bytes_max=1000)
    ends.take()
    ends.tap.feed(binary_frame(b"before") + odd)
    ends.tap.feed(b"and the rest")
    assert ends.taken == [b"before"]
    assert ends.passed == odd + b"and the rest"
    assert not ends.take(), "the order would be lost"


def test_nothing_is_taken_while_messages_wait_in_the_library() -> None:
    ends = Ends()
    first, second = binary_frame(b"hello"), binary_frame(b"at once")
    ends.tap.feed(first + second)
    assert ends.passed == first + second
    assert not ends.take(1)
    third = binary_frame(b"behind them")
    ends.tap.feed(third)
    assert ends.taken == []
    assert ends.take(3)
    ends.tap.feed(binary_frame(b"now"))
    assert ends.taken == [b"now"]
    assert ends.passed == first + second + third
