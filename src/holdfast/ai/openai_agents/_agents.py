"""Durable copies of agents, and the way back to the user's own.

A run works on copies, so that the user's agents stay as they are and several runs can share them.
Handoffs may go in circles: each agent is copied once per run.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from agents import (
    Agent,
    ApplyPatchTool,
    ComputerTool,
    CustomTool,
    FunctionTool,
    Handoff,
    HostedMCPTool,
    LocalShellTool,
    Model,
    RunContextWrapper,
    ShellTool,
    Tool,
)
from agents.exceptions import RunErrorDetails
from agents.result import RunResultBase

from holdfast.ai.guard import warn_once
from holdfast.domain.errors import UsageError

from ._approval import Approvals
from ._mcp import durable_hosted, durable_server
from ._model import durable_model
from ._tools import durable_tool

T = TypeVar("T")

_ORIGINAL = "_holdfast_original"
_AGENT_FIELDS = (
    "agent",
    "source_agent",
    "target_agent",
    "current_agent",
    "last_agent",
    "_last_agent",
)


class AgentCopier:
    """Makes the durable copies of one run."""

    def __init__(self, approvals: Approvals) -> None:
        self._approvals = approvals
        self._copies: dict[int, Agent[Any]] = {}

    def copy(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the durable copy of an agent and of all it can hand off to.

        Raises:
            UsageError: HF0605, an agent or tool cannot be made durable.
        """
        original = original_of(agent)
        known = self._copies.get(id(original))
        if known is not None:
            return known
        _check(original)
        # Not dataclasses.replace: that would derive the model settings a second time.
        durable = copy.copy(original)
        vars(durable)[_ORIGINAL] = original
        self._copies[id(original)] = durable
        durable.tools = [self._tool(tool) for tool in original.tools]
        durable.handoffs = [
            self._handoff(target) if isinstance(target, Handoff) else self.copy(target)
            for target in original.handoffs
        ]
        if isinstance(original.model, Model):
            durable.model = durable_model(original.model)
        if original.mcp_servers:
            durable.mcp_servers = [durable_server(server) for server in original.mcp_servers]
            vars(durable)["get_mcp_tools"] = _durable_mcp_tools(durable)
        return durable

    def _tool(self, tool: Tool) -> Tool:
        if isinstance(tool, FunctionTool):
            nested: Agent[Any] | None = getattr(tool, "_agent_instance", None)
            if nested is not None:
                # Its own run makes its own copies; here we only want to refuse it early.
                self.copy(nested)
            return durable_tool(tool)
        if isinstance(tool, HostedMCPTool):
            return durable_hosted(tool, self._approvals)
        _check_other_tool(tool)
        return tool

    def _handoff(self, original: Handoff[Any, Any]) -> Handoff[Any, Any]:
        durable = copy.copy(original)

        async def invoke(context: RunContextWrapper[Any], arguments: str) -> Agent[Any]:
            return self.copy(await original.on_invoke_handoff(context, arguments))

        durable.on_invoke_handoff = invoke
        reference: weakref.ref[Agent[Any]] | None = getattr(original, "_agent_ref", None)
        if reference is not None and isinstance(target := reference(), Agent):
            self.copy(target)
        return durable


def _durable_mcp_tools(agent: Agent[Any]) -> Callable[..., Awaitable[list[Tool]]]:
    listed = agent.get_mcp_tools

    async def get_mcp_tools(context: RunContextWrapper[Any]) -> list[Tool]:
        tools = await listed(context)
        return [durable_tool(tool) if isinstance(tool, FunctionTool) else tool for tool in tools]

    return get_mcp_tools


def original_of(agent: Agent[Any]) -> Agent[Any]:
    """Return the user's own agent for a durable copy, and any other agent as it is."""
    original: Agent[Any] = vars(agent).get(_ORIGINAL, agent)
    return original


def give_back_originals(details: RunResultBase | RunErrorDetails) -> None:
    """Put the user's own agents where a result or an error names the copies of the run.

    So `result.last_agent` is the agent that the user defined, and can be compared and run again.
    """
    _swap(details)
    holders: Iterable[object] = (*details.new_items, *details.output_guardrail_results)
    for holder in holders:
        _swap(holder)


def with_originals(item: T) -> T:
    """Return a copy of an item that names the user's own agents."""
    shown = copy.copy(item)
    _swap(shown)
    return shown


def _swap(holder: object) -> None:
    fields = vars(holder)
    for name in _AGENT_FIELDS:
        original: Agent[Any] | None = getattr(fields.get(name), _ORIGINAL, None)
        if original is not None:
            fields[name] = original
            # Items hold their agents a second time, weakly, for after they are released.
            reference = f"{name}_ref" if name.startswith("_") else f"_{name}_ref"
            if reference in fields:
                fields[reference] = weakref.ref(original)


def _check(agent: Agent[Any]) -> None:
    if any(base.__name__ == "SandboxAgent" for base in type(agent).__mro__):
        raise UsageError(
            f"Agent {agent.name!r} is a sandbox agent, which cannot be made durable",
            code="HF0605",
            hint="Use an Agent, and do the work of the sandbox in function tools.",
        )
    if agent.model_settings.retry is not None:
        warn_once(
            "agent %r has retry settings for its model, which durable runs do not use; give "
            "Options a model_retry instead",
            agent.name,
        )


def _check_other_tool(tool: Tool) -> None:
    """Refuse tools that act on this machine. The others run at the provider, in the model call."""
    local = isinstance(tool, ComputerTool | LocalShellTool | ApplyPatchTool | CustomTool) or (
        isinstance(tool, ShellTool) and tool.executor is not None
    )
    if local:
        raise UsageError(
            f"Tool {tool.name!r} ({type(tool).__name__}) acts on this machine and would not be "
            "recorded",
            code="HF0605",
            hint="Use a function tool instead.",
        )
