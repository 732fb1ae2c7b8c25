"""Handlers: async functions that can be invoked durably, with their types and options."""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from holdfast.domain.errors import TerminalError, UsageError
from holdfast.domain.message import Input
from holdfast.domain.target import MCP_FLAG, HandlerKind, HandlerManifest
from holdfast.sdk.option import HandlerOptions, duration_ms, inherited, own_options
from holdfast.sdk.serde import Serde, SerdeError, serde_for

if TYPE_CHECKING:
    from holdfast.sdk.context import Context

I = TypeVar("I")  # noqa: E741
O_co = TypeVar("O_co", covariant=True)

_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")

_BAD_INPUT_CODE = 400
_BAD_INPUT = "HF0508"


@dataclass(eq=False)
class Handler(Generic[I, O_co]):
    """A handler of a service. Call it with a context to test it; pass it to `ctx.call`."""

    fn: Callable[..., Any]
    """The function as written."""
    service: str
    """Name of its service."""
    name: str
    kind: HandlerKind
    options: HandlerOptions
    """Its own; those of its service come in with `manifest`."""
    has_input: bool = False
    is_sync: bool = False
    """Whether it is no `async def` function, and so runs in a thread with a `SyncContext`."""
    is_workflow: bool = False
    """Whether it belongs to a `Workflow`, and so has promises."""
    _serdes: tuple[Serde[Any], Serde[Any]] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not _HANDLER_NAME.fullmatch(self.name):
            self._refuse(
                "its name must be a letter (or _ and a letter or digit), then letters, digits and _"
            )
        self.has_input = self._check_signature()
        functools.update_wrapper(self, self.fn)

    @property
    def is_keyed(self) -> bool:
        """Whether it is invoked with a key."""
        return self.kind is not HandlerKind.PLAIN

    @property
    def is_shared(self) -> bool:
        """Whether it only reads state."""
        return self.kind is HandlerKind.SHARED

    @property
    def input(self) -> Serde[Any]:
        """Of the argument."""
        return self._resolved()[0]

    @property
    def output(self) -> Serde[Any]:
        """Of the result."""
        return self._resolved()[1]

    def __call__(self, ctx: Any, *args: Any) -> Awaitable[O_co]:
        """Call the function itself, as a test does: nothing is durable but what `ctx` does."""
        if self.is_sync:
            return asyncio.to_thread(self.fn, ctx, *args)
        called: Awaitable[O_co] = self.fn(ctx, *args)
        return called

    def __str__(self) -> str:
        return f"{self.service}/{self.name}"

    async def invoke(self, ctx: Context, request: Input) -> bytes:
        """Run the handler on encoded input and return the encoded result.

        Raises:
            TerminalError: 400, the input does not fit; names the JSON path.
            SerdeError: The result has no JSON.
        """
        input, output = self._resolved()
        try:
            # Also without a parameter: what was sent was meant for something.
            arg = input.decode(request.value.content)
        except SerdeError as error:
            raise TerminalError(
                f"Bad input for {self}: {error.message} [{_BAD_INPUT}]",
                code=_BAD_INPUT_CODE,
                metadata={"error_code": _BAD_INPUT},
            ) from error
        result = await (self._run(ctx, arg) if self.has_input else self._run(ctx))
        try:
            return output.encode(result)
        except SerdeError as error:
            raise SerdeError(
                f"The result of {self} cannot be recorded: {error.message}", hint=error.hint
            ) from error

    async def _run(self, ctx: Context, *args: Any) -> Any:
        if not self.is_sync:
            return await self.fn(ctx, *args)
        from holdfast.sdk.sync import run_in_thread

        return await run_in_thread(self.fn, ctx, args)

    def manifest(self, defaults: HandlerOptions) -> HandlerManifest:
        """Return what the server needs to know.

        Raises:
            UsageError: HF0504, an annotation cannot be resolved or has no JSON.
        """
        input, output = self._resolved()
        options = inherited(self.options, defaults)
        retry, timeout = options.get("retry"), options.get("invocation_timeout")
        documentation = options.get("documentation")
        return HandlerManifest(
            name=self.name,
            kind=self.kind,
            input_content_type=input.content_type,
            is_input_required=self.has_input and not _accepts_nothing(input),
            output_content_type=output.content_type,
            input_schema=input.schema() if self.has_input else None,
            output_schema=output.schema(),
            documentation=documentation or inspect.getdoc(self.fn) or "",
            retry=None if retry is None else retry.to_schedule(),
            journal_retention_ms=duration_ms(options.get("journal_retention")),
            idempotency_retention_ms=duration_ms(options.get("idempotency_retention")),
            inactivity_timeout_ms=duration_ms(options.get("inactivity_timeout"), 60_000),
            abort_timeout_ms=duration_ms(options.get("abort_timeout"), 600_000),
            is_private=bool(options.get("private")),
            is_state_lazy=bool(options.get("lazy_state")),
            invocation_timeout_ms=None if timeout is None else duration_ms(timeout),
            concurrency=options.get("concurrency"),
            is_concurrency_shared="concurrency" in defaults and "concurrency" not in self.options,
            metadata=_metadata(self.options, is_mcp=bool(options.get("mcp"))),
            own_options=own_options(self.options),
        )

    def _check_signature(self) -> bool:
        self.is_sync = not inspect.iscoroutinefunction(self.fn)
        parameters = list(inspect.signature(self.fn).parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for index, parameter in enumerate(parameters):
            if parameter.kind not in positional:
                self._refuse(f"parameter {parameter.name!r} must be positional")
            if index > 1:
                self._refuse(
                    f"parameter {parameter.name!r} is one too many: a handler takes the context "
                    "and one argument"
                )
        if not parameters:
            self._refuse("it must take the context as first parameter")
        self._check_context(parameters[0].annotation)
        return len(parameters) > 1

    def _check_context(self, annotation: object) -> None:
        name = str(getattr(annotation, "__name__", annotation)).rpartition(".")[2]
        is_generator = inspect.isgeneratorfunction(self.fn) or inspect.isasyncgenfunction(self.fn)
        if is_generator or (self.is_sync and name == "Context"):
            self._refuse("it must be an `async def` function, or take an hf.SyncContext")
        if not self.is_sync and name == "SyncContext":
            self._refuse("an `async def` function takes an hf.Context")

    def _resolved(self) -> tuple[Serde[Any], Serde[Any]]:
        # Late, so that annotations may name what is defined further down.
        if self._serdes is None:
            parameters = list(inspect.signature(self.fn).parameters)
            input = self._serde(parameters[1]) if self.has_input else serde_for(None)
            self._serdes = (input, self._serde("return"))
        return self._serdes

    def _serde(self, name: str) -> Serde[Any]:
        annotation = getattr(self.fn, "__annotations__", {}).get(name, Any)
        what = "the return type" if name == "return" else f"parameter {name!r}"
        try:
            if not isinstance(annotation, Serde):
                holder = type("holder", (), {"__annotations__": {name: annotation}})
                annotation = typing.get_type_hints(
                    holder,
                    getattr(inspect.unwrap(self.fn), "__globals__", {}),
                    include_extras=True,
                )[name]
        except Exception as error:
            self._refuse(f"{what} has an annotation that cannot be resolved: {error}", error)
        try:
            return serde_for(annotation)
        except UsageError as error:
            self._refuse(f"{what}: {error.message}", error)

    def _refuse(self, why: str, cause: BaseException | None = None) -> NoReturn:
        code = getattr(self.fn, "__code__", None)
        where = f" ({code.co_filename}:{code.co_firstlineno})" if code is not None else ""
        raise UsageError(
            f"{self.service}/{self.name}{where} cannot be a handler: {why}", code="HF0504"
        ) from cause


class ResolvedTarget(NamedTuple):
    """What to invoke, with what."""

    service: str
    handler: str
    content: bytes
    content_type: str
    output: Serde[Any]


def resolve_target(
    handler: Handler[Any, Any] | str, key: str | None, arg: Any, annotation: Any
) -> ResolvedTarget:
    """Return what to invoke, from a handler or `"Service/handler"`.

    Raises:
        UsageError: HF0507, no such form, or the key does not fit the handler.
        SerdeError: The argument has no JSON.
    """
    if isinstance(handler, Handler):
        if handler.is_keyed != (key is not None):
            need = "needs key=" if handler.is_keyed else "takes no key="
            raise UsageError(f"{handler} {need}", code="HF0507")
        service, name, input = handler.service, handler.name, handler.input
        output = handler.output if annotation is None else serde_for(annotation)
    else:
        service, name = split_target(handler)
        input = serde_for(type(arg))
        output = serde_for(Any if annotation is None else annotation)
    try:
        content = input.encode(arg)
    except SerdeError as error:
        raise SerdeError(
            f"The argument for {service}/{name} cannot be sent: {error.message}", hint=error.hint
        ) from error
    return ResolvedTarget(service, name, content, input.content_type, output)


def split_target(text: str) -> tuple[str, str]:
    """Return service and handler of `"Service/handler"`.

    Raises:
        UsageError: HF0507, no such form.
    """
    service, _, name = text.partition("/")
    if not service or not name or "/" in name:
        raise UsageError(f"{text!r} names no handler: expected 'Service/handler'", code="HF0507")
    return service, name


def _metadata(own: HandlerOptions, *, is_mcp: bool) -> dict[str, str]:
    metadata = dict(own.get("metadata") or {})
    return {**metadata, MCP_FLAG: "true"} if is_mcp else metadata


def _accepts_nothing(serde: Serde[Any]) -> bool:
    try:
        serde.decode(b"")
    except SerdeError:
        return False
    return True
