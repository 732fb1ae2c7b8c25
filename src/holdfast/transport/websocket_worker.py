"""The worker's side of the worker socket: dials in to a server and keeps coming back.

    dial → Hello → Welcome → frames both ways → lost: abort what is open, dial again
                                              → stop: drain and leave
           → Refused, now or later: raise, since dialling again would change nothing

Whatever an attempt had not handed over when a connection was lost is lost with it; the server
starts the attempt again from its journal, here or elsewhere.

To drain, the worker says so and closes the input of its open attempts. Those that wait suspend at
once, those in the middle of a step finish it first. Nothing is repeated, and nobody has to wait for
an attempt that would sleep for a week.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from importlib import metadata
from typing import TypeVar, assert_never
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from holdfast.domain.errors import HoldfastError, RemoteProtocolError, TransportError, UsageError
from holdfast.domain.message import FromHandler, ToHandler
from holdfast.protocol import frame as wire
from holdfast.transport.base import HandlerPort, HandlerStream
from holdfast.transport.outbox import Outbox, Pulse
from holdfast.transport.websocket_worker_end import WorkerEnd

T = TypeVar("T")

_logger = logging.getLogger(__name__)

DRAIN_GRACE_S = 30.0
"""How long open attempts may finish what they are doing before they are aborted."""

_RETRY_DELAY_S_MIN = 0.05
_RETRY_DELAY_S_MAX = 2.0
_OPEN_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 1.0
_BACKLOG_SIZE_BYTES_MAX = 2 * wire.MESSAGE_SIZE_BYTES_MAX
"""When more than this waits for a server that does not read, the connection is given up."""
_FATAL_STATUSES = (400, 401, 403, 404, 405, 426)
"""Answers to the handshake that dialling again will not change."""


async def run_worker(
    port: HandlerPort,
    url: str,
    *,
    instance: str,
    token: str | None = None,
    on_ready: Callable[[str], None] | None = None,
    stop: asyncio.Event,
    drain_grace_s: float = DRAIN_GRACE_S,
) -> None:
    """Run the attempts that a server sends, until told to stop.

    Dials again for ever when the connection is lost; says so in the log once, not at each try.

    Args:
        port: What runs the attempts.
        url: Admin address of the server: `http://`, `https://`, `ws://` or `wss://`.
        instance: Name of this worker process. A server knows one worker of a name; of two, the one
            that came last stays, and the other one ends with HF1305.
        token: Sent as `Authorization: Bearer`.
        on_ready: Called with the deployment id each time the server has taken this worker.
        stop: When set, open attempts are drained and this call returns.
        drain_grace_s: How long that may take.

    Raises:
        UsageError: HF1206, the URL is not one; HF1302 and HF1304, the server does not let this
            worker in, or is none; HF1303 and others, the server refuses it.
    """
    worker = _Worker(port, worker_url(url), instance, token, on_ready, stop, drain_grace_s)
    await worker.run()


def worker_url(url: str) -> str:
    """Return the URL of the worker socket of a server.

    Raises:
        UsageError: HF1206, not an http or ws URL with a host.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not host:
        raise UsageError(
            f"{url!r} is not the URL of a server",
            code="HF1206",
            hint="Give its admin address, for example http://127.0.0.1:9070",
        )
    path = parts.path.rstrip("/").removesuffix(wire.PATH)
    return f"{scheme}://{parts.netloc}{path}{wire.PATH}"


