"""Reading the stream of an invocation: chunk by chunk, over lost connections and restarts."""

from __future__ import annotations

import asyncio
import base64
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, overload

import msgspec

from holdfast.domain.errors import StorageUnavailable, TransportError, UsageError
from holdfast.domain.message import Failure
from holdfast.domain.stream_name import STREAM_DEFAULT, checked_stream_name
from holdfast.sdk.exchange import Exchange, Reply, invoking, value_of
from holdfast.sdk.handler import Handler
from holdfast.sdk.invocation import Invocation, result_serde
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.serde import Serde
from holdfast.sdk.sse import SentEvent

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")

PATIENCE_S = 60.0
"""How long a server may be away before a reader gives up."""
OPENED = "open"
"""Kind of the event, made up by the client, that says which invocation it is."""

_RETRY_DELAY_S_MIN = 0.05
_RETRY_DELAY_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a stream."""

    value: Any
    """A str for text, or what was emitted as JSON."""
    id: str
    """Its place: `{number}-{lane}`."""

    @property
    def lane(self) -> int:
        """What is forgotten together: what one run of a step, or one task of a handler, wrote."""
        return int(self.id.rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Replaced:
    """Forget all chunks of a lane: the step that wrote them is run again."""

    lane: int
    id: str


class Watch(NamedTuple):
    """What is to be read."""

    exchange: Exchange | None
    """Makes the invocation; None: it is there."""
    invocation_id: str
    stream: str
    last_id: str = ""
    """Of the last event that came."""


ReadEvents = Callable[[Watch], AsyncGenerator[SentEvent]]
"""See `StreamingClient._events`."""


class _Failure(msgspec.Struct):
    """A failure, in an event."""

    code: int
    message: str
    metadata: dict[str, str] | None = None


class _End(msgspec.Struct):
    """How an invocation has ended."""

    result: msgspec.Raw = msgspec.Raw(b"")
    base64: str | None = None
    error: _Failure | None = None


class InvocationStream(Generic[O]):
    """The stream of an invocation: iterate over it, then ask for the result.

    Goes on where it was when a connection is lost or the server starts again.

    Example:
        async for event in client.stream(run, "Hello"):
            match event:
                case Chunk(value=str() as text):
                    print(text, end="")
                case Replaced():
                    ...
    """

    def __init__(self, read: ReadEvents, watch: Watch, serde: Serde[Any]) -> None:
        self.invocation_id = watch.invocation_id
        """Known from the first event on."""
        self.last_id = watch.last_id
        """Of the last event that was handed out; pass it to `read_stream` to go on behind it."""
        self._read = read
        self._watch = watch
        self._serde = serde
        self._end: _End | None = None
        self._events = self._run()

    def __aiter__(self) -> InvocationStream[O]:
        return self

    async def __anext__(self) -> Chunk | Replaced:
        return await anext(self._events)

    async def aclose(self) -> None:
        """Leave. The invocation goes on."""
        await self._events.aclose()

    async def result(self) -> O:
        """Read to the end, without looking at what comes, and return the result.

        Raises:
            TerminalError: The invocation failed.
            HoldfastError: As when iterating.
        """
        async for _ in self._events:
            pass
        end = self._end
        if end is None:
            raise UsageError(
                f"The stream of {self.invocation_id} was closed before its end", code="HF0507"
            )
        reply = Reply(result=_result_of(end), invocation_id=self.invocation_id)
        value: O = value_of(reply, self._serde)
        return value

    async def _run(self) -> AsyncGenerator[Chunk | Replaced]:
        clock = asyncio.get_running_loop().time
        failure_count, heard_s = 0, clock()
        while self._end is None:
            try:
                async with aclosing(self._read(self._next())) as events:
                    async for event in events:
                        failure_count, heard_s = 0, clock()
                        found = self._take(event)
                        if found is not None:
                            yield found
            except (TransportError, StorageUnavailable):
                if not self._is_repeatable() or clock() - heard_s > PATIENCE_S:
                    raise
            if self._end is None:
                failure_count += 1
                longest_s = min(_RETRY_DELAY_S_MAX, _RETRY_DELAY_S_MIN * 2 ** min(failure_count, 8))
                # Jitter: the readers of a server that restarts must not all come back at once.
                await asyncio.sleep(random.uniform(longest_s / 2, longest_s))

    def _next(self) -> Watch:
        if not self.invocation_id:
            return self._watch
        return Watch(None, self.invocation_id, self._watch.stream, self.last_id)

    def _is_repeatable(self) -> bool:
        exchange = self._watch.exchange
        is_known = bool(self.invocation_id) or exchange is None
        return is_known or (exchange is not None and exchange.idempotency_key is not None)

    def _take(self, event: SentEvent) -> Chunk | Replaced | None:
        if event.kind == OPENED:
            self.invocation_id = event.data.decode()
            return None
        if event.kind == "end":
            self._end = msgspec.json.decode(event.data, type=_End)
            return None
        self.last_id = event.id
        if event.kind == "replace":
            return Replaced(int(event.id.rpartition("-")[2]), event.id)
        return Chunk(msgspec.json.decode(event.data), event.id)


class StreamingClient(ABC):
    """What clients can do about streams, apart from how it travels."""

    @abstractmethod
    def _events(self, watch: Watch) -> AsyncGenerator[SentEvent]:
        """Read events of a stream, the first of kind `OPENED`.

        An end without the event `end` means that the connection was lost.

        Raises:
            UsageError: The request cannot work.
            NotFoundError: There is no such service, handler or invocation.
            TransportError, StorageUnavailable: The server was not reached, or stops.
        """

    @overload
    def stream(
        self,
        handler: Handler[None, O],
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        stream: str = STREAM_DEFAULT,
    ) -> InvocationStream[O]: ...

    @overload
    def stream(
        self,
        handler: Handler[I, O],
        arg: I,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        stream: str = STREAM_DEFAULT,
    ) -> InvocationStream[O]: ...

    @overload
    def stream(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        stream: str = STREAM_DEFAULT,
    ) -> InvocationStream[Any]: ...

    def stream(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
        stream: str = STREAM_DEFAULT,
    ) -> InvocationStream[Any]:
        """Invoke a handler and read what it emits; it begins when the stream is iterated over.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object.
            idempotency_key: Makes a repeated request the same invocation. Without one, a request
                whose answer was lost is not repeated.
            headers: Seen by the handler as `ctx.headers`.
            retry: For failed attempts of that invocation, instead of its handler's policy.
            stream: Which of its streams.

        Raises:
            UsageError: HF0562, no name for a stream.
            HoldfastError: While it is iterated over; see `call`.
        """
        exchange, serde = invoking(
            "call", handler, arg, type, key, None, idempotency_key, headers, retry
        )
        return InvocationStream(
            self._events, Watch(exchange, "", checked_stream_name(stream)), serde
        )

    @overload
    def read_stream(
        self, invocation_id: Invocation[T], /, *, stream: str = STREAM_DEFAULT, last_id: str = ""
    ) -> InvocationStream[T]: ...

    @overload
    def read_stream(
        self,
        invocation_id: str,
        /,
        *,
        stream: str = STREAM_DEFAULT,
        last_id: str = "",
        type: Any = None,
    ) -> InvocationStream[Any]: ...

    def read_stream(
        self,
        invocation_id: str,
        /,
        *,
        stream: str = STREAM_DEFAULT,
        last_id: str = "",
        type: Any = None,
    ) -> InvocationStream[Any]:
        """Read what an invocation emits, and has emitted.

        Args:
            last_id: Id of the last event that is known; empty: from the beginning.
            stream: Which of its streams.
            type: Of the result.
        """
        watch = Watch(None, str(invocation_id), checked_stream_name(stream), last_id)
        return InvocationStream(self._events, watch, result_serde(invocation_id, type))


def _result_of(end: _End) -> bytes | Failure:
    if end.error is not None:
        return Failure(end.error.code, end.error.message, end.error.metadata)
    if end.base64 is not None:
        return base64.b64decode(end.base64)
    content = bytes(end.result)
    return b"" if content == b"null" else content
