"""The handlers' end of one attempt over HTTP: request in, response out, both at once if need be.

    opening    Start and the journal are read; what is wrong with them is refused with a status
    open       frames of the request → the attempt; its messages → the response
    ending     the last message is out: the request is read to its end, then the response ends
    over       nothing of the attempt is left on the loop

Whether the peer still sends when the attempt begins makes no difference: at the end of the request
a handler that waits suspends. In request/response mode that is at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from holdfast.domain.errors import HoldfastError, RemoteProtocolError
from holdfast.domain.message import (
    Completion,
    End,
    Entry,
    Error,
    FromHandler,
    Notification,
    Signal,
    Start,
    Suspension,
)
from holdfast.protocol.restate.codec import Codec, CommandAck, RunAck
from holdfast.protocol.restate.frame import PAYLOAD_SIZE_MAX, FrameDecoder
from holdfast.protocol.restate.version import invocation_media_type
from holdfast.transport.base import HandlerPort, HandlerStream

_logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JOURNAL_SIZE_BYTES_MAX = 1024 * 1024 * 1024
JOURNAL_ENTRIES_MAX = 1_000_000
BACKLOG_SIZE_BYTES_MAX = 2 * PAYLOAD_SIZE_MAX
"""An attempt for which more than this waits, because its peer does not read, is given up."""
LINGER_TIMEOUT_S = 5.0
"""How long a peer may take to end its request after the last message."""

_CODE_USER = 500
_CODE_PROTOCOL = 571


class JournalTooLarge(HoldfastError):
    """The journal of an attempt is beyond what is taken. Answer 413."""

    code = "HF1381"


class Request:
    """The request's body, as it comes."""

    def __init__(self, receive: Receive) -> None:
        self.has_ended = False
        self.is_gone = False
        """The client has hung up."""
        self._receive = receive

    async def read(self) -> bytes:
        """Return the next piece; what it means that there is none, the attributes say."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.has_ended = self.is_gone = True
            return b""
        self.has_ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        return data

    async def read_to_end(self) -> None:
        """Drop the rest.

        Servers of HTTP/2 forget a stream with the end of its response, and trip over what its
        client still sends.
        """
        try:
            async with asyncio.timeout(LINGER_TIMEOUT_S):
                while not self.has_ended:
                    await self.read()
        except TimeoutError:
            pass  # It had its time; the response ends all the same.


class Target(NamedTuple):
    """What a request invokes, and in which version of the protocol."""

    service: str
    handler: str
    codec: Codec


class HandlerExchange:
    """One attempt (`ServerStream`). `run` carries it."""

    def __init__(
        self,
        port: HandlerPort,
        target: Target,
        request: Request,
        send: Send,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._port = port
        self._target = target
        self._codec = target.codec
        self._request = request
        self._send = send
        self._headers = headers
        self._decoder = FrameDecoder()
        self._handler: HandlerStream | None = None
        self._loop = asyncio.get_running_loop()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._has_ended = False
        """The last message of the handler is known."""
        self._is_draining = False
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Carry the attempt from its first byte to its last.

        Raises:
            RemoteProtocolError: Before the response has begun: the journal cannot be read.
            JournalTooLarge: The same.
        """
        opening = await self._read_journal()
        if opening is None:
            return
        self._handler = self._port.open(*opening, self)
        if self._is_draining:
            self._handler.close_input()
        reader = self._loop.create_task(self._read(self._handler))
        try:
            await self._send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [
                        (b"content-type", invocation_media_type(self._codec.version).encode()),
                        *self._headers,
                    ],
                }
            )
            await self._write()
        except OSError:
            # How some servers say that the client has hung up.
            _logger.debug("the client of an attempt has hung up")
        finally:
            self._handler.abort()
            reader.cancel()
            await asyncio.wait([reader, self._closed])

    def drain(self) -> None:
        """Let the attempt end where it has to wait."""
        self._is_draining = True
        if self._handler is not None:
            self._handler.close_input()

    def stop(self) -> None:
        """End the attempt; it does not count as a failed one."""
        self._break(Error(_CODE_USER, "the endpoint stops", next_retry_delay_ms=0))

    # -- ServerStream -----------------------------------------------------------------------------

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """See `ServerStream`."""
        if self._has_ended:
            return
        for message in messages:
            try:
                self._put(self._codec.encode(message))
            except HoldfastError as error:
                # The attempt is inside a call of its own, and must not be called from there.
                failure = Error(_CODE_USER, f"{error.message} [{error.code}]")
                self._loop.call_soon(self._break, failure)
                return
            if isinstance(message, Suspension | Error | End):
                self._has_ended = True
                break
        if self._unsent_size > BACKLOG_SIZE_BYTES_MAX:
            self._loop.call_soon(self._give_up)
        self._woken.set()

    def on_closed(self, reason: str | None) -> None:
        """See `ServerStream`."""
        if not self._closed.done():
            self._closed.set_result(None)
        self._woken.set()

    # -- the request ------------------------------------------------------------------------------

    async def _read_journal(self) -> tuple[Start, list[Entry]] | None:
        """Read what an attempt begins with. None: the client has hung up meanwhile."""
        start: Start | None = None
        entries: list[Entry] = []
        size = 0
        while True:
            while (frame := self._decoder.next_frame()) is not None:
                if start is None:
                    start = self._codec.decode_start(
                        frame, self._target.service, self._target.handler
                    )
                    start = replace(start, has_extensions=False)
                    _check_count(start)
                else:
                    entry = self._codec.decode_from_server(frame)
                    if isinstance(entry, CommandAck | RunAck):
                        raise _misplaced(f"{type(entry).__name__} inside of the journal")
                    entries.append(entry)
                if len(entries) == start.known_entries:
                    return start, entries
            if self._request.is_gone:
                return None
            if self._request.has_ended:
                expected = "Start" if start is None else f"{start.known_entries} entries"
                raise RemoteProtocolError(
                    f"The request ended after {len(entries)} entries of the journal; expected "
                    f"{expected}",
                    code="HF1380",
                    hint="The connection was cut, or something between server and handlers cuts "
                    "large requests.",
                )
            data = await self._request.read()
            size += len(data)
            if size > JOURNAL_SIZE_BYTES_MAX:
                raise _too_large(f"more than {JOURNAL_SIZE_BYTES_MAX} bytes")
            self._decoder.feed(data)

    async def _read(self, handler: HandlerStream) -> None:
        """Hand on what comes while the attempt runs, until the client hangs up."""
        data = b""
        while not self._request.is_gone:
            self._take_in(data, handler)
            data = await self._request.read()
        self._give_up()

    def _take_in(self, data: bytes, handler: HandlerStream) -> None:
        if self._request.has_ended:
            self._woken.set()
        if self._has_ended:
            return
        try:
            self._decoder.feed(data)
            self._take(handler)
            if self._request.has_ended:
                self._decoder.end()
                handler.close_input()
        except RemoteProtocolError as error:
            self._break(Error(_CODE_PROTOCOL, f"{error.message} [{error.code}]"))
        except Exception:
            # A bug of ours, and no reason to leave the server without an answer.
            _logger.exception("an attempt over HTTP failed")
            self._give_up()

    def _take(self, handler: HandlerStream) -> None:
        notifications: list[Notification] = []
        while (frame := self._decoder.next_frame()) is not None:
            entry = self._codec.decode_from_server(frame)
            if isinstance(entry, Completion | Signal):
                notifications.append(entry)
            elif not isinstance(entry, CommandAck | RunAck):
                raise _misplaced(f"{type(entry).__name__} behind the journal")
        if notifications:
            handler.send(notifications)

    # -- the response -----------------------------------------------------------------------------

    async def _write(self) -> None:
        while not self._request.is_gone:
            if self._unsent:
                data = b"".join(self._unsent)
                self._unsent.clear()
                self._unsent_size = 0
                is_last = self._has_ended and self._request.has_ended
                await self._send(
                    {"type": "http.response.body", "body": data, "more_body": not is_last}
                )
                if is_last:
                    return
            elif self._has_ended or self._closed.done():
                await self._linger()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            else:
                self._woken.clear()
                await self._woken.wait()

    async def _linger(self) -> None:
        """Wait until the request has ended, which the reader sees."""
        deadline = self._loop.time() + LINGER_TIMEOUT_S
        while not self._request.has_ended and (rest := deadline - self._loop.time()) > 0:
            self._woken.clear()
            try:
                async with asyncio.timeout(rest):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _put(self, data: bytes) -> None:
        self._unsent.append(data)
        self._unsent_size += len(data)

    def _break(self, error: Error) -> None:
        """End the attempt with an error that is not the handler's."""
        if not self._has_ended:
            self._has_ended = True
            self._put(self._codec.encode(error))
            self._give_up()

    def _give_up(self) -> None:
        self._woken.set()
        if self._handler is not None:
            self._handler.abort()


def _check_count(start: Start) -> None:
    if start.known_entries < 1:
        raise _misplaced("Start without entries")
    if start.known_entries > JOURNAL_ENTRIES_MAX:
        raise _too_large(f"{start.known_entries} entries")


def _misplaced(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"The server sent {what}", code="HF1322")


def _too_large(size: str) -> JournalTooLarge:
    return JournalTooLarge(
        f"The journal has {size}; at most {JOURNAL_ENTRIES_MAX} entries and "
        f"{JOURNAL_SIZE_BYTES_MAX} bytes are taken",
        hint="Split the work into several invocations.",
    )
