"""The server's side of the worker socket. Workers dial in; one WebSocket carries many attempts.

A connection lives through: request checked → accepted → Hello → registered → Welcome → frames both
ways → over. Registration may already open attempts, so frames wait until Welcome has left. However
a connection ends, the order is the same: the port takes nothing new, every open stream is closed
with a reason, the worker is detached. The server starts those attempts again elsewhere.

A stream number that this connection has used is never an error: an abort and a message of the same
attempt may pass each other on the wire. A number that it has not used yet is.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, assert_never, cast

import msgspec

from holdfast.domain.errors import HoldfastError, RemoteProtocolError, StorageError, TransportError
from holdfast.domain.message import Entry, Start, ToHandler
from holdfast.domain.target import Manifest
from holdfast.protocol import frame as wire
from holdfast.transport.base import HandlerPort, HandlerStream, ServerStream
from holdfast.transport.outbox import Outbox, Pulse
from holdfast.transport.websocket_tap import DirectSocket

_logger = logging.getLogger(__name__)

Scope = Mapping[str, object]
Receive = Callable[[], Awaitable[Mapping[str, object]]]
Send = Callable[[dict[str, object]], Awaitable[None]]
Endpoint = Callable[[Scope, Receive, Send], Awaitable[None]]

LOST = "worker connection lost"
"""Reason given to every stream that was open when its connection ended."""

UVICORN_OPTIONS: Mapping[str, Any] = {
    "ws": "holdfast.transport.websocket_server_end:ServerEnd",
    "ws_max_size": wire.MESSAGE_SIZE_BYTES_MAX,
    "ws_per_message_deflate": False,
    "ws_ping_interval": None,
    "ws_ping_timeout": None,
}
"""What `uvicorn.Config` needs to know to carry the worker socket. The pings are ours, see Pulse."""

_DIRECT = "holdfast.direct"
"""Extension of the ASGI scope; `EXTENSION` in `websocket_server_end`, which only servers load."""
_HELLO_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_OPEN_SIZE_BYTES_MAX = 8 * 1024 * 1024
"""While more than this waits for a worker that does not read, attempts are not sent to it."""
_BACKLOG_SIZE_BYTES_MAX = 2 * wire.MESSAGE_SIZE_BYTES_MAX
"""A worker for which more than this waits is given up."""

_GOING_AWAY = 1001
_PROTOCOL_ERROR = 1002
_POLICY_VIOLATION = 1008
_INTERNAL_ERROR = 1011
_TRY_AGAIN_LATER = 1013


class Registry(Protocol):
    """What a server offers to workers; a part of its handle."""

    async def attach_worker(self, port: HandlerPort) -> str:
        """Register the worker durably and return the id of its deployment."""
        ...

    def detach_worker(self, port: HandlerPort) -> None:
        """Forget a worker. Called after its streams were closed."""
        ...


def create_worker_endpoint(registry: Registry, *, token: str | None = None) -> Endpoint:
    """Make the ASGI app that takes workers at `holdfast.protocol.frame.PATH`.

    Args:
        registry: Who gets the workers.
        token: What a worker must send as `Authorization: Bearer`; None asks for nothing.
    """
    endpoint = _Endpoint(registry, token)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        # A plain function: uvicorn takes a bound method for an app of ASGI 2.
        await endpoint.serve(scope, receive, send)

    return serve


class _Endpoint:
    def __init__(self, registry: Registry, token: str | None) -> None:
        self._registry = registry
        self._token = token
        self._sessions: dict[tuple[str, str], _Session] = {}

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, from handshake to end."""
        if scope["type"] != "websocket":
            await _answer_http(send)
            return
        refusal = self._check_request(scope)
        await receive()  # websocket.connect
        if refusal is not None:
            await _reject(scope, send, *refusal)
            return
        await send({"type": "websocket.accept", "subprotocol": wire.SUBPROTOCOL})
        extensions = cast("Mapping[str, object]", scope.get("extensions") or {})
        direct = cast("DirectSocket | None", extensions.get(_DIRECT))
        session = _Session(self._registry, self._sessions, receive, send, direct)
        await session.run()

    def _check_request(self, scope: Scope) -> tuple[int, wire.Refused] | None:
        headers = dict(cast("list[tuple[bytes, bytes]]", scope["headers"]))
        if b"origin" in headers:
            # Only browsers send it, and a web page has no business here: without this check any
            # page that a developer opens could pose as a worker of a server on loopback.
            return 403, wire.Refused("HF1302", "Workers do not send an Origin header")
        if self._token is not None:
            expected = b"Bearer " + self._token.encode()
            if not hmac.compare_digest(headers.get(b"authorization", b""), expected):
                return 401, wire.Refused("HF1302", "The worker token is missing or wrong")
        if wire.SUBPROTOCOL not in cast("Sequence[str]", scope["subprotocols"]):
            return 400, wire.Refused("HF1304", f"Expected the subprotocol {wire.SUBPROTOCOL}")
        return None


