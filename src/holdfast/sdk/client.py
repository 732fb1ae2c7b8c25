"""Clients: call handlers from outside, with their types.

`ClientBase` and `SyncClientBase` do what does not depend on how requests travel: types, bytes and
errors. `Client` and `SyncClient` in `sdk.http_client` speak HTTP with a server's ingress. A client
that runs in the server's process implements `_exchange` by other means.

An `Exchange` says what is asked, in the terms of the protocol; a `Reply` what came back. A reply
with a `Failure` is the outcome of the invocation; whatever else goes wrong is raised as a
`HoldfastError` by `_exchange` itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, overload

from holdfast.domain.errors import TerminalError
from holdfast.domain.message import Failure
from holdfast.sdk.handler import Handler, resolve_target
from holdfast.sdk.retry import Duration, milliseconds
from holdfast.sdk.serde import Serde, SerdeError, serde_for

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")

Verb = Literal["call", "send", "attach", "output", "cancel", "resolve", "reject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request. Which fields matter depends on the verb."""

    verb: Verb
    service: str = ""
    """Of call and send."""
    handler: str = ""
    key: str | None = None
    id: str = ""
    """Invocation id of attach, output and cancel; awakeable id of resolve and reject."""
    content: bytes = b""
    """Parameter of call and send; value of resolve; UTF-8 reason of reject."""
    content_type: str = "application/json"
    delay_ms: int = 0
    idempotency_key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    result: bytes | Failure | None = None
    """Outcome for call, attach and output; None for output when there is none yet."""
    invocation_id: str = ""
    is_new: bool = True
    """For send: False when the idempotency key was known."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An invocation that was accepted."""

    invocation_id: str
    is_new: bool
    """False: an earlier request with the same idempotency key made it."""


def _invoke(
    verb: Verb,
    handler: Handler[Any, Any] | str,
    arg: Any,
    annotation: Any,
    key: str | None,
    delay: Duration | None,
    idempotency_key: str | None,
    headers: Mapping[str, str] | None,
) -> tuple[Exchange, Serde[Any]]:
    target = resolve_target(handler, key, arg, annotation)
    exchange = Exchange(
        verb=verb,
        service=target.service,
        handler=target.handler,
        key=key,
        content=target.content,
        content_type=target.content_type,
        delay_ms=0 if delay is None else milliseconds(delay, "delay"),
        idempotency_key=idempotency_key,
        headers=tuple(headers.items()) if headers else (),
    )
    return exchange, target.output


def _value(reply: Reply, serde: Serde[Any]) -> Any:
    result = reply.result
    if isinstance(result, Failure):
        raise TerminalError(result.message, code=result.code, metadata=result.metadata)
    try:
        return serde.decode(result or b"")
    except SerdeError as error:
        raise SerdeError(
            f"The result of {reply.invocation_id or 'the invocation'} does not fit: "
            f"{error.message}",
            hint="Pass type= with the type that the handler returns.",
        ) from error


def _result_serde(annotation: Any) -> Serde[Any]:
    return serde_for(Any if annotation is None else annotation)


def _resolution(id: str, value: object, annotation: Any) -> Exchange:
    serde = serde_for(type(value) if annotation is None else annotation)
    content = serde.encode(value)
    return Exchange(verb="resolve", id=id, content=content, content_type=serde.content_type)


