"""Frames of the worker socket.

One WebSocket carries all attempts of one worker. A binary message is one msgpack array of frames;
a frame is `[op, stream, payload…]`. Stream numbers are chosen by the server, ascend, and are never
reused on a connection. Payloads of attempts are decoded one by one, so that a malformed message
fails its own attempt and no other.

    worker → server   Hello, then Messages and Closed of its streams, Draining
    server → worker   Welcome or Refused, then Open, Notify, CloseInput, Abort

Refused may also come later, when another connection has taken the worker's place. A message of no
frames is a sign of life: a side that has sent nothing for `HEARTBEAT_S` sends one, and a peer that
was silent for `SILENCE_BEATS` of these intervals counts as dead. This works where the pings of
WebSocket do not reach: behind a full write buffer, and behind a proxy that answers them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from holdfast.domain.errors import RemoteProtocolError
from holdfast.domain.message import Entry, FromHandler, Start, ToHandler
from holdfast.domain.target import Manifest

T = TypeVar("T")

SOCKET_VERSION = 1
SUBPROTOCOL = "holdfast.worker.v1"
PATH = "/holdfast/v1/worker"
"""Where the server takes workers, on its admin address."""

HEARTBEAT_S = 5.0
SILENCE_BEATS = 3
MESSAGE_SIZE_BYTES_MAX = 64 * 1024 * 1024
"""Largest WebSocket message that either side takes."""
FRAME_SIZE_BYTES_MAX = MESSAGE_SIZE_BYTES_MAX - 16
"""Largest encoded frame: alone in its message it must still fit."""
NO_FRAMES = b"\x90"
"""A message of no frames."""


class _Frame(msgspec.Struct, frozen=True, array_like=True):
    """A frame."""


class Hello(_Frame, frozen=True, tag="hello"):
    """The worker introduces itself."""

    version: int
    deployment_name: str
    instance: str
    """Name of the worker process. A new connection of one instance replaces its old one."""
    sdk: str
    manifest: Manifest


class Welcome(_Frame, frozen=True, tag="welcome"):
    """The server takes the worker."""

    version: int
    deployment_id: str


class Refused(_Frame, frozen=True, tag="refused"):
    """The server does not take the worker, and says why. The connection closes."""

    code: str
    message: str


class Open(_Frame, frozen=True, tag="open"):
    """Begin an attempt."""

    stream: int
    start: Start
    entries: tuple[Entry, ...]


class Notify(_Frame, frozen=True, tag="notify"):
    """What an attempt hears once it has begun."""

    stream: int
    notifications: tuple[ToHandler, ...]


class CloseInput(_Frame, frozen=True, tag="input_end"):
    """No more notifications on this stream."""

    stream: int


class Abort(_Frame, frozen=True, tag="abort"):
    """Stop the attempt."""

    stream: int


class Messages(_Frame, frozen=True, tag="messages"):
    """Messages of an attempt: an encoded list, decoded by `decode_messages`."""

    stream: int
    messages: msgspec.Raw


class Closed(_Frame, frozen=True, tag="closed"):
    """The attempt is over on the worker; `reason` is set when no terminal message was sent."""

    stream: int
    reason: str | None = None


class Draining(_Frame, frozen=True, tag="draining"):
    """The worker takes no new attempts and will leave when the open ones have ended."""


ToServer = Hello | Messages | Closed | Draining
ToWorker = Welcome | Refused | Open | Notify | CloseInput | Abort

_encoder = msgspec.msgpack.Encoder()
_to_server = msgspec.msgpack.Decoder(list[ToServer])
_to_worker = msgspec.msgpack.Decoder(list[ToWorker])
_from_handler = msgspec.msgpack.Decoder(list[FromHandler])


def encode(frames: Sequence[ToServer | ToWorker]) -> bytes:
    """Encode frames into one binary WebSocket message."""
    return _encoder.encode(frames)


def encode_frame(frame: ToServer | ToWorker) -> bytes:
    """Encode one frame, to be sent by `join_frames`."""
    return _encoder.encode(frame)


def join_frames(frames: Sequence[bytes]) -> bytes:
    """Join encoded frames into one binary WebSocket message: a msgpack array of them."""
    count = len(frames)
    if count < 16:
        header = (0x90 | count).to_bytes(1, "big")
    elif count < 1 << 16:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((header, *frames))


def encode_messages(messages: Sequence[FromHandler]) -> msgspec.Raw:
    """Encode the payload of a Messages frame."""
    return msgspec.Raw(_encoder.encode(messages))


def decode_messages(payload: msgspec.Raw) -> list[FromHandler]:
    """Decode the payload of a Messages frame.

    Raises:
        RemoteProtocolError: Not a list of known messages; says where.
    """
    return _decode(_from_handler, payload, "messages of an attempt")


def decode_to_server(data: bytes) -> list[ToServer]:
    """Decode what a worker sent.

    Raises:
        RemoteProtocolError: Not a list of frames.
    """
    return _decode(_to_server, data, "frames from a worker")


def decode_to_worker(data: bytes) -> list[ToWorker]:
    """Decode what a server sent.

    Raises:
        RemoteProtocolError: Not a list of frames.
    """
    return _decode(_to_worker, data, "frames from a server")


def _decode(decoder: msgspec.msgpack.Decoder[T], data: bytes | msgspec.Raw, what: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RemoteProtocolError(
            f"Malformed {what}: {error}", code="HF2002", hint="Do the versions of both sides fit?"
        ) from error