class RemotePort:
    """The handlers of one worker, reached over its connection."""

    def __init__(self, hello: wire.Hello, outbox: Outbox, give_up: Callable[[str], None]) -> None:
        self.deployment_name = hello.deployment_name
        self.manifest: Manifest = hello.manifest
        self.instance = hello.instance
        self.is_draining = False
        self._outbox = outbox
        self._give_up = give_up
        self._streams: dict[int, _RemoteStream] = {}
        self._held: deque[_RemoteStream] = deque()
        self._last_number = 0
        self._is_closed = False

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        """Begin an attempt on the worker."""
        self._last_number += 1
        remote = _RemoteStream(self, self._last_number, stream, start, entries)
        if self._is_closed:
            asyncio.get_running_loop().call_soon(stream.on_closed, LOST)
            return remote
        self._streams[remote.number] = remote
        self._held.append(remote)
        self.release()
        return remote

    def release(self) -> None:
        """Send the attempts that wait, unless too much waits for the worker already."""
        while self._held and self._outbox.size_bytes <= _OPEN_SIZE_BYTES_MAX:
            stream = self._held.popleft()
            if self.is_open(stream):
                stream.begin()

    def put(self, frame: bytes) -> None:
        """Send a frame; give the worker up when too much waits for it."""
        if self._is_closed:
            return
        self._outbox.put(frame)
        if self._outbox.size_bytes > _BACKLOG_SIZE_BYTES_MAX:
            self._give_up(f"it does not read: {self._outbox.size_bytes} bytes wait for it")

    def is_open(self, stream: _RemoteStream) -> bool:
        """Whether the server still listens to this stream."""
        return stream.number in self._streams

    def forget(self, stream: _RemoteStream) -> None:
        """Take out a stream that is over for the server."""
        self._streams.pop(stream.number, None)

    def on_messages(self, frame: wire.Messages) -> None:
        """Hand messages of an attempt to the server.

        Raises:
            RemoteProtocolError: The stream was never opened.
        """
        stream = self._find(frame.stream)
        if stream is None:
            return
        try:
            messages = wire.decode_messages(frame.messages)
        except RemoteProtocolError as error:
            _logger.warning(
                "an attempt sent malformed messages: %s", error, extra={"instance": self.instance}
            )
            stream.fail(f"{error.message} [{error.code}]")
            return
        if not messages:
            return
        try:
            stream.server.on_messages(messages)
        except Exception:
            # A bug of ours, and no reason to cut off the worker's other attempts.
            _logger.exception("failed to take messages of an attempt")
            stream.fail("the server failed to take a message; see its log")

    def on_closed(self, frame: wire.Closed) -> None:
        """Tell the server that an attempt is over.

        Raises:
            RemoteProtocolError: The stream was never opened.
        """
        stream = self._find(frame.stream)
        if stream is not None:
            self.forget(stream)
            _tell_closed(stream.server, frame.reason)

    def close(self, reason: str) -> None:
        """Close every stream. Idempotent."""
        # Closed first and told then: whoever is told may at once open the attempt again.
        self.is_draining = self._is_closed = True
        streams = list(self._streams.values())
        self._streams.clear()
        self._held.clear()
        for stream in streams:
            _tell_closed(stream.server, reason)

    def _find(self, number: int) -> _RemoteStream | None:
        stream = self._streams.get(number)
        is_known = 0 < number <= self._last_number and (stream is None or stream.is_announced)
        if not is_known:
            raise RemoteProtocolError(f"Stream {number} was never opened on this connection")
        return stream


