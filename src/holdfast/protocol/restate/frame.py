"""Frames of the invocation stream: an 8-byte header, then the payload.

    0..1   message type, big endian
    2..3   flags; 0x8000 asks for an acknowledgement, other bits mean nothing
    4..7   size of the payload in bytes, may be 0

A stream can be cut anywhere on its way; `FrameDecoder` takes the pieces as they come. Frames are
pulled one by one, because what follows a final message is not looked at.
"""

from __future__ import annotations

from typing import NamedTuple

from holdfast.domain.errors import LocalProtocolError, RemoteProtocolError

HEADER_SIZE = 8
ACK_REQUESTED = 0x8000
PAYLOAD_SIZE_MAX = 33_816_576
"""32 MiB for a body, and room for what is around it."""


class Frame(NamedTuple):
    """One message as it travels."""

    type: int
    """0..0xFFFF."""
    payload: bytes
    is_ack_requested: bool = False


def encode_frame(frame: Frame) -> bytes:
    """Put the header before the payload.

    Raises:
        LocalProtocolError: HF1321, the payload is over `PAYLOAD_SIZE_MAX`.
    """
    size = len(frame.payload)
    if size > PAYLOAD_SIZE_MAX:
        raise LocalProtocolError(
            f"A message of type 0x{frame.type:04X} has {size} bytes; "
            f"at most {PAYLOAD_SIZE_MAX} can be sent",
            code="HF1321",
            hint="Store large data elsewhere, and pass a reference.",
        )
    flags = ACK_REQUESTED if frame.is_ack_requested else 0
    header = (frame.type << 48 | flags << 32 | size).to_bytes(HEADER_SIZE, "big")
    return header + frame.payload


class FrameDecoder:
    """Cuts a byte stream into frames.

    Args:
        payload_size_max: Largest payload in bytes. A header that announces more is refused at
            once: nothing of it is kept.
    """

    def __init__(self, payload_size_max: int = PAYLOAD_SIZE_MAX) -> None:
        self._payload_size_max = payload_size_max
        self._buffer = bytearray()
        self._start = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """Return the next frame, or None until more bytes have been fed.

        Raises:
            RemoteProtocolError: HF1321, the frame is too large. The stream cannot be read on.
        """
        body = self._start + HEADER_SIZE
        if len(self._buffer) < body:
            return None
        header = int.from_bytes(self._buffer[self._start : body], "big")
        size = header & 0xFFFF_FFFF
        if size > self._payload_size_max:
            raise RemoteProtocolError(
                f"The peer announces a message of type 0x{header >> 48:04X} with {size} bytes; "
                f"at most {self._payload_size_max} are taken",
                code="HF1321",
                hint="Store large data elsewhere, and pass a reference.",
            )
        if len(self._buffer) < body + size:
            return None
        self._start = body + size
        payload = bytes(self._buffer[body : self._start])
        return Frame(header >> 48, payload, bool(header >> 32 & ACK_REQUESTED))

    def end(self) -> None:
        """The stream has ended.

        Raises:
            RemoteProtocolError: HF1323, in the middle of a frame.
        """
        left = len(self._buffer) - self._start
        if left:
            raise RemoteProtocolError(
                f"The stream ended inside a message, of which {left} bytes had come",
                code="HF1323",
                hint="The connection was cut, or the peer died.",
            )
