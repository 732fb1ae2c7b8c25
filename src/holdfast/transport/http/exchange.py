"""One attempt as one HTTP exchange: request out, response in, both at once where the peer can.

    sending                Start, the journal, then notifications → the body of the request
    waiting for headers    a request that was not looked at is sent again, on another connection;
                           a peer that breaks connections and stays silent is told that no more
                           comes
    reading                frames of the response → the server; malformed ones end this attempt only
    draining               after the last message; what else comes is not looked at

Whoever gives up first tells the other side: `abort` resets the stream, and the server hears nothing
of it any more; all else ends in one call of `on_closed` or `on_refused`. A cancellation that comes
when the request has ended cannot reach this attempt, so the server is asked for another one.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from holdfast.domain.address import url_of
from holdfast.domain.deployment import Endpoint
from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import (
    KIND_RUN,
    SIGNAL_CANCEL,
    Completion,
    Emitted,
    End,
    Entry,
    Error,
    FromHandler,
    Notification,
    ProposeRunCompletion,
    Signal,
    Start,
    Suspension,
    ToHandler,
)
from holdfast.protocol.restate.codec import AwaitingOn, Codec, CommandAck, RunAck
from holdfast.protocol.restate.frame import PAYLOAD_SIZE_MAX, FrameDecoder
from holdfast.protocol.restate.version import invocation_media_type
from holdfast.transport.base import AttemptStream, Refusal, Sign
from holdfast.transport.http.client import (
    Body,
    Connection,
    Failure,
    Pool,
    failure_of,
    new_request,
)

if TYPE_CHECKING:
    import pyqwest

_logger = logging.getLogger(__name__)

RESEND_MAX = 3
"""How often a request that the peer has not looked at is sent again at once."""
SILENCE_TIMEOUT_S = 2.0
"""How long a request stays open for a suspect peer that does not begin to answer.

