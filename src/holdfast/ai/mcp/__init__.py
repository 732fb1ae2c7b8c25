"""Tools of MCP servers in durable handlers.

    from holdfast.ai.mcp import mcp_tools

    @service.handler
    async def run(ctx: hf.Context, prompt: Prompt) -> str:
        async with mcp_tools("http://localhost:8000/mcp") as server:
            tools = await server.list_tools()
            found = await server.call_tool("search", {"text": prompt.text}, call_id="call_1")

What the server offers, and each call of a tool, is one step: recorded once, taken from the record
at replay, also when the server is gone by then. A connection is made for the first call that is
really made, so a replay makes none.

The agents of Pydantic AI do this for MCP servers that are given to them as toolsets.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("mcp") is None:
    raise ImportError('holdfast.ai.mcp needs the MCP SDK: pip install "holdfast[mcp]"')

from ._connection import Server
from ._tools import McpToolError, McpTools, mcp_tools

__all__ = ["McpToolError", "McpTools", "Server", "mcp_tools"]
