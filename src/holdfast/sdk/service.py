"""Services and virtual objects: named groups of handlers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.target import HandlerKind, ServiceKind, ServiceManifest
from holdfast.sdk.handler import Handler, Options
from holdfast.sdk.retry import Duration, RetryPolicy

if TYPE_CHECKING:
    from holdfast.sdk.context import Context

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def __call__(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...


class _Definition:
    """What services and objects have in common.

    Args:
        name: A letter, then letters, digits, `.`, `_`, `-`. Part of addresses and journals.
        retry: For failed attempts of all handlers, unless a handler has its own.
        journal_retention: How long the journal of a completed invocation is kept.
        idempotency_retention: How long an idempotency key is remembered.
        inactivity_timeout: After this time without progress, a waiting attempt suspends.
        abort_timeout: After this time, an attempt that should suspend and does not is cut.
        private: Only other handlers may call it, not the ingress.
        documentation: Markdown, for UIs.
    """

    _kind: ServiceKind

    def __init__(
        self,
        name: str,
        *,
        retry: RetryPolicy | None = None,
        journal_retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
        inactivity_timeout: Duration | None = None,
        abort_timeout: Duration | None = None,
        private: bool = False,
        documentation: str = "",
    ) -> None:
        is_reserved = name.lower() == "openapi" or name.lower().startswith("restate")
        if not _SERVICE_NAME.fullmatch(name) or is_reserved:
            raise UsageError(
                f"{name!r} cannot be the name of a service: a letter (or _ and a letter or digit), "
                "then letters, digits, '.', '_' and '-'; not openapi, and not restate…",
                code="HF0504",
            )
        self.name = name
        self.handlers: dict[str, Handler[Any, Any]] = {}
        """By name."""
        self._documentation = documentation
        self._options = Options(
            retry=retry,
            journal_retention=journal_retention,
            idempotency_retention=idempotency_retention,
            inactivity_timeout=inactivity_timeout,
            abort_timeout=abort_timeout,
            private=private,
        )

    def manifest(self) -> ServiceManifest:
        """Return what the server needs to know.

        Raises:
            UsageError: HF0504, a handler's types cannot be resolved.
        """
        handlers = tuple(handler.manifest(self._options) for handler in self.handlers.values())
        return ServiceManifest(
            name=self.name,
            kind=self._kind,
            handlers=handlers,
            documentation=self._documentation,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _decorate(
        self,
        kind: HandlerKind,
        fn: Callable[..., Awaitable[Any]] | None,
        name: str | None,
        options: Options,
    ) -> Any:
        def decorate(fn: Callable[..., Awaitable[Any]]) -> Handler[Any, Any]:
            own_name: str = getattr(fn, "__name__", "")
            handler: Handler[Any, Any] = Handler(fn, self.name, name or own_name, kind, options)
            if handler.name in self.handlers:
                raise UsageError(f"{handler} is defined twice", code="HF0504")
            self.handlers[handler.name] = handler
            return handler

        return decorate if fn is None else decorate(fn)


class Service(_Definition):
    """Handlers without a key: any number of invocations run at once."""

    _kind = ServiceKind.SERVICE

    @overload
    def handler(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def handler(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        journal_retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
        inactivity_timeout: Duration | None = None,
        abort_timeout: Duration | None = None,
        private: bool | None = None,
    ) -> _Decorator: ...

    def handler(
        self,
        fn: Callable[..., Awaitable[Any]] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Make `async def function(ctx)` or `(ctx, arg)` a handler. Options as for the service.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.PLAIN, fn, name, Options(**options))


class VirtualObject(_Definition):
    """Handlers with a key and state: per key, one exclusive invocation at a time."""

    _kind = ServiceKind.VIRTUAL_OBJECT

    @overload
    def handler(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def handler(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        journal_retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
        inactivity_timeout: Duration | None = None,
        abort_timeout: Duration | None = None,
        private: bool | None = None,
    ) -> _Decorator: ...

    def handler(
        self,
        fn: Callable[..., Awaitable[Any]] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Make a function an exclusive handler: one at a time per key; it may write state.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.EXCLUSIVE, fn, name, Options(**options))

    @overload
    def shared(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def shared(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def shared(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        retry: RetryPolicy | None = None,
        journal_retention: Duration | None = None,
        idempotency_retention: Duration | None = None,
        inactivity_timeout: Duration | None = None,
        abort_timeout: Duration | None = None,
        private: bool | None = None,
    ) -> _Decorator: ...

    def shared(
        self,
        fn: Callable[..., Awaitable[Any]] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        """Make a function a shared handler: any number at once per key; it only reads state.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.SHARED, fn, name, Options(**options))
