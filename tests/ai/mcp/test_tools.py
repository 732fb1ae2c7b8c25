"""Tools of MCP servers in durable handlers, with the real SDK over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer

import holdfast as hf
from holdfast.ai.mcp import McpToolError, mcp_tools
from holdfast.testing import environment


class Offer:
    """An MCP server over HTTP, and what was asked of it."""

    def __init__(self) -> None:
        self.listed = 0
        self.ran: list[str] = []
        self.url = ""

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = MCPServer("offer")

        @server.tool()
        async def look(city: str) -> str:
            """Look at the weather."""
            self.ran.append(city)
            await asyncio.sleep(0.02)
            if city == "Atlantis":
                raise ValueError("no such city")
            return f"sunny in {city}"

        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            port = listener.getsockname()[1]
            config = uvicorn.Config(server.streamable_http_app(), log_config=None, lifespan="on")
            web = uvicorn.Server(config)
            task = asyncio.create_task(web.serve(sockets=[listener]))
            while not web.started:
                await asyncio.sleep(0.005)
            self.url = f"http://127.0.0.1:{port}/mcp"
            try:
                yield
            finally:
                web.should_exit = True
                await task


@pytest.fixture
async def offer() -> AsyncIterator[Offer]:
    found = Offer()
    async with found.serving():
        yield found


def app(offer: Offer) -> hf.App:
    service = hf.Service("Agent")

    @service.handler
    async def run(ctx: hf.Context, cities: list[str]) -> list[str]:
        async with mcp_tools(offer.url) as server:
            names = [tool.name for tool in await server.list_tools()]
            found = await asyncio.gather(
                *(
                    server.text("look", {"city": city}, call_id=f"c{number}")
                    for number, city in enumerate(cities)
                )
            )
            await ctx.sleep(1)
            return [*names, *found]

    @service.handler
    async def fail(ctx: hf.Context) -> str:
        async with mcp_tools(offer.url) as server:
            try:
                return await server.text("look", {"city": "Atlantis"}, call_id="c1")
            except McpToolError as error:
                await ctx.sleep(1)
                return error.message

    return hf.App(service)


@pytest.mark.parametrize(
    "crash", [None, *(f"{w}:step {n}" for n in (1, 2, 3) for w in ("before", "during", "after"))]
)
async def test_calls_are_recorded_once(offer: Offer, crash: str | None) -> None:
    async with environment(app(offer)) as env:
        if crash is not None:
            env.crash_at(crash)
        said = await env.client.call("Agent/run", ["Oslo", "Rome"])
    assert said == ["look", "sunny in Oslo", "sunny in Rome"]
    assert set(offer.ran) == {"Oslo", "Rome"}
    assert len(offer.ran) <= (2 if crash is None else 4)


async def test_a_replay_needs_no_server() -> None:
    offer = Offer()
    async with environment(app(offer)) as env:
        async with offer.serving():
            sent = await env.client.send("Agent/run", ["Oslo"])
            await env.settle()
        # It sleeps now; the replay after it finds no server.
        assert await env.client.attach(sent.invocation_id) == ["look", "sunny in Oslo"]


async def test_an_error_of_a_tool(offer: Offer) -> None:
    async with environment(app(offer), always_replay=True) as env:
        assert "Error executing tool look" in await env.client.call("Agent/fail")
    assert offer.ran == ["Atlantis"]


async def test_outside_of_a_handler(offer: Offer) -> None:
    async with mcp_tools(offer.url) as server:
        assert [tool.name for tool in await server.list_tools()] == ["look"]
        assert await server.text("look", {"city": "Oslo"}) == "sunny in Oslo"
