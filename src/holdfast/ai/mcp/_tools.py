"""The tools of one MCP server, as durable steps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import mcp_types
from pydantic import TypeAdapter

from holdfast.ai.guard import current, warn_if_outside, whereabouts
from holdfast.ai.option import Options
from holdfast.ai.tool import durable_tool_call
from holdfast.domain.errors import TerminalError

from ._connection import Connection, Server

_TOOLS: TypeAdapter[list[mcp_types.Tool]] = TypeAdapter(list[mcp_types.Tool])
_RESULT: TypeAdapter[mcp_types.CallToolResult] = TypeAdapter(mcp_types.CallToolResult)


class McpToolError(TerminalError):
    """A tool of an MCP server answered with an error."""

    def __init__(self, name: str, result: mcp_types.CallToolResult) -> None:
        super().__init__(f"tool {name!r}: {text_of(result)}")
        self.result = result
        """The answer."""


class McpTools:
    """The tools of one server. See `mcp_tools`."""

    def __init__(self, name: str, connection: Connection, options: Options | None) -> None:
        self.name = name
        self._connection = connection
        self._options = options

    async def list_tools(self) -> list[mcp_types.Tool]:
        """Return what the server offers, or what it offered when this was recorded."""
        if whereabouts() != "handler":
            warn_if_outside(f"MCP server {self.name!r}")
            return await self._list()

        async def listed() -> Any:
            return _TOOLS.dump_python(await self._list(), mode="json", exclude_none=True)

        step = f"list tools of {self.name}"
        return _TOOLS.validate_python(await current().run(step, listed, type=Any))

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, call_id: str = ""
    ) -> mcp_types.CallToolResult:
        """Call a tool, or take its recorded answer. Parallel calls stay parallel.

        Args:
            name: Of the tool.
            arguments: As the model gave them.
            call_id: As the model named the call. Calls that may run at one time need different
                ones.

        Returns:
            The answer; one that is an error of the tool has `is_error`.

        Raises:
            TerminalError: The server could not be asked, and retries are used up.
        """
        given = dict(arguments or {})
        if whereabouts() != "handler":
            warn_if_outside(f"MCP server {self.name!r}")
            return await self._call(name, given)

        async def call() -> mcp_types.CallToolResult:
            return await self._call(name, given)

        return await durable_tool_call(
            name,
            call_id,
            call,
            options=self._options,
            encode=lambda result: _RESULT.dump_python(result, mode="json", exclude_none=True),
            decode=_RESULT.validate_python,
            shown=given,
        )

    async def text(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, call_id: str = ""
    ) -> str:
        """Call a tool and return the text of its answer.

        Raises:
            McpToolError: The answer is an error.
        """
        result = await self.call_tool(name, arguments, call_id=call_id)
        if result.is_error:
            raise McpToolError(name, result)
        return text_of(result)

    async def _list(self) -> list[mcp_types.Tool]:
        client = await self._connection.client()
        tools: list[mcp_types.Tool] = []
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            tools.extend(page.tools)
            cursor = page.next_cursor
            if cursor is None:
                return tools

    async def _call(self, name: str, arguments: dict[str, Any]) -> mcp_types.CallToolResult:
        client = await self._connection.client()
        return await client.call_tool(name, arguments)


@asynccontextmanager
async def mcp_tools(
    server: Server, *, name: str = "", options: Options | None = None, **settings: Any
) -> AsyncGenerator[McpTools]:
    """Use the tools of an MCP server.

    Args:
        server: URL of a server over HTTP, a command to start one, or whatever `mcp.Client` takes.
        name: Of the server in the journal; empty: `mcp`. Different servers need different ones.
        options: Retries and the treatment of tools. `None` takes those of the agent run around us.
        **settings: For `mcp.Client`.

    Yields:
        The tools. Nothing is connected before it must be.
    """
    connection = Connection(server, settings)
    is_durable = whereabouts() == "handler"
    try:
        yield McpTools(name or "mcp", connection, options)
    finally:
        if is_durable:
            # The handler may be leaving memory, which must not be delayed.
            connection.close_soon()
        else:
            await connection.close()


def text_of(result: mcp_types.CallToolResult) -> str:
    """Return the text in an answer."""
    return "\n".join(
        part.text for part in result.content if isinstance(part, mcp_types.TextContent)
    )