class _Worker:
    """Dials, and dials again."""

    def __init__(
        self,
        port: HandlerPort,
        url: str,
        instance: str,
        token: str | None,
        on_ready: Callable[[str], None] | None,
        stop: asyncio.Event,
        drain_grace_s: float,
    ) -> None:
        self._port = port
        self._url = url
        self._instance = instance
        self._token = token
        self._on_ready = on_ready
        self._stop = stop
        self._drain_grace_s = drain_grace_s
        self._failure_count = 0
        self._is_away = False

    async def run(self) -> None:
        """Serve connections, one after another, until stopped or refused."""
        while not self._stop.is_set():
            try:
                await self._connect_and_serve()
            except InvalidStatus as error:
                if error.response.status_code in _FATAL_STATUSES:
                    raise _refusal_of(error, self._url) from error
                self._note_absence(error)
            except (
                OSError,
                ConnectionClosed,
                InvalidHandshake,
                RemoteProtocolError,
                TransportError,
            ) as error:
                self._note_absence(error)
            await self._back_off()

    async def _connect_and_serve(self) -> None:
        socket = await _unless_set(self._stop, self._dial())
        if socket is None:
            return
        try:
            connection = _Connection(self._port, socket)
            hello = connection.introduce(self._hello())
            deployment_id = await _unless_set(self._stop, hello)
            if deployment_id is not None:
                self._note_presence(deployment_id)
                await connection.carry(self._stop, self._drain_grace_s)
        finally:
            await socket.close()

    async def _dial(self) -> WorkerEnd:
        socket = await connect(
            self._url,
            create_connection=WorkerEnd,
            subprotocols=[Subprotocol(wire.SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {self._token}"} if self._token else None,
            compression=None,
            max_size=wire.MESSAGE_SIZE_BYTES_MAX,
            ping_interval=None,  # The pings are ours, see Pulse.
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            proxy=None if _is_loopback(self._url) else True,
        )
        assert isinstance(socket, WorkerEnd), "it was asked for"
        socket.begin()
        return socket

    def _hello(self) -> wire.Hello:
        return wire.Hello(
            version=wire.SOCKET_VERSION,
            deployment_name=self._port.deployment_name,
            instance=self._instance,
            sdk=f"holdfast/{metadata.version('holdfast')}",
            manifest=self._port.manifest,
        )

    def _note_presence(self, deployment_id: str) -> None:
        self._failure_count = 0
        self._is_away = False
        _logger.info("connected to %s", self._url, extra={"deployment_id": deployment_id})
        if self._on_ready is not None:
            self._on_ready(deployment_id)

    def _note_absence(self, error: Exception) -> None:
        self._failure_count += 1
        if not self._is_away and not self._stop.is_set():
            self._is_away = True
            said = error.message if isinstance(error, HoldfastError) else str(error)
            reason = said or type(error).__name__
            _logger.warning("no connection to %s (%s); will keep trying", self._url, reason)

    async def _back_off(self) -> None:
        longest_s = min(_RETRY_DELAY_S_MAX, _RETRY_DELAY_S_MIN * 2 ** min(self._failure_count, 16))
        # Jitter: the workers of a server that restarts must not all come back at once.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(longest_s / 2, longest_s)):
                await self._stop.wait()


class _Connection:
    """One connection: the streams of the attempts that run over it."""

    def __init__(self, port: HandlerPort, socket: WorkerEnd) -> None:
        self._port = port
        self._socket = socket
        self._seen_count = 0
        """Messages that came through `recv`."""
        self._outbox = Outbox(socket.send, _nothing, socket)
        self._pulse = Pulse(self._outbox)
        self._streams: dict[int, _WorkerStream] = {}
        self._last_number = 0
        self._is_draining = False
        loop = asyncio.get_running_loop()
        self._idle: asyncio.Future[None] = loop.create_future()
        self._end: asyncio.Future[None] = loop.create_future()
        """Fails when the connection cannot go on."""

    async def introduce(self, hello: wire.Hello) -> str:
        """Say Hello and return the deployment id that the server answers with.

        Raises:
            UsageError: The server refuses this worker.
        """
        await self._socket.send(wire.encode([hello]))
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                data = await self._recv()
        except TimeoutError:
            raise TransportError(f"no Welcome within {_OPEN_TIMEOUT_S:.0f} s") from None
        frames = wire.decode_to_worker(data)
        welcome = frames[0] if len(frames) == 1 else None
        if isinstance(welcome, wire.Refused):
            raise _refused(welcome)
        if not isinstance(welcome, wire.Welcome):
            raise RemoteProtocolError("Expected one Welcome as the server's first message")
        return welcome.deployment_id

    async def carry(self, stop: asyncio.Event, drain_grace_s: float) -> None:
        """Run attempts until the connection is lost or, after `stop` was set, drained.

        Raises:
            TransportError: The server fell silent, or does not read.
            ConnectionClosed: The connection was lost.
            UsageError: The server sends this worker away.
        """
        parts = (self._read(), self._outbox.run(), self._watch())
        tasks = [asyncio.ensure_future(part) for part in parts]
        stopped = asyncio.ensure_future(_wait(stop))
        ends = [*tasks, stopped, self._end]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and not any(task.done() for task in tasks):
                await self._drain(tasks, drain_grace_s)
            for task in tasks:
                if task.done():
                    task.result()
            if self._end.done():
                self._end.result()
        finally:
            self._end.cancel()
            for task in (*tasks, stopped):
                task.cancel()
            await asyncio.gather(*tasks, stopped, return_exceptions=True)
            self._abort_all()

    def put(self, frame: bytes) -> None:
        """Send a frame; give the connection up when too much waits."""
        self._outbox.put(frame)
        size_bytes = self._outbox.size_bytes
        if size_bytes > _BACKLOG_SIZE_BYTES_MAX and not self._end.done():
            reason = f"the server does not read: {size_bytes} bytes wait for it"
            self._end.set_exception(TransportError(reason))

    def forget(self, stream: _WorkerStream) -> None:
        """Take out a stream that is over."""
        self._streams.pop(stream.number, None)
        if self._is_draining and not self._streams and not self._idle.done():
            self._idle.set_result(None)

    async def _drain(self, tasks: Sequence[asyncio.Future[None]], grace_s: float) -> None:
        _logger.info("draining %d open attempts", len(self._streams))
        self._is_draining = True
        self.put(wire.encode_frame(wire.Draining()))
        for stream in list(self._streams.values()):
            stream.drain()
        if self._streams:
            await asyncio.wait(
                [*tasks, self._idle], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED
            )
        if self._streams:
            _logger.warning(
                "aborting %d attempts that did not finish in time; they will be started again",
                len(self._streams),
            )
            self._abort_all()
        drained = asyncio.ensure_future(self._outbox.drained())
        await asyncio.wait(
            [*tasks, drained], timeout=_CLOSE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        drained.cancel()

    async def _watch(self) -> None:
        await self._pulse.run()
        raise TransportError("the server has been silent for too long")

    async def _read(self) -> None:
        while True:
            self._socket.take(self._on_data, self._seen_count)
            self._take_frames(await self._recv())

    async def _recv(self) -> bytes:
        data = await self._socket.recv(decode=False)
        self._seen_count += 1
        return data

    def _on_data(self, data: bytes) -> None:
        """Take a message past `recv`."""
        if self._end.done():
            return
        try:
            self._take_frames(data)
        except Exception as error:  # raised again where the end is awaited
            self._end.set_exception(error)

    def _take_frames(self, data: bytes) -> None:
        self._pulse.heard()
        for frame in wire.decode_to_worker(data):
            self._dispatch(frame)

    def _dispatch(self, frame: wire.ToWorker) -> None:
        match frame:
            case wire.Notify():
                stream = self._find(frame.stream)
                if stream is not None:
                    stream.send(frame.notifications)
            case wire.Open():
                self._open(frame)
            case wire.CloseInput():
                stream = self._find(frame.stream)
                if stream is not None:
                    stream.close_input()
            case wire.Abort():
                stream = self._find(frame.stream)
                if stream is not None:
                    stream.abort()
            case wire.Refused():
                raise _refused(frame)
            case wire.Welcome():
                raise RemoteProtocolError("A server says Welcome once")
            case _:
                assert_never(frame)

    def _open(self, frame: wire.Open) -> None:
        if frame.stream <= self._last_number:
            raise RemoteProtocolError(f"Stream {frame.stream} was opened twice")
        self._last_number = frame.stream
        stream = self._streams[frame.stream] = _WorkerStream(self, frame.stream)
        stream.begin(self._port, frame)
        if self._is_draining:
            stream.drain()

    def _find(self, number: int) -> _WorkerStream | None:
        if number > self._last_number:
            raise RemoteProtocolError(f"Stream {number} was never opened")
        return self._streams.get(number)

    def _abort_all(self) -> None:
        for stream in list(self._streams.values()):
            stream.abort()


class _WorkerStream:
    """Both ends of one attempt: the server's for the handler, the handler's for the connection."""

    def __init__(self, connection: _Connection, number: int) -> None:
        self.number = number
        self._connection = connection
        self._handler: HandlerStream | None = None
        self._is_input_closed = False
        self._is_draining = False
        self._is_over = False

    # Called by the connection.

    def begin(self, port: HandlerPort, frame: wire.Open) -> None:
        """Open the attempt at the port."""
        try:
            self._handler = port.open(frame.start, frame.entries, self)
        except Exception:
            _logger.exception("failed to open an attempt")
            self.on_closed("the worker failed to open the attempt; see its log")

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """Pass notifications on, unless it drains."""
        if self._handler is not None and not self._is_draining:
            self._handler.send(notifications)

    def close_input(self) -> None:
        """Tell the handler to suspend when it waits. Idempotent."""
        if self._handler is not None and not self._is_input_closed:
            self._is_input_closed = True
            self._handler.close_input()

    def drain(self) -> None:
        """Let the steps that run now end, and no others begin: results would lead to more.

        From here on nothing is passed on, not even a cancellation: it must not overtake a result.
        """
        self._is_draining = True
        self.close_input()

    def abort(self) -> None:
        """Stop the attempt; say nothing more about it to the server."""
        self._is_over = True
        self._connection.forget(self)
        if self._handler is not None:
            self._handler.abort()

    # Called by the handler.

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """See `ServerStream`."""
        if self._is_over:
            return
        try:
            frame = wire.encode_frame(wire.Messages(self.number, wire.encode_messages(messages)))
        except (msgspec.EncodeError, OverflowError, TypeError, ValueError) as error:
            self._fail(f"a message of the handler cannot be encoded: {error}")
            return
        if len(frame) > wire.FRAME_SIZE_BYTES_MAX:
            self._fail(
                f"messages of {len(frame)} bytes do not fit into the worker socket, "
                f"which carries at most {wire.FRAME_SIZE_BYTES_MAX} at once"
            )
            return
        self._connection.put(frame)

    def on_closed(self, reason: str | None) -> None:
        """See `ServerStream`."""
        if not self._is_over:
            self._is_over = True
            self._connection.put(wire.encode_frame(wire.Closed(self.number, reason)))
            self._connection.forget(self)

    def _fail(self, reason: str) -> None:
        _logger.error("giving up an attempt: %s", reason)
        self.on_closed(reason)
        # Later: the handler is inside a call of its own.
        asyncio.get_running_loop().call_soon(self.abort)


async def _unless_set(stop: asyncio.Event, work: Coroutine[object, object, T]) -> T | None:
    """Return what `work` returns, or None as soon as `stop` is set."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(_wait(stop))
    try:
        ends: list[asyncio.Future[T] | asyncio.Future[None]] = [task, stopped]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        task.cancel()


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


def _refused(frame: wire.Refused) -> UsageError:
    return UsageError(frame.message, code=frame.code)


def _refusal_of(error: InvalidStatus, url: str) -> HoldfastError:
    """Turn an answer to the handshake into what the person who started the worker needs to know."""
    status = error.response.status_code
    try:
        refusal = msgspec.json.decode(error.response.body or b"", type=_Refusal)
    except msgspec.DecodeError:
        return UsageError(
            f"{url} answered {status}, and not as a Holdfast server",
            code="HF1304",
            hint="Give the admin address of the server (port 9070 by default), not its ingress",
        )
    hint = "Set HOLDFAST_TOKEN to the server's token" if status == 401 else ""
    return UsageError(refusal.message, code=refusal.code, hint=hint)


class _Refusal(msgspec.Struct):
    """Body of a handshake that a Holdfast server refused."""

    code: str
    message: str


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _nothing() -> None:
    """Nothing waits for the worker's messages to leave."""