class _RemoteStream:
    """The handler's end of one attempt on a worker."""

    def __init__(
        self,
        port: RemotePort,
        number: int,
        server: ServerStream,
        start: Start,
        entries: Sequence[Entry],
    ) -> None:
        self.number = number
        self.server = server
        self._port = port
        self._opening: tuple[Start, Sequence[Entry]] | None = (start, entries)
        self._held_frames: list[wire.Notify | wire.CloseInput] = []
        self.is_announced = False
        """Whether Open was sent. A worker that hears of any other stream drops the connection."""

    def begin(self) -> None:
        """Send Open, and what was to follow it."""
        assert self._opening is not None, "an attempt begins once"
        start, entries = self._opening
        self._opening = None
        held_frames, self._held_frames = self._held_frames, []
        self.is_announced = self._put(wire.Open(self.number, start, tuple(entries)))
        for frame in held_frames:
            self._put_in_order(frame)

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`."""
        self._put_in_order(wire.Notify(self.number, tuple(notifications)))

    def close_input(self) -> None:
        """See `HandlerStream`."""
        self._put_in_order(wire.CloseInput(self.number))

    def abort(self) -> None:
        """See `HandlerStream`."""
        if self._port.is_open(self):
            self._port.forget(self)
            if self.is_announced:
                self._port.put(wire.encode_frame(wire.Abort(self.number)))

    def fail(self, reason: str) -> None:
        """Give this attempt up, on both sides."""
        if self._port.is_open(self):
            self.abort()
            _tell_closed(self.server, reason)

    def _put_in_order(self, frame: wire.Notify | wire.CloseInput) -> None:
        if self._opening is not None:
            self._held_frames.append(frame)
        elif self.is_announced:
            self._put(frame)

    def _put(self, frame: wire.Open | wire.Notify | wire.CloseInput) -> bool:
        """Send a frame, or fail the attempt if it is too big. Returns whether it was sent."""
        if not self._port.is_open(self):
            return False
        encoded = wire.encode_frame(frame)
        if len(encoded) > wire.FRAME_SIZE_BYTES_MAX:
            reason = (
                f"{len(encoded)} bytes do not fit into the worker socket, "
                f"which carries at most {wire.FRAME_SIZE_BYTES_MAX} at once"
            )
            # Later: the server is inside a call of its own, and must not be called from there.
            asyncio.get_running_loop().call_soon(self.fail, reason)
            return False
        self._port.put(encoded)
        return True


def _tell_closed(server: ServerStream, reason: str | None) -> None:
    try:
        server.on_closed(reason)
    except Exception:
        # A bug of ours, and no reason to leave the other attempts without an answer.
        _logger.exception("failed to close an attempt")


class _Refusal(Exception):
    """The worker is told why, and the connection ends."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.frame = wire.Refused(code, message)


class _Session:
    """One accepted connection."""

    def __init__(
        self,
        registry: Registry,
        sessions: dict[tuple[str, str], _Session],
        receive: Receive,
        send: Send,
        direct: DirectSocket | None,
    ) -> None:
        self._registry = registry
        self._sessions = sessions
        self._receive = receive
        self._send = send
        self._direct = direct
        self._seen_count = 0
        """Messages that came through `receive`."""
        self._outbox = Outbox(self._write, self._on_written, direct)
        self._pulse = Pulse(self._outbox)
        self._port: RemotePort | None = None
        self._is_attached = False
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._last_frame: wire.Refused | None = None

    async def run(self) -> None:
        """Take the worker in, serve it until the connection ends, and clean up."""
        code = _INTERNAL_ERROR
        try:
            code = await self._serve()
        except _Refusal as refusal:
            code, self._last_frame = _POLICY_VIOLATION, refusal.frame
        except RemoteProtocolError as error:
            code = _PROTOCOL_ERROR
            _logger.warning("closing the connection of %s: %s", self._name(), error)
        finally:
            self._detach(LOST)
            await self._close(code)

    async def _serve(self) -> int:
        hello = await self._read_hello()
        port = self._port = RemotePort(hello, self._outbox, self._give_up)
        # Set before: when this wait is cancelled, the worker may be attached or not.
        self._is_attached = True
        try:
            deployment_id = await self._registry.attach_worker(port)
        except HoldfastError as error:
            self._is_attached = False
            if isinstance(error, StorageError):
                _logger.warning("cannot take %s now: %s", self._name(), error)
                return _TRY_AGAIN_LATER
            hint = f" {error.hint}" if error.hint else ""
            raise _Refusal(error.code, f"{error.message}{hint}") from error
        self._replace_older(hello)
        _logger.info("%s connected", self._name(), extra={"deployment_id": deployment_id})
        try:
            await self._write(wire.encode([wire.Welcome(wire.SOCKET_VERSION, deployment_id)]))
            reason = await self._carry()
        except TransportError as error:
            reason = error.message
        _logger.info("%s disconnected: %s", self._name(), reason)
        return _GOING_AWAY

    async def _read_hello(self) -> wire.Hello:
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                data = await self._read()
        except TimeoutError:
            raise RemoteProtocolError(
                f"No Hello within {_HELLO_TIMEOUT_S:.0f} s of connecting"
            ) from None
        frames = [] if data is None else wire.decode_to_server(data)
        hello = frames[0] if len(frames) == 1 else None
        if not isinstance(hello, wire.Hello):
            raise RemoteProtocolError("Expected one Hello as the first message of a worker")
        if hello.version != wire.SOCKET_VERSION:
            raise _Refusal(
                "HF1303",
                f"The worker speaks version {hello.version} of the worker socket, this server "
                f"version {wire.SOCKET_VERSION}. Install the same Holdfast on both sides.",
            )
        return hello

    def _replace_older(self, hello: wire.Hello) -> None:
        key = (hello.deployment_name, hello.instance)
        older = self._sessions.get(key)
        self._sessions[key] = self
        if older is not None:
            older.give_way()

    def give_way(self) -> None:
        """End at once: another connection has taken this one's place."""
        self._last_frame = wire.Refused(
            "HF1305", f"Another worker named {self._name()} has connected and taken over"
        )
        self._detach(LOST)
        self._finish("another connection took its place")

    async def _carry(self) -> str:
        """Carry frames both ways; return why it ended."""
        parts = (self._read_frames(), self._outbox.run(), self._watch())
        tasks = [asyncio.ensure_future(part) for part in parts]
        ends: list[asyncio.Future[None] | asyncio.Future[str]] = [*tasks, self._end]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            return self._end.result() if self._end.done() else "connection closed"
        finally:
            self._end.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read_frames(self) -> None:
        while True:
            if self._direct is not None:
                self._direct.take(self._on_data, self._seen_count)
            data = await self._read()
            if data is None:
                return
            self._take_frames(data)

    def _on_data(self, data: bytes) -> None:
        """Take a message past `receive`."""
        if self._end.done():
            return
        try:
            self._take_frames(data)
        except Exception as error:  # raised again where the end is awaited
            self._end.set_exception(error)

    def _take_frames(self, data: bytes) -> None:
        port = self._port
        assert port is not None, "frames are read after Hello"
        self._pulse.heard()
        for frame in wire.decode_to_server(data):
            match frame:
                case wire.Messages():
                    port.on_messages(frame)
                case wire.Closed():
                    port.on_closed(frame)
                case wire.Draining():
                    port.is_draining = True
                case wire.Hello():
                    raise RemoteProtocolError("A worker says Hello once")
                case _:
                    assert_never(frame)

    async def _watch(self) -> None:
        await self._pulse.run()
        self._give_up("nothing was heard from it for too long")

    async def _read(self) -> bytes | None:
        """Return the next message, or None when the connection is over."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            return None
        data = message.get("bytes")
        if not isinstance(data, bytes | bytearray):
            raise RemoteProtocolError("Expected binary messages, got text")
        self._seen_count += 1
        return cast("bytes", data)

    async def _write(self, data: bytes) -> None:
        try:
            await self._send({"type": "websocket.send", "bytes": data})
        except Exception as error:
            # ASGI servers raise classes of their own here; each means that the connection is gone.
            raise TransportError(f"cannot send: {str(error) or type(error).__name__}") from error

    def _on_written(self) -> None:
        assert self._port is not None, "nothing is written before Hello"
        self._port.release()

    def _give_up(self, reason: str) -> None:
        _logger.warning("giving up %s: %s", self._name(), reason)
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        if not self._end.done():
            self._end.set_result(reason)

    def _detach(self, reason: str) -> None:
        port = self._port
        if port is None:
            return
        port.close(reason)
        if self._is_attached:
            self._is_attached = False
            self._registry.detach_worker(port)
        key = (port.deployment_name, port.instance)
        if self._sessions.get(key) is self:
            del self._sessions[key]

    async def _close(self, code: int) -> None:
        """Say goodbye, if the worker still listens."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                if self._last_frame is not None:
                    await self._write(wire.encode([self._last_frame]))
                await self._send({"type": "websocket.close", "code": code})
        except Exception as error:
            _logger.debug("could not say goodbye to a worker: %r", error)

    def _name(self) -> str:
        if self._port is None:
            return "a worker"
        return f"worker {self._port.instance!r} of {self._port.deployment_name!r}"


async def _reject(scope: Scope, send: Send, status: int, refusal: wire.Refused) -> None:
    """Answer the handshake with an HTTP error, where the server can do that."""
    extensions = cast("Mapping[str, object]", scope.get("extensions") or {})
    if "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    body = msgspec.json.encode({"code": refusal.code, "message": refusal.message})
    await send({"type": "websocket.http.response.body", "body": body})


async def _answer_http(send: Send) -> None:
    """Tell whoever comes without WebSocket what this path is for."""
    headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
    await send({"type": "http.response.start", "status": 426, "headers": headers})
    await send({"type": "http.response.body", "body": b"Workers connect here by WebSocket.\n"})
