"""Durable agents: what all integrations share, and a hook for clients without one.

Each framework has a module of its own, such as `holdfast.ai.openai_agents`. For everything else:

- `http_client` makes a client of a provider durable, `instrument` all clients of the process;
- `durable_tool_call` makes the tool calls of a hand-written loop durable;
- `Options` and `ToolOptions` have the same names in all modules;
- `agent_scope` names an agent in the journal, `current_agent` is the one around us.
"""

from __future__ import annotations

from holdfast.ai.agent import AgentRun, LoopStopped, agent_scope, current_agent
from holdfast.ai.http import http_client, instrument, sync_http_client, uninstrument
from holdfast.ai.model import durable_model_call, durable_model_stream
from holdfast.ai.option import Options, ToolOptions
from holdfast.ai.tool import durable_tool_call

__all__ = [
    "AgentRun",
    "LoopStopped",
    "Options",
    "ToolOptions",
    "agent_scope",
    "current_agent",
    "durable_model_call",
    "durable_model_stream",
    "durable_tool_call",
    "http_client",
    "instrument",
    "sync_http_client",
    "uninstrument",
]
