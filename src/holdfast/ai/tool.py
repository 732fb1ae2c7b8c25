"""One call of a tool, durable under the scope `tool:<name>:<call id>`.

The id comes from the recorded answer of the model, so it is the same at replay, whatever order
parallel calls run in.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

import msgspec

import holdfast as hf
from holdfast.ai.agent import LoopStopped, current_options, end_run
from holdfast.ai.failure import metadata_of, note, restored, terminal
from holdfast.ai.guard import current, warn_once
from holdfast.ai.option import Options, ToolOptions
from holdfast.ai.record import describe_tool_call
from holdfast.domain.detail import ToolCall
from holdfast.domain.errors import HoldfastError, TerminalError, UsageError
from holdfast.sdk.enclosure import skip_to_result
from holdfast.sdk.interrupt import Cancelled
from holdfast.sdk.serde import return_annotation, serde_for

T = TypeVar("T")

RESULT_STEP = "result"
"""Name of the step that holds the result of a scoped tool."""


async def durable_tool_call(
    name: str,
    call_id: str,
    fn: Callable[..., Awaitable[T] | T],
    arguments: Mapping[str, Any] | Sequence[Any] = (),
    *,
    options: Options | None = None,
    own: ToolOptions | None = None,
    encode: Callable[[T], Any] | None = None,
    decode: Callable[[Any], T] | None = None,
    shown: Any = None,
) -> T:
    """Run a tool, or take its recorded result. Parallel calls stay parallel.

    Args:
        name: As the model knows it.
        call_id: As the model gave it, unique in the agent run.
        fn: The body. A function that is not async runs in a thread.
        arguments: By name or by position.
        options: `None` takes those of the agent run around it.
        own: What the tool itself says; `options.tools` goes before it.
        encode: Makes a JSON value of a result; `None`: by the annotation of `fn`.
        decode: Makes the result of that value; given exactly if `encode` is.
        shown: Arguments as they are shown to people; `None`: `arguments`.

    Returns:
        The result, as a replay would return it.

    Raises:
        TerminalError: The tool failed and `on_error` is "feed": hand it to the model in the way of
            the framework. It also is an instance of the exception that the tool raised. Outside of
            an `agent_scope`, "fail" raises it too, and "stop" raises `LoopStopped`.
        Carried: The tool failed and the run must end; `agent_scope` makes the error of it.
        UsageError: Not in a handler.
    """
    chosen = (current_options() if options is None else options).for_tool(name, own)
    call = _Call(name, call_id, fn, arguments, encode, decode, shown)
    try:
        result: T = await call.run(chosen)
        return result
    except (Cancelled, HoldfastError) as error:
        # For the author or the operator, and not for the model.
        end_run(error)
    except TerminalError as error:
        failure = restored(error)
        if _MISUSE in metadata_of(error):
            end_run(failure)
        match chosen.on_error:
            case "fail":
                end_run(failure)
            case "stop":
                end_run(LoopStopped(name, call_id, failure))
            case _:
                raise failure from None


_MISUSE = "holdfast_misuse"
"""Metadata of failures that are a mistake of the program."""


class _Call:
    """One call of one tool."""

    def __init__(
        self,
        name: str,
        call_id: str,
        fn: Callable[..., Any],
        arguments: Mapping[str, Any] | Sequence[Any],
        encode: Callable[[Any], Any] | None,
        decode: Callable[[Any], Any] | None,
        shown: Any,
    ) -> None:
        self._name = name
        self._label = f"tool:{name}:{call_id}"
        self._fn = fn
        self._arguments = arguments
        self._encode = encode
        self._decode = decode
        given = dict(arguments) if isinstance(arguments, Mapping) else list(arguments)
        self._shown = ToolCall(
            name=name, call_id=call_id, arguments=given if shown is None else shown
        )

    async def run(self, options: ToolOptions) -> Any:
        """Make the call in the chosen mode."""
        match options.mode:
            case "scoped":
                return await self._in_scope()
            case "plain":
                warn_once(
                    "tool %r is plain: its calls are not recorded, and run again at each replay",
                    self._name,
                )
                return await self._execute()
            case _:
                return await self._as_step(options)

    async def _execute(self) -> Any:
        positional, named = self._given()
        if inspect.iscoroutinefunction(self._fn):
            return await self._fn(*positional, **named)
        value = await asyncio.to_thread(self._fn, *positional, **named)
        return await value if inspect.isawaitable(value) else value

    def _given(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        given = self._arguments
        return ((), given) if isinstance(given, Mapping) else (given, {})

    async def _as_step(self, options: ToolOptions) -> Any:
        with current().scope(self._label):
            return self._decoded(
                await current().run(
                    self._name,
                    self._body,
                    options.retry is not None,
                    retry=options.retry,
                    type=self._type(),
                    **self._on_unknown(options),
                )
            )

    def _on_unknown(self, options: ToolOptions) -> dict[str, Any]:
        """Return what to do when the step began and its outcome was lost, as `ctx.run` takes it."""
        find_out = options.verify
        if options.on_unknown in (None, "retry"):
            return {}
        if options.on_unknown != "verify" or find_out is None:
            return {"on_unknown": options.on_unknown}

        async def verify(idempotency_key: str, _: bool) -> Any:
            positional, named = self._given()
            found = find_out(idempotency_key, *positional, **named)
            answer: Any = await found if inspect.isawaitable(found) else found
            return hf.Happened(self._encoded(answer.value)) if _has_happened(answer) else answer

        return {"on_unknown": verify}

    async def _body(self, is_retried: bool) -> Any:
        started_s = perf_counter()
        try:
            value = self._encoded(await self._execute())
        except Exception as error:
            describe_tool_call(lambda: self._shown, started_s=started_s, error=error)
            if isinstance(error, UsageError) and error.code == _DURABLE_IN_STEP:
                raise self._misuse(error) from error
            if isinstance(error, HoldfastError):
                raise
            if isinstance(error, TerminalError) or not is_retried:
                raise terminal(error) from error
            note(error)
            raise
        describe_tool_call(lambda: self._described(value), started_s=started_s)
        return value

    async def _in_scope(self) -> Any:
        with current().scope(self._label):
            started_s = perf_counter()
            value: Any = None
            failure: TerminalError | None = None
            if not skip_to_result(RESULT_STEP):
                try:
                    value = self._encoded(await self._execute())
                except (Cancelled, HoldfastError):
                    raise
                except Exception as error:
                    failure = terminal(error)

            async def result() -> Any:
                describe_tool_call(
                    lambda: self._described(value), started_s=started_s, error=failure
                )
                if failure is not None:
                    raise failure
                return value

            return self._decoded(await current().run(RESULT_STEP, result, type=self._type()))

    def _described(self, value: Any) -> ToolCall:
        if self._encode is None and value is not None:
            # Descriptions take JSON only, and the annotation knows how to make it.
            value = msgspec.json.decode(serde_for(self._type()).encode(value))
        return msgspec.structs.replace(self._shown, result=value)

    def _type(self) -> Any:
        return Any if self._encode is not None else return_annotation(self._fn)

    def _encoded(self, value: Any) -> Any:
        return value if self._encode is None else self._encode(value)

    def _decoded(self, value: Any) -> Any:
        return value if self._decode is None else self._decode(value)

    def _misuse(self, error: UsageError) -> TerminalError:
        return TerminalError(
            f"Tool {self._name!r} used the durable context inside a step, where it is not "
            'available. Give it mode="scoped", then its own steps are recorded. (It failed with: '
            f"{error.message}) [HF0601]",
            metadata={_MISUSE: "HF0601"},
        )


def _has_happened(answer: Any) -> bool:
    return isinstance(answer, hf.Happened)


_DURABLE_IN_STEP = "HF0501"
