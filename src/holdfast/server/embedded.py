"""Server and handlers in the caller's own process: no port, no second process, the same engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec

from holdfast.domain.errors import ConflictError, NotFoundError, TransportError, UsageError
from holdfast.domain.ids import IdError, parse_awakeable_id
from holdfast.domain.message import SIGNAL_CANCEL, Failure, Signal, Value, Void
from holdfast.domain.target import HandlerKind, Target
from holdfast.engine.decision import Reply as EngineReply
from holdfast.ingress.stream_format import RawFormat, outcome_json
from holdfast.sdk.app import App
from holdfast.sdk.client import ClientBase
from holdfast.sdk.exchange import Exchange, Reply
from holdfast.sdk.sse import SentEvent
from holdfast.sdk.stream_client import OPENED, Watch
from holdfast.server.app import open_store
from holdfast.server.clock import SystemClock
from holdfast.server.config import ServerConfig
from holdfast.server.handle import Finished, Request, ServerHandle
from holdfast.server.host import Host
from holdfast.transport.http.dialer import HttpDialer
from holdfast.transport.inprocess import InProcessPort

_REJECTED = 500
_PAUSE_S = 60.0


class EmbeddedClient(ClientBase):
    """A client of a server in the same process. Made by `embedded`."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    async def _exchange(self, exchange: Exchange) -> Reply:
        try:
            match exchange.verb:
                case "call":
                    return _reply(await self._handle.call(self._request(exchange)))
                case "send":
                    accepted = await self._handle.send(self._request(exchange))
                    return Reply(invocation_id=accepted.invocation_id, is_new=accepted.is_new)
                case "attach":
                    return _reply(await self._handle.attach(exchange.id))
                case "output":
                    finished = await self._handle.output(exchange.id)
                    if finished is None:
                        return Reply(invocation_id=exchange.id)
                    return _reply(finished)
                case "cancel":
                    return await self._cancel(exchange.id)
                case "resolve" | "reject":
                    return await self._complete(exchange)
                case "signal" | "reject_signal":
                    return await self._signal(exchange)
        except IdError as error:
            raise UsageError(f"{error}.", code="HF1003") from error

    async def _events(self, watch: Watch) -> AsyncGenerator[SentEvent]:
        invocation_id = watch.invocation_id
        if watch.exchange is not None:
            invocation_id = (await self._handle.send(self._request(watch.exchange))).invocation_id
        try:
            source = await self._handle.streams.open(invocation_id, watch.stream)
        except IdError as error:
            raise UsageError(f"{error}.", code="HF1003") from error
        after = int(watch.last_id.partition("-")[0] or 0)
        yield SentEvent("", OPENED, invocation_id.encode())
        try:
            while True:
                item = await source.next(after, _PAUSE_S)
                if isinstance(item, Finished):
                    ended = msgspec.json.encode(outcome_json(item.outcome))
                    yield SentEvent(f"{after}-end", "end", ended)
                    return
                for event in () if item is None else RawFormat.events(item):
                    yield SentEvent(*event)
                after = after if item is None else item.last_id
        finally:
            source.close()

    def _request(self, exchange: Exchange) -> Request:
        handler = self._handle.resolve(exchange.service, exchange.handler)
        if handler.manifest.is_private:
            raise UsageError(
                f"{exchange.service}/{exchange.handler} is private: only handlers may call it.",
                code="HF1015",
            )
        target = Target(exchange.service, exchange.handler, exchange.key)
        if exchange.idempotency_key is not None and handler.manifest.kind is HandlerKind.WORKFLOW:
            raise UsageError(
                f"{target} runs once per key, so it takes no idempotency key.", code="HF1041"
            )
        is_keyed = handler.manifest.kind is not HandlerKind.PLAIN
        if is_keyed and not exchange.key:
            raise UsageError(f"{exchange.service} needs a key.", code="HF2019")
        if not is_keyed and exchange.key is not None:
            raise UsageError(
                f"{exchange.service} takes no key, got {exchange.key!r}.", code="HF2020"
            )
        now_ms = self._handle.now_ms()
        start_ms = exchange.at_ms or now_ms + exchange.delay_ms
        return Request(
            target,
            handler,
            exchange.content,
            exchange.headers,
            exchange.idempotency_key,
            start_ms if start_ms > now_ms else 0,
            exchange.retry,
        )

    async def _cancel(self, invocation_id: str) -> Reply:
        answer = await self._handle.signal(invocation_id, Signal(Void(), index=SIGNAL_CANCEL))
        if answer.reply is EngineReply.NOT_FOUND:
            raise NotFoundError(f"There is no invocation {invocation_id}.", code="HF1004")
        if answer.reply is EngineReply.ALREADY_COMPLETED:
            raise ConflictError(f"Invocation {invocation_id} has completed already.")
        return Reply(invocation_id=invocation_id)

    async def _signal(self, exchange: Exchange) -> Reply:
        result = (
            Value(exchange.content)
            if exchange.verb == "signal"
            else Failure(_REJECTED, exchange.content.decode())
        )
        answer = await self._handle.signal(exchange.id, Signal(result, name=exchange.name))
        if answer.reply is EngineReply.NOT_FOUND:
            raise NotFoundError(f"There is no invocation {exchange.id}.", code="HF1004")
        if answer.reply is EngineReply.ALREADY_COMPLETED:
            raise ConflictError(
                f"Invocation {exchange.id} has completed: it takes no signals.", code="HF0524"
            )
        if answer.reply is EngineReply.OVERLOADED:
            raise TransportError(f"The journal of {exchange.id} is full.", code="HF1429")
        return Reply(invocation_id=exchange.id)

    async def _complete(self, exchange: Exchange) -> Reply:
        invocation_id, index = parse_awakeable_id(exchange.id)
        result = (
            Value(exchange.content)
            if exchange.verb == "resolve"
            else Failure(_REJECTED, exchange.content.decode())
        )
        # Unknown and finished invocations are not errors: whoever completes cannot know.
        answer = await self._handle.signal(invocation_id, Signal(result, index=index))
        if answer.reply is EngineReply.UNSUPPORTED:
            raise ConflictError(
                f"{exchange.id} is an approval: it takes decisions, not any value.", code="HF1416"
            )
        return Reply(invocation_id=invocation_id)


