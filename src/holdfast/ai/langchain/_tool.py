"""Tool calls of LangChain and LangGraph as durable steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from langchain_core.messages import ToolMessage
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from holdfast.ai.agent import current_options
from holdfast.ai.guard import warn_if_outside, whereabouts
from holdfast.ai.option import Options, ToolOptions
from holdfast.ai.tool import durable_tool_call as tool_call
from holdfast.domain.errors import TerminalError, UsageError

from ._message import decode_message, decode_value, encode_message, encode_value

Handler = Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]

_METADATA_KEY = "holdfast"


async def durable_tool_call(
    request: ToolCallRequest, handler: Handler, options: Options | None = None
) -> ToolMessage | Command[Any]:
    """Run a tool call, or take its record. For `ToolNode(…, awrap_tool_call=durable_tool_call)`.

    Args:
        request: The call that the model asked for.
        handler: Runs it.
        options: `None` takes those of the agent run around the call.

    Returns:
        What the tool answered. With `on_error="feed"`, a failure comes back as a message with
        status `error`.
    """
    name, call_id = request.tool_call["name"], request.tool_call["id"] or ""
    if whereabouts() != "handler":
        warn_if_outside(f"tool {name!r}")
        return await handler(request)
    chosen = current_options() if options is None else options
    own = _own_options(request)

    async def call() -> ToolMessage | Command[Any]:
        try:
            return await handler(request)
        except GraphBubbleUp as error:
            raise UsageError(
                f"Tool {name!r} uses interrupt(), which needs a checkpointer and a second run.",
                code="HF0603",
                hint='Use `await hf.current().approve(…)` in a tool with mode="scoped".',
            ) from error

    try:
        return await tool_call(
            name,
            call_id,
            call,
            options=chosen,
            own=own,
            encode=encode_output,
            decode=decode_output,
            shown=request.tool_call["args"],
        )
    except TerminalError as error:
        if chosen.for_tool(name, own).on_error != "feed":
            raise
        content = f"Error: {error}\n Please fix your mistakes."
        return ToolMessage(content, name=name, tool_call_id=call_id, status="error")


def _own_options(request: ToolCallRequest) -> ToolOptions | None:
    """Return what the tool itself says, in its metadata."""
    metadata: dict[str, Any] = getattr(request.tool, "metadata", None) or {}
    own = metadata.get(_METADATA_KEY)
    return own if isinstance(own, ToolOptions) else None


def encode_output(output: ToolMessage | Command[Any]) -> dict[str, Any]:
    """Return the recorded form of what a tool answered.

    Raises:
        UsageError: HF0604, a command holds something that has no recorded form.
    """
    if isinstance(output, ToolMessage):
        return {"message": encode_message(output)}
    return {
        "command": {
            "graph": output.graph,
            "update": encode_value(output.update),
            "resume": encode_value(output.resume),
            "goto": encode_value(output.goto),
        }
    }


def decode_output(record: dict[str, Any]) -> ToolMessage | Command[Any]:
    """Return what a tool answered, from its recorded form."""
    if "message" in record:
        return cast("ToolMessage", decode_message(record["message"]))
    return Command(**{name: decode_value(value) for name, value in record["command"].items()})
