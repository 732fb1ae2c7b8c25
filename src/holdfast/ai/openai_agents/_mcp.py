"""MCP servers of agents: what they offer is recorded; their tools are as durable as others."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from agents import (
    HostedMCPTool,
    MCPToolApprovalFunction,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
)
from agents.mcp import MCPServer
from mcp import Tool
from pydantic import TypeAdapter

from holdfast.ai.guard import current, warn_once

from ._active import in_run
from ._approval import Approvals, parsed_arguments

_TOOLS: TypeAdapter[list[Tool]] = TypeAdapter(list[Tool])


def durable_server(server: MCPServer) -> MCPServer:
    """Return a copy of a server that lists its tools in a step. Calls go to the server itself."""
    durable = copy.copy(server)

    async def list_tools(*args: Any, **kwargs: Any) -> list[Tool]:
        async def listed() -> Any:
            tools: Any = await server.list_tools(*args, **kwargs)
            return _TOOLS.dump_python(tools, mode="json", exclude_none=True)

        step = f"list tools of {server.name}"
        with in_run():
            return _TOOLS.validate_python(await current().run(step, listed, type=Any))

    # Attributes of the copy go before the methods of its class.
    vars(durable).update(list_tools=list_tools, call_tool=server.call_tool)
    return durable


def durable_hosted(tool: HostedMCPTool, approvals: Approvals) -> HostedMCPTool:
    """Return a copy of a hosted server whose approvals are recorded.

    Without an `on_approval_request` of the user, a person is asked.
    """
    warn_once(
        "hosted MCP tool %r runs at the provider, as a part of the model call: a model call "
        "that is repeated after a crash calls it again",
        str(tool.tool_config.get("server_label", tool.name)),
    )
    own = tool.on_approval_request

    async def ask(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        with in_run(), current().scope(f"approve:{request.data.name}:{request.data.id}"):
            if own is not None:
                return await current().run("ask", _asked, own, request, type=Any)
            decision = await current().approve(
                f"May the agent use {request.data.name} of {request.data.server_label}?",
                assignee=approvals.assignee or (),
                arguments=parsed_arguments(request.data.arguments) or {},
                timeout=approvals.timeout,
                on_timeout=approvals.on_timeout,
            )
        if decision.comment:
            return {"approve": decision.approved, "reason": decision.comment}
        return {"approve": decision.approved}

    hosted = copy.copy(tool)
    hosted.on_approval_request = ask
    return hosted


async def _asked(own: MCPToolApprovalFunction, request: MCPToolApprovalRequest) -> Any:
    answer = own(request)
    return await answer if inspect.isawaitable(answer) else answer
