"""Clients: call handlers from outside, with their types.

`ClientBase` and `SyncClientBase` do what does not depend on how requests travel: types, bytes and
errors. `Client` and `SyncClient` in `sdk.http_client` speak HTTP with a server's ingress. A client
that runs in the server's process implements `_exchange` by other means. Whatever goes wrong, apart
from the outcome of the invocation, is raised as a `HoldfastError` by `_exchange` itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, overload

from holdfast.sdk.exchange import (
    Exchange,
    Reply,
    Sent,
    asking,
    invoking,
    rejecting_signal,
    resolving,
    signalling,
    value_of,
)
from holdfast.sdk.handler import Handler
from holdfast.sdk.invocation import Invocation, result_serde
from holdfast.sdk.retry import Duration, RetryPolicy
from holdfast.sdk.stream_client import StreamingClient

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


class ClientBase(StreamingClient):
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
    ) -> Any:
        """Invoke a handler and wait for its result. Giving up the wait does not cancel it.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object.
            idempotency_key: Makes a repeated request the same invocation.
            headers: Seen by the handler as `ctx.headers`.
            retry: For failed attempts of that invocation, instead of its handler's policy.

        Raises:
            TerminalError: The invocation failed.
            HoldfastError: The request failed; see `_exchange`.
        """
        exchange, serde = invoking(
            "call", handler, arg, type, key, None, idempotency_key, headers, retry
        )
        return value_of(await self._exchange(exchange), serde)

    @overload
    async def send(
        self,
        handler: Handler[None, Any],
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Sent: ...

    async def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Sent:
        """Invoke a handler, now, after `delay` or `at` a time; return once that is durable.

        Args:
            at: With its time zone. A time that has passed is now.
        """
        exchange, _ = invoking(
            "send", handler, arg, None, key, delay, idempotency_key, headers, retry, at
        )
        reply = await self._exchange(exchange)
        return Sent(reply.invocation_id, reply.is_new)

    @overload
    async def attach(self, invocation_id: Invocation[T], /) -> T: ...

    @overload
    async def attach(self, invocation_id: str, /, *, type: type[T]) -> T: ...

    @overload
    async def attach(self, invocation_id: str, /, *, type: Any = None) -> Any: ...

    async def attach(self, invocation_id: str, /, *, type: Any = None) -> Any:
        """Wait for the result of an invocation. Raises as `call`."""
        reply = await self._exchange(asking("attach", invocation_id))
        return value_of(reply, result_serde(invocation_id, type))

    @overload
    async def output(
        self, invocation_id: Invocation[T], /, *, default: T | None = None
    ) -> T | None: ...

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
        reply = await self._exchange(asking("output", invocation_id))
        return (
            default if reply.result is None else value_of(reply, result_serde(invocation_id, type))
        )

    async def cancel(self, invocation_id: str, /) -> None:
        """Cancel an invocation: `TerminalError` 409 is raised in it where it waits."""
        await self._exchange(asking("cancel", invocation_id))

    async def signal(
        self, invocation_id: str, name: str, value: object = None, /, *, type: Any = None
    ) -> None:
        """Send a signal to an invocation that has not completed.

        Raises:
            NotFoundError: HF1004, there is no such invocation.
            ConflictError: HF0524, it has completed.
            UsageError: HF0520, no name for a signal.
        """
        await self._exchange(signalling(invocation_id, name, value, type))

    async def reject_signal(self, invocation_id: str, name: str, reason: str, /) -> None:
        """Send a failure as signal: `TerminalError` where it is awaited. Raises as `signal`."""
        await self._exchange(rejecting_signal(invocation_id, name, reason))

    async def resolve(
        self, awakeable_id: str, value: object = None, /, *, type: Any = None
    ) -> None:
        """Complete an awakeable with a value. The first completion wins."""
        await self._exchange(resolving(awakeable_id, value, type))

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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
    ) -> Any:
        """Invoke a handler and wait for its result. Giving up the wait does not cancel it.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object.
            idempotency_key: Makes a repeated request the same invocation.
            headers: Seen by the handler as `ctx.headers`.
            retry: For failed attempts of that invocation, instead of its handler's policy.

        Raises:
            TerminalError: The invocation failed.
            HoldfastError: The request failed; see `_exchange`.
        """
        exchange, serde = invoking(
            "call", handler, arg, type, key, None, idempotency_key, headers, retry
        )
        return value_of(self._exchange(exchange), serde)

    @overload
    def send(
        self,
        handler: Handler[None, Any],
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Sent: ...

    def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Sent:
        """Invoke a handler, now, after `delay` or `at` a time; return once that is durable.

        Args:
            at: With its time zone. A time that has passed is now.
        """
        exchange, _ = invoking(
            "send", handler, arg, None, key, delay, idempotency_key, headers, retry, at
        )
        reply = self._exchange(exchange)
        return Sent(reply.invocation_id, reply.is_new)

    @overload
    def attach(self, invocation_id: Invocation[T], /) -> T: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: type[T]) -> T: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: Any = None) -> Any: ...

    def attach(self, invocation_id: str, /, *, type: Any = None) -> Any:
        """Wait for the result of an invocation. Raises as `call`."""
        reply = self._exchange(asking("attach", invocation_id))
        return value_of(reply, result_serde(invocation_id, type))

    @overload
    def output(self, invocation_id: Invocation[T], /, *, default: T | None = None) -> T | None: ...

    @overload
    def output(
        self, invocation_id: str, /, *, type: type[T], default: T | None = None
    ) -> T | None: ...

    @overload
    def output(self, invocation_id: str, /, *, type: Any = None, default: Any = None) -> Any: ...

    def output(self, invocation_id: str, /, *, type: Any = None, default: Any = None) -> Any:
        """Return the result of an invocation, or `default` while it has none. Raises as `call`."""
        reply = self._exchange(asking("output", invocation_id))
        return (
            default if reply.result is None else value_of(reply, result_serde(invocation_id, type))
        )

    def cancel(self, invocation_id: str, /) -> None:
        """Cancel an invocation: `TerminalError` 409 is raised in it where it waits."""
        self._exchange(asking("cancel", invocation_id))

    def signal(
        self, invocation_id: str, name: str, value: object = None, /, *, type: Any = None
    ) -> None:
        """Send a signal to an invocation that has not completed.

        Raises:
            NotFoundError: HF1004, there is no such invocation.
            ConflictError: HF0524, it has completed.
            UsageError: HF0520, no name for a signal.
        """
        self._exchange(signalling(invocation_id, name, value, type))

    def reject_signal(self, invocation_id: str, name: str, reason: str, /) -> None:
        """Send a failure as signal: `TerminalError` where it is awaited. Raises as `signal`."""
        self._exchange(rejecting_signal(invocation_id, name, reason))

    def resolve(self, awakeable_id: str, value: object = None, /, *, type: Any = None) -> None:
        """Complete an awakeable with a value. The first completion wins."""
        self._exchange(resolving(awakeable_id, value, type))

    def reject(self, awakeable_id: str, reason: str, /) -> None:
        """Complete an awakeable with a failure: `TerminalError` where it is awaited."""
        content = reason.encode()
        self._exchange(
            Exchange(verb="reject", id=awakeable_id, content=content, content_type="text/plain")
        )
