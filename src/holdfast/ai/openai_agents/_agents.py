"""Durable copies of agents, and the way back to the user's own.

A run works on copies, so that the user's agents stay as they are and several runs can share them.
Handoffs may go in circles: each agent is copied once per run.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any

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
    RunResult,
    ShellTool,
    Tool,
)
from agents.exceptions import RunErrorDetails

from ._model import durable_model
from ._sdk import Options, UsageError, warn_once
from ._tools import durable_tool

_ORIGINAL = "_holdfast_original"
_AGENT_FIELDS = ("agent", "source_agent", "target_agent", "last_agent", "_last_agent")


class AgentCopier:
    """Makes the durable copies of one run."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._copies: dict[int, Agent[Any]] = {}

    def copy(self, agent: Agent[Any]) -> Agent[Any]:
        """Return the durable copy of an agent and of all it can hand off to.

        Raises:
            UsageError: An agent or tool cannot be made durable.
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
        return durable

    def _tool(self, tool: Tool) -> Tool:
        if isinstance(tool, FunctionTool):
            nested: Agent[Any] | None = getattr(tool, "_agent_instance", None)
            if nested is not None:
                # Its own run makes its own copies; here we only want to refuse it early.
                self.copy(nested)
            return durable_tool(tool, self._options)
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


def original_of(agent: Agent[Any]) -> Agent[Any]:
    """Return the user's own agent for a durable copy, and any other agent as it is."""
    original: Agent[Any] = vars(agent).get(_ORIGINAL, agent)
    return original


def give_back_originals(details: RunResult | RunErrorDetails) -> None:
    """Put the user's own agents where a result or an error names the copies of the run.

    So `result.last_agent` is the agent that the user defined, and can be compared and run again.
    """
    _swap(details)
    holders: Iterable[object] = (*details.new_items, *details.output_guardrail_results)
    for holder in holders:
        _swap(holder)


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
    if agent.mcp_servers:
        raise UsageError(
            f"Agent {agent.name!r} uses local MCP servers, whose calls would not be recorded. Call "
            "the server from a function tool instead."
        )
    if any(base.__name__ == "SandboxAgent" for base in type(agent).__mro__):
        raise UsageError(f"Agent {agent.name!r} is a sandbox agent, which cannot be made durable.")
    if agent.model_settings.retry is not None:
        warn_once(
            "agent %r has retry settings for its model, which durable runs do not use; give "
            "durable_agents.run() a model_retry instead",
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
            "recorded. Use a function tool instead."
        )
    if isinstance(tool, HostedMCPTool):
        if tool.on_approval_request is not None:
            raise UsageError(
                "A hosted MCP tool with `on_approval_request` is not durable: its answer would "
                "not be recorded."
            )
        warn_once(
            "hosted MCP tool %r runs at the provider, as a part of the model call: a model call "
            "that is repeated after a crash calls it again",
            str(tool.tool_config.get("server_label", tool.name)),
        )
