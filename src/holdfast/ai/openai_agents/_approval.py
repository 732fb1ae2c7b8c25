"""Tools that need an approval ask a person, and wait for as long as it takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from agents import FunctionTool
from agents.run_internal.tool_execution import resolve_approval_rejection_message
from agents.tool_context import ToolContext
from agents.util._approvals import evaluate_function_tool_approval

from holdfast.ai.guard import current
from holdfast.sdk.retry import Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Approvals:
    """Who is asked about tools with `needs_approval`, and how long the run waits for an answer."""

    assignee: str = ""
    """Who may decide; empty: anybody."""
    timeout: Duration | None = None
    """How long to wait; `None`: for ever."""
    on_timeout: str = "reject"
    """What happens then: `"reject"`, `"approve"` or `"fail"`."""


class Rejected(Exception):
    """A person has rejected the call of a tool. The text is for the model."""


async def approved_arguments(
    tool: FunctionTool, context: ToolContext[Any], arguments: str, approvals: Approvals
) -> str:
    """Ask a person about a call, if its tool wants that.

    Args:
        tool: As the user wrote it.
        context: Of the call.
        arguments: JSON text.
        approvals: How to ask.

    Returns:
        The arguments to go on with, as the person changed them.

    Raises:
        Rejected: The person said no.
        TerminalError: 408, nobody answered in time, and `on_timeout` is `"fail"`.
    """
    if tool.needs_approval is False:
        return arguments
    call_id = context.tool_call_id
    wanted = await evaluate_function_tool_approval(tool, context, arguments, call_id)
    if wanted.outcome != "require_approval":
        return arguments
    shown = parsed_arguments(arguments)
    with current().scope(f"approve:{tool.qualified_name}:{call_id}"):
        decision = await current().approve(
            f"May the agent use {tool.name}?",
            assignee=approvals.assignee or (),
            # What is no object cannot be changed by name; the tool itself will refuse it.
            arguments={} if shown is None else shown,
            editable={name: {} for name in shown or ()},
            payload=arguments if shown is None else None,
            timeout=approvals.timeout,
            on_timeout=approvals.on_timeout,
        )
    if not decision.approved:
        raise Rejected(await _rejection(tool, context, decision.comment))
    if shown is None or decision.arguments == shown:
        return arguments
    return json.dumps(decision.arguments, ensure_ascii=False)


async def _rejection(tool: FunctionTool, context: ToolContext[Any], comment: str) -> str:
    config = context.run_config
    if comment or config is None:
        return f"Tool execution was not approved: {comment}" if comment else _NOT_APPROVED
    return await resolve_approval_rejection_message(
        context_wrapper=context,
        run_config=config,
        tool_type="function",
        tool_name=tool.qualified_name,
        call_id=context.tool_call_id,
    )


_NOT_APPROVED = "Tool execution was not approved."


def parsed_arguments(arguments: str) -> dict[str, Any] | None:
    """Return the arguments of a call by name; `None` if the model wrote something else."""
    try:
        parsed: object = json.loads(arguments or "{}")
    except ValueError:
        return None
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else None