def _reply(finished: Finished) -> Reply:
    outcome = finished.outcome
    result = outcome.content if isinstance(outcome, Value) else outcome
    return Reply(result=result, invocation_id=finished.invocation_id)


@contextlib.asynccontextmanager
async def embedded(
    app: App,
    *,
    store: str = "sqlite:./holdfast-data/holdfast.db",
    durability: str = "full",
    partition_count: int = 1,
) -> AsyncGenerator[EmbeddedClient]:
    """Run an app and its server in this process, on this event loop.

    Open invocations of an earlier run go on when this begins, and stop where they are when it ends.

    Args:
        app: The handlers.
        store: `sqlite:PATH`, or `memory:` to keep nothing.
        durability: `full`, or `relaxed` to risk the last commits on a loss of power.
        partition_count: Of a new store; an existing one keeps its own.

    Yields:
        A client with `call`, `send`, `attach`, `output`, `cancel`, `resolve` and `reject`.

    Raises:
        StorageError: The store cannot be used.
    """
    config = ServerConfig(store=store, durability=durability, partition_count=partition_count)
    opened = open_store(config.store, partition_count=partition_count, durability=durability)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(opened.close)
        await opened.open()
        host = Host(opened, SystemClock(), owner="embedded", dialer=HttpDialer())
        await host.start()
        stack.push_async_callback(host.stop)
        port = InProcessPort(app)
        await host.attach_worker(port)
        yield EmbeddedClient(host)
