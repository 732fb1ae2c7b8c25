"""Takes whole binary messages out of a WebSocket's byte stream, before the library sees them.

Nearly all that comes over a worker socket are short binary messages, each in one frame. The
libraries on both ends pass each through a parser, a queue and a task; this takes them from the
stream and hands them over at once. All else is the library's, byte for byte and in order: control
frames, and everything from the first message on that is fragmented, too long, or breaks the
protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a C compiler
    from websockets.utils import apply_mask

_WHOLE_BINARY = 0x82
"""First byte of a frame that is a whole binary message."""
_FIN = 0x80
_CONTROL = 0x08
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127


class DirectSocket(Protocol):
    """One end of a WebSocket, past its library."""

    def take(self, sink: Callable[[bytes], None], seen_count: int) -> bool:
        """Hand over binary messages as they come, from now on.

        Args:
            sink: Takes a message. Must not raise.
            seen_count: How many messages were received through the library.

        Returns:
            Whether it does: not while messages wait in the library, nor when the peer sends what is
            the library's business. Then the next message comes through the library.
        """
        ...

    @property
    def is_writable(self) -> bool:
        """Whether a message may be written: the socket is open, and the peer reads."""
        ...

    def write(self, data: bytes) -> None:
        """Send a binary message. Call only while `is_writable`."""
        ...


class Tap:
    """The incoming half of a stream, from its first frame on.

    Args:
        is_masked: Whether the peer must mask: it is a client.
        size_bytes_max: Longer messages are left to the library, which refuses them.
        pass_on: Feeds bytes to the library.
    """

    def __init__(
        self, *, is_masked: bool, size_bytes_max: int, pass_on: Callable[[bytes], None]
    ) -> None:
        self._is_masked = is_masked
        self._size_bytes_max = size_bytes_max
        self._pass_on = pass_on
        self._sink: Callable[[bytes], None] | None = None
        self._rest = bytearray()
        self._needed_bytes = 0
        """Length at which `rest` is worth another look."""
        self._passed_count = 0
        """Messages that went to the library."""
        self._is_open = False
        """Whether everything goes to the library from now on."""

    def take(self, sink: Callable[[bytes], None], seen_count: int) -> bool:
        """See `DirectSocket`."""
        if self._is_open or seen_count != self._passed_count:
            return False
        self._sink = sink
        return True

    def feed(self, data: bytes) -> None:
        """Take in what came over the stream."""
        if self._is_open:
            self._pass_on(data)
            return
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed_bytes:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = 0
        while at < len(data) and not self._is_open:
            size = self._feed_frame(data, at)
            if not size:
                self._rest += data[at:]
                return
            at += size

    def _feed_frame(self, data: bytes, at: int) -> int:
        """Take in the frame that begins at an offset; return its size, 0 if it is incomplete."""
        left = len(data) - at
        head = 2
        length = data[at + 1] & 0x7F if left > 1 else 0
        if length >= _LENGTH_16:
            head = 4 if length == _LENGTH_16 else 10
            length = int.from_bytes(data[at + 2 : at + head], "big")
        if left < head:
            self._needed_bytes = head
            return 0
        first, is_masked = data[at], bool(data[at + 1] & _MASKED)
        is_whole = first == _WHOLE_BINARY and length <= self._size_bytes_max
        is_control = first & _FIN and first & _CONTROL
        if is_masked is not self._is_masked or not (is_whole or is_control):
            self._is_open = True
            self._pass_on(data[at:])
            return left
        head += 4 if is_masked else 0
        size = head + length
        if left < size:
            self._needed_bytes = size
            return 0
        if is_whole and self._sink is not None:
            payload = data[at + head : at + size]
            self._sink(
                apply_mask(payload, data[at + head - 4 : at + head]) if is_masked else payload
            )
        else:
            self._passed_count += is_whole
            self._pass_on(data[at : at + size])
        return size


def binary_frame(data: bytes, mask: bytes = b"") -> bytes:
    """Return a whole binary message as one frame.

    Args:
        data: The message.
        mask: Four bytes that nobody can guess, from a client; nothing from a server.
    """
    length = len(data)
    bit = _MASKED if mask else 0
    if length < _LENGTH_16:
        head = bytes((_WHOLE_BINARY, bit | length))
    elif length < 1 << 16:
        head = bytes((_WHOLE_BINARY, bit | _LENGTH_16)) + length.to_bytes(2, "big")
    else:
        head = bytes((_WHOLE_BINARY, bit | _LENGTH_64)) + length.to_bytes(8, "big")
    return b"".join((head, mask, apply_mask(data, mask))) if mask else head + data