class ClientBase(ABC):
    """Asynchronous clients, apart from how requests travel."""

    @abstractmethod
    async def _exchange(self, exchange: Exchange) -> Reply:
        """Do one request.

        Raises:
            UsageError: The request cannot work.
            NotFoundError: There is no such service, handler or invocation.
            ConflictError: It is not in a state that allows this.
            TransportError: The server was not reached. Retry, with an idempotency key.
        """

    @overload
    async def call(
        self,
        handler: Handler[None, O],
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> O: ...

    @overload
    async def call(
        self,
        handler: Handler[I, O],
        arg: I,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> O: ...

    @overload
    async def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: type[T],
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T: ...

    @overload
    async def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...

    async def call(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Invoke a handler and wait for its result. Giving up the wait does not cancel it.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object.
            idempotency_key: Makes a repeated request the same invocation.
            headers: Seen by the handler as `ctx.headers`.

        Raises:
            TerminalError: The invocation failed.
            HoldfastError: The request failed; see `_exchange`.
        """
        exchange, serde = _invoke("call", handler, arg, type, key, None, idempotency_key, headers)
        return _value(await self._exchange(exchange), serde)

    @overload
    async def send(
        self,
        handler: Handler[None, Any],
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    @overload
    async def send(
        self,
        handler: Handler[I, Any],
        arg: I,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    @overload
    async def send(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    async def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent:
        """Invoke a handler, now or after `delay`, and return once that is durable."""
        exchange, _ = _invoke("send", handler, arg, None, key, delay, idempotency_key, headers)
        reply = await self._exchange(exchange)
        return Sent(reply.invocation_id, reply.is_new)

    @overload
    async def attach(self, invocation_id: str, /, *, type: type[T]) -> T: ...

    @overload
    async def attach(self, invocation_id: str, /, *, type: Any = None) -> Any: ...

    async def attach(self, invocation_id: str, /, *, type: Any = None) -> Any:
        """Wait for the result of an invocation. Raises as `call`."""
        reply = await self._exchange(Exchange(verb="attach", id=invocation_id))
        return _value(reply, _result_serde(type))

    @overload
    async def output(
        self, invocation_id: str, /, *, type: type[T], default: T | None = None
    ) -> T | None: ...

    @overload
    async def output(
        self, invocation_id: str, /, *, type: Any = None, default: Any = None
    ) -> Any: ...

    async def output(self, invocation_id: str, /, *, type: Any = None, default: Any = None) -> Any:
        """Return the result of an invocation, or `default` while it has none. Raises as `call`."""
        reply = await self._exchange(Exchange(verb="output", id=invocation_id))
        return default if reply.result is None else _value(reply, _result_serde(type))

    async def cancel(self, invocation_id: str, /) -> None:
        """Cancel an invocation: `TerminalError` 409 is raised in it where it waits."""
        await self._exchange(Exchange(verb="cancel", id=invocation_id))

    async def resolve(
        self, awakeable_id: str, value: object = None, /, *, type: Any = None
    ) -> None:
        """Complete an awakeable with a value. The first completion wins."""
        await self._exchange(_resolution(awakeable_id, value, type))

    async def reject(self, awakeable_id: str, reason: str, /) -> None:
        """Complete an awakeable with a failure: `TerminalError` where it is awaited."""
        content = reason.encode()
        await self._exchange(
            Exchange(verb="reject", id=awakeable_id, content=content, content_type="text/plain")
        )


class SyncClientBase(ABC):
    """Synchronous clients, apart from how requests travel."""

    @abstractmethod
    def _exchange(self, exchange: Exchange) -> Reply:
        """Do one request.

        Raises:
            UsageError: The request cannot work.
            NotFoundError: There is no such service, handler or invocation.
            ConflictError: It is not in a state that allows this.
            TransportError: The server was not reached. Retry, with an idempotency key.
        """

    @overload
    def call(
        self,
        handler: Handler[None, O],
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> O: ...

    @overload
    def call(
        self,
        handler: Handler[I, O],
        arg: I,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> O: ...

    @overload
    def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: type[T],
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T: ...

    @overload
    def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...

    def call(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Invoke a handler and wait for its result. Giving up the wait does not cancel it.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object.
            idempotency_key: Makes a repeated request the same invocation.
            headers: Seen by the handler as `ctx.headers`.

        Raises:
            TerminalError: The invocation failed.
            HoldfastError: The request failed; see `_exchange`.
        """
        exchange, serde = _invoke("call", handler, arg, type, key, None, idempotency_key, headers)
        return _value(self._exchange(exchange), serde)

    @overload
    def send(
        self,
        handler: Handler[None, Any],
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    @overload
    def send(
        self,
        handler: Handler[I, Any],
        arg: I,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    @overload
    def send(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent: ...

    def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Sent:
        """Invoke a handler, now or after `delay`, and return once that is durable."""
        exchange, _ = _invoke("send", handler, arg, None, key, delay, idempotency_key, headers)
        reply = self._exchange(exchange)
        return Sent(reply.invocation_id, reply.is_new)

    @overload
    def attach(self, invocation_id: str, /, *, type: type[T]) -> T: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: Any = None) -> Any: ...

    def attach(self, invocation_id: str, /, *, type: Any = None) -> Any:
        """Wait for the result of an invocation. Raises as `call`."""
        reply = self._exchange(Exchange(verb="attach", id=invocation_id))
        return _value(reply, _result_serde(type))

    @overload
    def output(
        self, invocation_id: str, /, *, type: type[T], default: T | None = None
    ) -> T | None: ...

    @overload
    def output(self, invocation_id: str, /, *, type: Any = None, default: Any = None) -> Any: ...

    def output(self, invocation_id: str, /, *, type: Any = None, default: Any = None) -> Any:
        """Return the result of an invocation, or `default` while it has none. Raises as `call`."""
        reply = self._exchange(Exchange(verb="output", id=invocation_id))
        return default if reply.result is None else _value(reply, _result_serde(type))

    def cancel(self, invocation_id: str, /) -> None:
        """Cancel an invocation: `TerminalError` 409 is raised in it where it waits."""
        self._exchange(Exchange(verb="cancel", id=invocation_id))

    def resolve(self, awakeable_id: str, value: object = None, /, *, type: Any = None) -> None:
        """Complete an awakeable with a value. The first completion wins."""
        self._exchange(_resolution(awakeable_id, value, type))

    def reject(self, awakeable_id: str, reason: str, /) -> None:
        """Complete an awakeable with a failure: `TerminalError` where it is awaited."""
        content = reason.encode()
        self._exchange(
            Exchange(verb="reject", id=awakeable_id, content=content, content_type="text/plain")
        )
