"""Handlers: async functions that can be invoked durably, with their types and options."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

from holdfast.domain.errors import TerminalError, UsageError
from holdfast.domain.message import Input
from holdfast.domain.target import DAY_MS, HandlerKind, HandlerManifest
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds
from holdfast.sdk.serde import Serde, SerdeError, serde_for

if TYPE_CHECKING:
    from holdfast.sdk.context import Context

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741

_HANDLER_NAME = re.compile(r"([a-zA-Z]|_[a-zA-Z0-9])[a-zA-Z0-9_]*")

_BAD_INPUT_CODE = 400
_BAD_INPUT = "HF0508"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of a service or a handler. None: that of the service, then the default."""

    retry: RetryPolicy | None = None
    journal_retention: Duration | None = None
    idempotency_retention: Duration | None = None
    inactivity_timeout: Duration | None = None
    abort_timeout: Duration | None = None
    private: bool | None = None

    def over(self, defaults: Options) -> Options:
        """Return these options, with `defaults` where they say nothing."""
        names = Options.__dataclass_fields__
        own = {name: getattr(self, name) for name in names}
        return Options(
            **{n: getattr(defaults, n) if value is None else value for n, value in own.items()}
        )


@dataclass(eq=False)
class Handler(Generic[I, O]):
    """A handler of a service. Call it with a context to test it; pass it to `ctx.call`."""

    fn: Callable[..., Awaitable[O]]
    """The function as written."""
    service: str
    """Name of its service."""
    name: str
    kind: HandlerKind
    options: Options
    has_input: bool = False
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

    def __call__(self, ctx: Context, *args: Any) -> Awaitable[O]:
        """Call the function itself, as a test does: nothing is durable but what `ctx` does."""
        return self.fn(ctx, *args)

    def __str__(self) -> str:
        return f"{self.service}/{self.name}"

    async def invoke(self, ctx: Context, request: Input) -> bytes:
        """Run the handler on encoded input and return the encoded result.

        Raises:
            TerminalError: 400, the input does not fit; names the JSON path.
            SerdeError: The result has no JSON.
        """
        input, output = self._resolved()
        if self.has_input:
            try:
                arg = input.decode(request.value.content)
            except SerdeError as error:
                raise TerminalError(
                    f"Bad input for {self}: {error.message} [{_BAD_INPUT}]",
                    code=_BAD_INPUT_CODE,
                    metadata={"error_code": _BAD_INPUT},
                ) from error
            result = await self.fn(ctx, arg)
        else:
            result = await self.fn(ctx)
        try:
            return output.encode(result)
        except SerdeError as error:
            raise SerdeError(
                f"The result of {self} cannot be recorded: {error.message}", hint=error.hint
            ) from error

    def manifest(self, defaults: Options) -> HandlerManifest:
        """Return what the server needs to know.

        Raises:
            UsageError: HF0504, an annotation cannot be resolved or has no JSON.
        """
        input, output = self._resolved()
        options = self.options.over(defaults)
        return HandlerManifest(
            name=self.name,
            kind=self.kind,
            input_content_type=input.content_type,
            is_input_required=self.has_input and not _accepts_nothing(input),
            output_content_type=output.content_type,
            input_schema=input.schema() if self.has_input else None,
            output_schema=output.schema(),
            documentation=inspect.getdoc(self.fn) or "",
            retry=None if options.retry is None else options.retry.to_schedule(),
            journal_retention_ms=_ms(options.journal_retention, DAY_MS),
            idempotency_retention_ms=_ms(options.idempotency_retention, DAY_MS),
            inactivity_timeout_ms=_ms(options.inactivity_timeout, 60_000),
            abort_timeout_ms=_ms(options.abort_timeout, 600_000),
            is_private=bool(options.private),
        )

    def _check_signature(self) -> bool:
        if not inspect.iscoroutinefunction(self.fn):
            self._refuse("it must be an `async def` function")
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
        return len(parameters) > 1

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
        service, _, name = handler.partition("/")
        if not service or not name or "/" in name:
            raise UsageError(
                f"{handler!r} names no handler: expected 'Service/handler'", code="HF0507"
            )
        input = serde_for(type(arg))
        output = serde_for(Any if annotation is None else annotation)
    try:
        content = input.encode(arg)
    except SerdeError as error:
        raise SerdeError(
            f"The argument for {service}/{name} cannot be sent: {error.message}", hint=error.hint
        ) from error
    return ResolvedTarget(service, name, content, input.content_type, output)


def _accepts_nothing(serde: Serde[Any]) -> bool:
    try:
        serde.decode(b"")
    except SerdeError:
        return False
    return True


def _ms(duration: Duration | None, default_ms: int) -> int:
    return default_ms if duration is None else milliseconds(duration, "a timeout or retention")
