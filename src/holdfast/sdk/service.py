"""Services and virtual objects: named groups of handlers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.target import HandlerKind, ServiceKind, ServiceManifest
from holdfast.sdk.handler import Handler
from holdfast.sdk.option import HandlerOptions, checked_options

if TYPE_CHECKING:
    from holdfast.sdk.context import Context
    from holdfast.sdk.sync import SyncContext

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

_SERVICE_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9._-]*")


class HandlerDecorator(Protocol):
    """Makes a function a handler."""

    @overload
    def __call__(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def __call__(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def __call__(self, fn: Callable[[SyncContext], O], /) -> Handler[None, O]: ...

    @overload
    def __call__(self, fn: Callable[[SyncContext, I], O], /) -> Handler[I, O]: ...


class Definition:
    """What services, objects and workflows have in common.

    Args:
        name: A letter, then letters, digits, `.`, `_`, `-`. Part of addresses and journals.
        options: For all its handlers, unless a handler has its own. See `HandlerOptions`.

    Raises:
        UsageError: HF0504, a bad name; HF0530, a bad option.
    """

    _kind: ServiceKind
    _option_type: type[HandlerOptions] = HandlerOptions

    def __init__(self, name: str, **options: Unpack[HandlerOptions]) -> None:
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
        self._options = checked_options(name, options, self._option_type)

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
            documentation=self._options.get("documentation") or "",
            metadata=dict(self._options.get("metadata") or {}),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _decorate(
        self,
        kind: HandlerKind,
        fn: Callable[..., Any] | None,
        name: str | None,
        options: HandlerOptions,
    ) -> Any:
        def decorate(fn: Callable[..., Any]) -> Handler[Any, Any]:
            own_name: str = getattr(fn, "__name__", "")
            checked = checked_options(f"{self.name}/{name or own_name}", options)
            handler: Handler[Any, Any] = Handler(fn, self.name, name or own_name, kind, checked)
            handler.is_workflow = self._kind is ServiceKind.WORKFLOW
            if handler.name in self.handlers:
                raise UsageError(f"{handler} is defined twice", code="HF0504")
            self.handlers[handler.name] = handler
            return handler

        return decorate if fn is None else decorate(fn)


class Service(Definition):
    """Handlers without a key: any number of invocations run at once."""

    _kind = ServiceKind.SERVICE

    @overload
    def handler(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def handler(self, fn: Callable[[SyncContext], O], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[SyncContext, I], O], /) -> Handler[I, O]: ...

    @overload
    def handler(
        self, fn: None = None, /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> HandlerDecorator: ...

    def handler(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make `async def function(ctx)` or `(ctx, arg)` a handler. Options as for the service.

        A function that is not `async def` runs in a thread and gets a `SyncContext`.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.PLAIN, fn, name, options)


class VirtualObject(Definition):
    """Handlers with a key and state: per key, one exclusive invocation at a time."""

    _kind = ServiceKind.VIRTUAL_OBJECT

    @overload
    def handler(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def handler(self, fn: Callable[[SyncContext], O], /) -> Handler[None, O]: ...

    @overload
    def handler(self, fn: Callable[[SyncContext, I], O], /) -> Handler[I, O]: ...

    @overload
    def handler(
        self, fn: None = None, /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> HandlerDecorator: ...

    def handler(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function an exclusive handler: one at a time per key; it may write state.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.EXCLUSIVE, fn, name, options)

    @overload
    def shared(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def shared(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def shared(self, fn: Callable[[SyncContext], O], /) -> Handler[None, O]: ...

    @overload
    def shared(self, fn: Callable[[SyncContext, I], O], /) -> Handler[I, O]: ...

    @overload
    def shared(
        self, fn: None = None, /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> HandlerDecorator: ...

    def shared(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function a shared handler: any number at once per key; it only reads state.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.SHARED, fn, name, options)
