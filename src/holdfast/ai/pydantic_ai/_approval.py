"""Deferred tools of the framework as approvals of people."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic_ai.capabilities import HandleDeferredToolCalls
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDenied,
)

from holdfast.ai.guard import current, warn_if_outside, whereabouts
from holdfast.sdk.retry import Duration


def ask_people(
    *,
    assignee: str = "",
    timeout: Duration | None = None,
    on_timeout: str = "reject",
) -> HandleDeferredToolCalls[Any]:
    """Return a capability that asks a person for each tool call that requires approval.

    The person sees the tool and its arguments, may change them, and approves or rejects; meanwhile
    the run is suspended. Other deferred calls are left to the framework.

    Args:
        assignee: Who may decide; empty: anybody.
        timeout: How long to wait; `None`: for ever.
        on_timeout: What happens then: `"reject"`, `"approve"` or `"fail"`.
    """

    async def ask(ctx: RunContext[Any], requests: DeferredToolRequests) -> Any:
        if whereabouts() != "handler":
            warn_if_outside("an approval")
            return None
        asked = [_ask(call) for call in requests.approvals]
        return DeferredToolResults(approvals=dict(await asyncio.gather(*asked)))

    async def _ask(call: ToolCallPart) -> tuple[str, ToolApproved | ToolDenied]:
        arguments = call.args_as_dict()
        with current().scope(f"approve:{call.tool_name}:{call.tool_call_id}"):
            decision = await current().approve(
                f"May the agent use {call.tool_name}?",
                assignee=assignee or (),
                arguments=arguments,
                editable={name: {} for name in arguments},
                timeout=timeout,
                on_timeout=on_timeout,
            )
        if decision.approved:
            return call.tool_call_id, ToolApproved(override_args=decision.arguments or arguments)
        reason = f": {decision.comment}" if decision.comment else "."
        return call.tool_call_id, ToolDenied(f"The tool call was denied{reason}")

    return HandleDeferredToolCalls(handler=ask)