A peer that gives up a connection (hypercorn, after its number of requests) breaks what is open on
it, or answers nothing more and notices only when something comes. What can always come is the end
of the request. Handlers that are only slow then suspend at their next wait, so others are spared.
"""
DRAIN_TIMEOUT_S = 5.0
"""How long a peer may take to end its response after its last message."""
BACKLOG_SIZE_BYTES_MAX = 2 * PAYLOAD_SIZE_MAX
"""An attempt for which more than this waits, because its peer does not read, is given up."""
STUCK_SIZE_BYTES = 256 * 1024
"""An exchange that ends while more than this waits had a peer that does not read."""
UNRECORDED_SIZE_BYTES_MAX = 256 * 1024
"""After so much of a response, what it said is recorded before more is read."""

_RETRY_AFTER_MS_MAX = 86_400_000


class Reach(NamedTuple):
    """How an attempt gets to its endpoint."""

    endpoint: Endpoint
    pool: Pool
    sign: Sign | None = None


class Exchange:
    """The handler's end of one attempt (`HandlerStream`). `run` carries it.

    Raises:
        LocalProtocolError: The journal cannot be sent.
    """

    def __init__(
        self,
        reach: Reach,
        codec: Codec,
        start: Start,
        entries: Sequence[Entry],
        server: AttemptStream,
    ) -> None:
        self._reach = reach
        self._codec = codec
        self._start = start
        self._server = server
        self._is_silent = False
        """The server has been told the end, or does not want to hear it."""
        self._has_ended = False
        """The last message of the handler has come."""
        self._is_input_closed = not reach.endpoint.is_bidirectional
        self._decoder = FrameDecoder()
        self._command_count = sum(not isinstance(entry, Completion | Signal) for entry in entries)
        self._unrecorded_size = 0
        self._acknowledged: set[int] = set()
        """Completion ids of steps whose results the handler does not want back."""
        self._sent: list[bytes] | None = []
        """What was sent, while it may have to be sent again."""
        self._body = Body()
        self.task: asyncio.Task[None] | None = None
        # At once, and not when `run` begins: notifications may come first.
        self._put(self._codec.encode_start(start))
        for entry in entries:
            self._put(self._codec.encode(entry))
        if self._is_input_closed:
            self._body.end()

    # -- HandlerStream ----------------------------------------------------------------------------

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`. Behind `close_input` they wait in the journal."""
        if self._is_silent:
            return
        if self._is_input_closed:
            if any(isinstance(n, Signal) and n.index == SIGNAL_CANCEL for n in notifications):
                # The server is inside a call of its own, and must not be called from there.
                asyncio.get_running_loop().call_soon(self._tell_unheard)
            return
        try:
            for notification in notifications:
                assert not isinstance(notification, Emitted), "endpoints have no streams"
                self._put(self._encode(notification))
        except HoldfastError as error:
            self._fail_later(f"{error.message} [{error.code}]")
            return
        if self._sent is None and self._body.size_bytes > BACKLOG_SIZE_BYTES_MAX:
            self._fail_later(
                f"the endpoint does not read: {self._body.size_bytes} bytes wait for it [HF1343]"
            )

    def _encode(self, notification: Notification) -> bytes:
        if isinstance(notification, Completion) and notification.kind == KIND_RUN:
            number = notification.completion_id
            if number in self._acknowledged:
                self._acknowledged.discard(number)
                return self._codec.encode_run_ack(RunAck(number))
        return self._codec.encode(notification)

    def close_input(self) -> None:
        """See `HandlerStream`."""
        self._is_input_closed = True
        self._body.end()

    def abort(self) -> None:
        """See `HandlerStream`."""
        self._is_silent = True
        if self.task is not None:
            self.task.cancel()

    def cut(self, reason: str) -> None:
        """End both sides."""
        self._close(reason)
        self.abort()

    def _put(self, data: bytes) -> None:
        if self._sent is not None:
            self._sent.append(data)
        self._body.put(data)

    def _fail_later(self, reason: str) -> None:
        # As above: not from inside a call of the server.
        asyncio.get_running_loop().call_soon(self.cut, reason)

    def _tell_unheard(self) -> None:
        if not self._is_silent:
            self._server.on_unheard()

    # -- the exchange -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Carry the attempt from its first byte to its last. Raises nothing but cancellation."""
        try:
            await self._exchange()
        except HoldfastError as error:
            self._close(f"{error.message} [{error.code}]")
        except Exception:
            # A bug of ours, and no reason to leave the server without an answer.
            _logger.exception("an attempt over HTTP failed")
            self._close("the server failed to carry the attempt; see its log")

    async def _exchange(self) -> None:
        failure = Failure("", False, False)
        for _ in range(1 + RESEND_MAX):
            connection = self._reach.pool.take()
            try:
                response = await self._ask(connection)
                async with response:
                    await self._read(response)
                return
            except HoldfastError:
                raise
            except Exception as error:
                failure = failure_of(error)
                if failure.is_break:
                    self._reach.pool.note_break()
                if not failure.is_unprocessed or self._sent is None:
                    self._close(_told(failure))
                    return
                self._send_again(self._sent)
            finally:
                is_stuck = self._body.size_bytes > STUCK_SIZE_BYTES
                self._reach.pool.release(connection, is_stuck=is_stuck)
        self._refuse(
            f"the endpoint refuses requests without looking at them: {failure.text} [HF1345]",
            Refusal(503, is_counted=False),
        )

    async def _ask(self, connection: Connection) -> pyqwest.Response:
        """Send the request, and return the response when it begins."""
        request = self._request()
        if not self._reach.pool.is_suspect:
            return await connection.transport.execute(request)
        silence = asyncio.get_running_loop().call_later(SILENCE_TIMEOUT_S, self.close_input)
        try:
            return await connection.transport.execute(request)
        finally:
            silence.cancel()

    def _send_again(self, sent: list[bytes]) -> None:
        self._body = Body()
        for data in sent:
            self._body.put(data)
        if self._is_input_closed:
            self._body.end()

    def _request(self) -> pyqwest.Request:
        endpoint, start = self._reach.endpoint, self._start
        content_type = invocation_media_type(self._codec.version)
        headers = {
            **endpoint.headers,
            "content-type": content_type,
            "accept": content_type,
            "x-restate-invocation-id": start.invocation_id,
        }
        if start.key:
            headers["x-restate-service-key"] = quote(start.key, safe="")
        path = f"invoke/{start.service}/{start.handler}"
        if self._reach.sign is not None:
            headers.update(self._reach.sign(f"/{path}", start.key or None))
        url = url_of(endpoint.uri, path)
        if endpoint.is_bidirectional:
            return new_request("POST", url, headers, self._body)
        assert self._sent is not None
        return new_request("POST", url, headers, b"".join(self._sent))

    async def _read(self, response: pyqwest.Response) -> None:
        if self._check(response):
            # From here on the peer may have done something: it is not asked twice.
            self._sent = None
            async for chunk in response.content:
                await self._take(bytes(chunk))
                if self._has_ended:
                    break
            else:
                self._decoder.end()
                self._close("the endpoint ended its response without saying how the attempt ended")
        self._body.end()
        if self._has_ended:
            self._close(None)
            await _drain(response)

    def _check(self, response: pyqwest.Response) -> bool:
        """Whether the endpoint began to run the handler; if not, the server is told."""
        status = response.status
        where = f"POST /invoke/{self._start.service}/{self._start.handler}"
        if status == 200:
            expected = invocation_media_type(self._codec.version)
            found = str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()
            if found == expected:
                return True
            reason = f"the endpoint answered {where} with content type {found!r}"
            self._refuse(f"{reason}; expected {expected} [HF1342]", Refusal(500))
        elif status in (502, 504):
            self._close(f"a gateway before the endpoint answered {where} with {status} [HF1343]")
        elif status in (429, 503):
            refusal = Refusal(status, _retry_after_ms(response))
            self._refuse(f"the endpoint is overloaded: {where} → {status} [HF1345]", refusal)
        elif status == 415:
            reason = f"the endpoint does not speak version {self._codec.version}: {where} → 415"
            self._refuse(f"{reason} [HF1346]", Refusal(415, is_counted=False))
        elif status == 413:
            reason = f"the journal is too large for the endpoint: {where} → 413 [HF1347]"
            self._refuse(reason, Refusal(413))
        else:
            self._refuse(f"the endpoint answered {where} with {status} [HF1341]", Refusal(status))
        return False

    # -- messages ---------------------------------------------------------------------------------

    async def _take(self, chunk: bytes) -> None:
        """Hand on the messages that a piece of the response completes.

        Raises:
            RemoteProtocolError: One of them is malformed. Those before it were handed on.
        """
        self._decoder.feed(chunk)
        self._unrecorded_size += len(chunk)
        messages: list[FromHandler] = []
        acks: list[int] = []
        recorded: asyncio.Future[None] | None = None
        try:
            while not self._has_ended and (frame := self._decoder.next_frame()) is not None:
                message = self._codec.decode_from_handler(frame)
                if isinstance(message, AwaitingOn):
                    continue
                messages.append(message)
                if isinstance(message, Suspension | Error | End):
                    self._has_ended = True
                elif isinstance(message, ProposeRunCompletion):
                    # Older versions send the result back, whether it is asked for or not.
                    if frame.is_ack_requested and self._codec.version >= 7:
                        self._acknowledged.add(message.completion_id)
                else:
                    if frame.is_ack_requested:
                        acks.append(self._command_count)
                    self._command_count += 1
        finally:
            if messages:
                recorded = self._hand_on(messages, acks)
        if recorded is not None:
            await recorded

    def _hand_on(self, messages: list[FromHandler], acks: list[int]) -> asyncio.Future[None] | None:
        """Give messages to the server; what is returned is done when more should be read."""
        if self._is_silent:
            return None
        is_much = self._unrecorded_size > UNRECORDED_SIZE_BYTES_MAX and not self._has_ended
        if not acks and not is_much:
            self._server.on_messages(messages)
            return None
        recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def then() -> None:
            if not recorded.done():
                recorded.set_result(None)
            if not self._is_silent and not self._is_input_closed:
                for index in acks:
                    self._put(self._codec.encode_command_ack(CommandAck(index)))

        self._server.on_messages_recorded(messages, then)
        if not is_much:
            return None
        self._unrecorded_size = 0
        return recorded

    # -- the end ----------------------------------------------------------------------------------

    def _close(self, reason: str | None) -> None:
        self._say(lambda: self._server.on_closed(reason))

    def _refuse(self, reason: str, refusal: Refusal) -> None:
        self._say(lambda: self._server.on_refused(reason, refusal))

    def _say(self, word: Callable[[], None]) -> None:
        if self._is_silent:
            return
        self._is_silent = True
        try:
            word()
        except Exception:
            # A bug of ours, and no reason to leave the connection without its end.
            _logger.exception("failed to close an attempt")


def _told(failure: Failure) -> str:
    if not failure.is_connected:
        return f"the endpoint cannot be reached: {failure.text} [HF1340]"
    return f"the connection to the endpoint broke: {failure.text} [HF1343]"


def _retry_after_ms(response: pyqwest.Response) -> int | None:
    """Return the wait that a response asks for, at most a day."""
    text = str(response.headers.get("retry-after", "")).strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:10]) * 1000, _RETRY_AFTER_MS_MAX)
    try:
        # By the peer's own clock, which is the one that it means.
        until = email.utils.parsedate_to_datetime(text)
        now = email.utils.parsedate_to_datetime(str(response.headers.get("date", "")))
        wait_ms = int((until - now).total_seconds() * 1000)
    except (TypeError, ValueError, OverflowError):
        # No date, or one beyond what dates can be: as if there were none.
        return None
    return min(max(wait_ms, 0), _RETRY_AFTER_MS_MAX)


async def _drain(response: pyqwest.Response) -> None:
    """Read what comes after the last message, so that the connection can be used again."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            async for _ in response.content:
                pass
    except Exception as error:
        _logger.debug("an endpoint did not end its response: %r", error)
