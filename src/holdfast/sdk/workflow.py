"""Workflows: one main handler that runs once per key, and handlers that talk to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from msgspec.structs import replace

from holdfast.domain.errors import UsageError
from holdfast.domain.target import HandlerKind, ServiceKind, ServiceManifest
from holdfast.sdk.handler import Handler
from holdfast.sdk.option import HandlerOptions, WorkflowOptions, duration_ms
from holdfast.sdk.service import Definition, HandlerDecorator

if TYPE_CHECKING:
    from holdfast.sdk.context import Context
    from holdfast.sdk.sync import SyncContext

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class Workflow(Definition):
    """A main handler that runs once per key, and handlers that run beside it at any time.

    All of a key share its state, which the main handler writes, and its promises
    (`ctx.promise`). State, promises and the result of the main handler are kept until
    `workflow_retention` after its end, and then removed together.
    """

    _kind = ServiceKind.WORKFLOW
    _option_type = WorkflowOptions

    def __init__(self, name: str, **options: Unpack[WorkflowOptions]) -> None:
        super().__init__(name, **cast("HandlerOptions", options))

    def manifest(self) -> ServiceManifest:
        """Return what the server needs to know.

        Raises:
            UsageError: HF0510, there is not exactly one main handler; HF0504, a handler's types
                cannot be resolved.
        """
        mains = [h.name for h in self.handlers.values() if h.kind is HandlerKind.WORKFLOW]
        if len(mains) != 1:
            found = f"has {len(mains)}: {', '.join(mains)}" if mains else "has none"
            raise UsageError(
                f"A workflow needs exactly one main handler; {self.name} {found}",
                code="HF0510",
                hint="Declare the one that runs once per key with @workflow.main, and all others "
                "with @workflow.handler.",
            )
        manifest = super().manifest()
        options = cast("WorkflowOptions", self._options)
        retention_ms = duration_ms(options.get("workflow_retention"))
        handlers = tuple(
            replace(h, workflow_retention_ms=retention_ms) if h.name == mains[0] else h
            for h in manifest.handlers
        )
        return replace(manifest, handlers=handlers)

    @overload
    def main(self, fn: Callable[[Context], Awaitable[O]], /) -> Handler[None, O]: ...

    @overload
    def main(self, fn: Callable[[Context, I], Awaitable[O]], /) -> Handler[I, O]: ...

    @overload
    def main(self, fn: Callable[[SyncContext], O], /) -> Handler[None, O]: ...

    @overload
    def main(self, fn: Callable[[SyncContext, I], O], /) -> Handler[I, O]: ...

    @overload
    def main(
        self, fn: None = None, /, *, name: str | None = None, **options: Unpack[HandlerOptions]
    ) -> HandlerDecorator: ...

    def main(
        self,
        fn: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        **options: Unpack[HandlerOptions],
    ) -> Any:
        """Make a function the main handler: it runs once per key, and may write state.

        A second call for the same key fails with 409; to wait for the first, attach to it.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.WORKFLOW, fn, name, options)

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
        """Make a function a handler beside the main one: any number at once; it only reads state.

        It may run before the main handler begins, and after it has ended.

        Raises:
            UsageError: HF0504, the function cannot be a handler; says which parameter.
        """
        return self._decorate(HandlerKind.SHARED, fn, name, options)
