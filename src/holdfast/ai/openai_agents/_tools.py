"""Function tools whose calls are durable.

Two kinds of call, both under the scope `tool:<name>:<tool_call_id>`. The id comes from the recorded
answer of the model, so it is the same at replay, whatever order parallel calls run in.

- **A step** (the default): the body runs once, inside one durable step. Inside a step the durable
  context cannot be used.
- **Scoped**: the body runs in the scope, where it can use `hf.current()`; its own operations are
  recorded, and its result as the last of them.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agents import FunctionTool
from agents.exceptions import ModelBehaviorError
from agents.run_context import RunContextWrapper
from agents.tool import (
    invoke_function_tool,
    maybe_invoke_function_tool_failure_error_function,
    set_function_tool_failure_error_function,
)
from agents.tool_context import ToolContext
from pydantic import TypeAdapter

from ._output import OutputCodec
from ._sdk import (
    ACTIVE,
    CANCELLED_CODE,
    HoldfastError,
    Options,
    Record,
    TerminalError,
    UsageError,
    current,
    warn_once,
)

_SCOPED = "__holdfast_scoped__"
_DURABLE = "__holdfast_durable__"

T = TypeVar("T")


def scoped(tool: T) -> T:
    """Mark a tool that uses the durable context itself.

    The body of such a tool runs outside of a step and may use `hf.current()`: steps, timers,
    awakeables, calls. What it does outside of those runs again at replay. Put it above or below
    `@function_tool`:

        @function_tool
        @durable_agents.scoped
        async def approve(claim: str) -> str:
            approval = hf.current().awakeable(type=bool)
            ...

    Raises:
        UsageError: The function is not async; it could not await anything durable.
    """
    _check_scopable(tool)
    setattr(tool, _SCOPED, True)
    return tool


def _check_scopable(tool: object) -> None:
    function: object = getattr(tool, "__wrapped__", None)
    if not isinstance(tool, FunctionTool):
        function = tool
        if not callable(tool):
            raise UsageError(f"@durable_agents.scoped is for tools and functions, not {tool!r}.")
    if inspect.isfunction(function) and not inspect.iscoroutinefunction(function):
        raise UsageError(
            f"@durable_agents.scoped needs an async function, but {function.__name__!r} is not."
        )


def is_scoped(tool: FunctionTool, options: Options) -> bool:
    """Say whether calls of a tool run in a scope instead of a step."""
    # An agent as a tool is a whole run: its model calls and tools are recorded one by one.
    return (
        bool(getattr(tool, "_is_agent_tool", False))
        or tool.name in options.scoped_tools
        or bool(getattr(tool, _SCOPED, False))
        or bool(getattr(getattr(tool, "__wrapped__", None), _SCOPED, False))
    )


def durable_tool(tool: FunctionTool, options: Options) -> FunctionTool:
    """Return a copy of a tool whose calls are durable.

    Raises:
        UsageError: The tool uses a feature that cannot be made durable.
    """
    if getattr(tool.on_invoke_tool, _DURABLE, False):
        return tool
    in_scope = is_scoped(tool, options)
    _check(tool, in_scope=in_scope)
    invoke = _scoped_call(tool) if in_scope else _step_call(tool, options)
    setattr(invoke, _DURABLE, True)
    # Outside of the body only a cancelled attempt is left to handle, and no text may stop that.
    durable = set_function_tool_failure_error_function(copy.copy(tool), None)
    # The step enforces it: a timeout out here would not be recorded, and replay another way.
    durable.timeout_seconds = None
    durable.on_invoke_tool = invoke
    return durable


def _check(tool: FunctionTool, *, in_scope: bool) -> None:
    if tool.needs_approval is not False:
        raise UsageError(
            f"Tool {tool.name!r} has `needs_approval`, which stops the run and is not durable. "
            "Wait inside the tool instead: mark it with @durable_agents.scoped and await an "
            "awakeable there."
        )
    if tool.output_json_schema is not None:
        raise UsageError(
            f"Tool {tool.name!r} declares an output schema (`output_type`, programmatic callers), "
            "which is not supported in durable runs yet."
        )
    if in_scope and tool.timeout_seconds is not None:
        raise UsageError(
            f"Tool {tool.name!r} is scoped and has a `timeout`, which would count again after each "
            "restart. Use asyncio.timeout() inside the tool."
        )


_Invoke = Callable[[ToolContext[Any], str], Awaitable[Any]]


def _step_call(tool: FunctionTool, options: Options) -> _Invoke:
    codec = OutputCodec(tool)
    # With a retry policy, errors must reach the step; without, they go to the model as usual.
    body_tool = _with_failures(tool, tell_model=options.tool_retry is None)

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        async def body() -> Record:
            token = ACTIVE.set(None)
            before = _fingerprint(context.context)
            try:
                output = await invoke_function_tool(
                    function_tool=body_tool, context=context, arguments=arguments
                )
            except UsageError as error:
                # Recorded and not raised, so that no failure handler makes a text of it.
                return {"misuse": str(error)}
            except ModelBehaviorError as error:
                raise TerminalError(f"tool {tool.name!r}: {error}") from error
            finally:
                ACTIVE.reset(token)
            _warn_of_changes(tool, before, context.context)
            return codec.encode(output)

        with current().scope(_label(tool, context)):
            try:
                record = await current().run(tool.name, body, retry=options.tool_retry, type=Record)
            except TerminalError as error:
                text = await _told_to_model(tool, context, error)
                if text is None:
                    raise
                return text
        if "misuse" in record:
            raise TerminalError(_UNSCOPED.format(tool=tool.name, error=record["misuse"]))
        return codec.decode(record)

    return invoke


def _scoped_call(tool: FunctionTool) -> _Invoke:
    codec = OutputCodec(tool)
    body_tool = _with_failures(tool, tell_model=True)

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        with current().scope(_label(tool, context)):
            output = await invoke_function_tool(
                function_tool=body_tool, context=context, arguments=arguments
            )

            async def result() -> Record:
                return codec.encode(output)

            return codec.decode(await current().run("result", result, type=Record))

    return invoke


_UNSCOPED = (
    "Tool {tool!r} used the durable context inside a step, where it is not available. Mark the "
    "tool with @durable_agents.scoped, then its own steps are recorded. (It failed with: {error})"
)


def _label(tool: FunctionTool, context: ToolContext[Any]) -> str:
    return f"tool:{tool.qualified_name}:{context.tool_call_id}"


def _with_failures(tool: FunctionTool, *, tell_model: bool) -> FunctionTool:
    """Return a copy whose failure handler lets Holdfast's own errors pass.

    Args:
        tool: The user's tool; its own handler stays in charge of all other errors.
        tell_model: Whether those errors go to its handler, or out of the call.
    """

    async def handle(context: RunContextWrapper[Any], error: Exception) -> str | None:
        if _is_ours(error):
            raise error
        if not tell_model:
            return None
        return await maybe_invoke_function_tool_failure_error_function(
            function_tool=tool, context=context, error=error
        )

    # The handler may say None, which means the same as having none: raise.
    return set_function_tool_failure_error_function(copy.copy(tool), handle)


def _is_ours(error: Exception) -> bool:
    """Say whether an error is for the author or the operator, and not for the model."""
    if isinstance(error, TerminalError):
        return error.code == CANCELLED_CODE
    return isinstance(error, HoldfastError)


async def _told_to_model(
    tool: FunctionTool, context: ToolContext[Any], error: TerminalError
) -> str | None:
    if _is_ours(error):
        return None
    return await maybe_invoke_function_tool_failure_error_function(
        function_tool=tool, context=context, error=error
    )


def _fingerprint(value: object) -> bytes | None:
    """Return the state of the run's context object, or `None` if it cannot be told."""
    if value is None:
        return None
    try:
        return TypeAdapter(type(value)).dump_json(value)
    except Exception:
        # An object of a shape that Pydantic does not know. This check is only a help.
        return None


def _warn_of_changes(tool: FunctionTool, before: bytes | None, value: object) -> None:
    if before is not None and _fingerprint(value) != before:
        warn_once(
            "tool %r changed the run's context object inside a step; the change is not recorded "
            "and is lost at replay. Mark the tool with @durable_agents.scoped, or return the value",
            tool.name,
        )
