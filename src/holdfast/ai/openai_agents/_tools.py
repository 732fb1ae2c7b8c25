"""Function tools whose calls are durable: a step, or a scope, by their `Options`."""

from __future__ import annotations

import copy
import inspect
from typing import Any, TypeVar

from agents import FunctionTool
from agents.tool import (
    invoke_function_tool,
    maybe_invoke_function_tool_failure_error_function,
    set_function_tool_failure_error_function,
)
from agents.tool_context import ToolContext
from pydantic import TypeAdapter

from holdfast.ai.agent import current_options
from holdfast.ai.guard import warn_once
from holdfast.ai.option import ToolOptions
from holdfast.ai.tool import durable_tool_call
from holdfast.domain.errors import TerminalError, UsageError

from ._active import ACTIVE, in_run
from ._approval import Rejected, approved_arguments, parsed_arguments
from ._output import OutputCodec

_SCOPED = "__holdfast_scoped__"
_DURABLE = "__holdfast_durable__"

T = TypeVar("T")


def scoped(tool: T) -> T:
    """Mark a tool that uses the durable context itself: as `ToolOptions(mode="scoped")`.

    The body of such a tool runs outside of a step and may use `hf.current()`: steps, timers,
    approvals, calls. What it does outside of those runs again at replay. Put it above or below
    `@function_tool`:

        @function_tool
        @durable_agents.scoped
        async def remind(text: str) -> str:
            await hf.current().sleep(timedelta(days=1))
            ...

    Raises:
        UsageError: HF0607, the function is not async; it could not await anything durable.
    """
    _check_scopable(tool)
    setattr(tool, _SCOPED, True)
    return tool


def _check_scopable(tool: object) -> None:
    function: object = getattr(tool, "__wrapped__", None)
    if not isinstance(tool, FunctionTool):
        function = tool
        if not callable(tool):
            raise UsageError(
                f"@durable_agents.scoped is for tools and functions, not {tool!r}", code="HF0607"
            )
    if inspect.isfunction(function) and not inspect.iscoroutinefunction(function):
        raise UsageError(
            f"@durable_agents.scoped needs an async function, but {function.__name__!r} is not",
            code="HF0607",
            hint="Write it as `async def`; what blocks goes into a step: hf.current().run(…).",
        )


def _own_options(tool: FunctionTool) -> ToolOptions | None:
    """Return what the tool itself says about its calls."""
    # An agent as a tool is a whole run: its model calls and tools are recorded one by one.
    is_scoped = (
        bool(getattr(tool, "_is_agent_tool", False))
        or bool(getattr(tool, _SCOPED, False))
        or bool(getattr(getattr(tool, "__wrapped__", None), _SCOPED, False))
    )
    return ToolOptions(mode="scoped") if is_scoped else None


def durable_tool(tool: FunctionTool) -> FunctionTool:
    """Return a copy of a tool whose calls are durable.

    Raises:
        UsageError: HF0605, the tool uses a feature that cannot be made durable.
    """
    if getattr(tool.on_invoke_tool, _DURABLE, False):
        return tool
    _check(tool)
    call = _Call(tool)

    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        return await call.run(context, arguments)

    setattr(invoke, _DURABLE, True)
    # What comes out of the call is told to the model by the call itself, or ends the run.
    durable = set_function_tool_failure_error_function(copy.copy(tool), None)
    # Both are part of the call: a timeout out here would not be recorded, and the run would stop
    # at an approval.
    durable.timeout_seconds = None
    durable.needs_approval = False
    durable.on_invoke_tool = invoke
    return durable


def _check(tool: FunctionTool) -> None:
    if tool.output_json_schema is not None:
        raise UsageError(
            f"Tool {tool.name!r} declares an output schema (`output_type`, programmatic callers), "
            "which is not supported in durable runs",
            code="HF0605",
            hint="Leave the schema out; typed results stay typed without it.",
        )
    own = _own_options(tool)
    if current_options().for_tool(tool.qualified_name, own).mode == "scoped" and (
        tool.timeout_seconds is not None
    ):
        raise UsageError(
            f"Tool {tool.name!r} is scoped and has a `timeout`, which would count again after each "
            "restart",
            code="HF0605",
            hint="Use asyncio.timeout() inside the tool: in a handler it is durable.",
        )


class _Call:
    """The calls of one tool."""

    def __init__(self, tool: FunctionTool) -> None:
        self._tool = tool
        self._codec = OutputCodec(tool)
        # Its failures come out, to be recorded as what they are.
        self._body = set_function_tool_failure_error_function(copy.copy(tool), None)
        self._own = _own_options(tool)

    async def run(self, context: ToolContext[Any], arguments: str) -> Any:
        """Call the tool, or take its record. A failure goes to the model in the tool's own way."""
        tool = self._tool
        active = ACTIVE.get()
        if active is not None:
            try:
                with in_run():
                    arguments = await approved_arguments(tool, context, arguments, active.approvals)
            except Rejected as rejection:
                return str(rejection)
        mode = current_options().for_tool(tool.qualified_name, self._own).mode

        async def body(**_: Any) -> Any:
            if mode == "step":
                return await self._in_step(context, arguments)
            return await self._execute(context, arguments)

        try:
            with in_run():
                return await durable_tool_call(
                    tool.qualified_name,
                    context.tool_call_id,
                    body,
                    parsed_arguments(arguments) or {},
                    own=self._own,
                    encode=self._codec.encode,
                    decode=self._codec.decode,
                )
        except TerminalError as error:
            text = await maybe_invoke_function_tool_failure_error_function(
                function_tool=tool, context=context, error=error
            )
            if text is None:
                raise
            return text

    async def _in_step(self, context: ToolContext[Any], arguments: str) -> Any:
        before = _fingerprint(context.context)
        # Runs that the tool starts are parts of its step.
        token = ACTIVE.set(None)
        try:
            output = await self._execute(context, arguments)
        finally:
            ACTIVE.reset(token)
        if before is not None and _fingerprint(context.context) != before:
            warn_once(
                "tool %r changed the run's context object inside a step; the change is not "
                "recorded and is lost at replay. Give the tool mode='scoped', or return the value",
                self._tool.name,
            )
        return output

    async def _execute(self, context: ToolContext[Any], arguments: str) -> Any:
        return await invoke_function_tool(
            function_tool=self._body, context=context, arguments=arguments
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
