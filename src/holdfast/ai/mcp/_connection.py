"""A connection to an MCP server that is made when it is first needed.

The SDK wants a connection opened and closed by one task. Steps come and go, so a task of its own
holds it, outside of the handler's branches: it has no part in the journal.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any, TypeAlias

from mcp import Client, StdioServerParameters

Server: TypeAlias = "str | StdioServerParameters | Any"
"""URL of a server over HTTP, a command to start one, or whatever `mcp.Client` takes."""


class Connection:
    """One connection. Calls may come from several tasks at once."""

    def __init__(self, server: Server, settings: dict[str, Any]) -> None:
        self._server = server
        self._settings = settings
        self._ready: asyncio.Future[Client] | None = None
        self._holder: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def client(self) -> Client:
        """Return the connected client.

        Raises:
            Exception: Of the SDK: the server cannot be reached.
        """
        if self._ready is None or (self._ready.done() and self._ready.exception() is not None):
            loop = asyncio.get_running_loop()
            self._ready = loop.create_future()
            self._holder = loop.create_task(self._hold(self._ready), context=contextvars.Context())
        # Others may wait for it, too, so a cancelled call must not take it away.
        return await asyncio.shield(self._ready)

    async def _hold(self, ready: asyncio.Future[Client]) -> None:
        try:
            async with Client(self._server, **self._settings) as client:
                ready.set_result(client)
                await self._closing.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)
            # Whoever asked may be gone.
            ready.exception()

    async def close(self) -> None:
        """Close what is open. Real time only: nothing of it is durable."""
        self._closing.set()
        if self._holder is not None:
            await _finished(self._holder)

    def close_soon(self) -> None:
        """Close without waiting for it."""
        self._closing.set()


async def _finished(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
