"""MCP servers of agents, with the real SDK over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from agents import Agent, RunConfig
from agents.mcp import MCPServerStreamableHttp
from mcp.server.mcpserver import MCPServer

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.testing import environment
from holdfast.testing.scripted_model import ScriptedModel, ToolCall, Turn

from .durable import outcome, served, steps
from .sample import summary

asked: list[str] = []


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve one tool, which notes what it is asked."""
    asked.clear()
    server = MCPServer("offer")

    @server.tool()
    async def look(city: str) -> str:
        """Look at the weather."""
        asked.append(city)
        if city == "Atlantis":
            raise ValueError("no such city")
        return f"sunny in {city}"

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        settings = uvicorn.Config(server.streamable_http_app(), log_config=None, lifespan="on")
        web = uvicorn.Server(settings)
        task = asyncio.create_task(web.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            while not web.started:
                await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{port}/mcp"
        finally:
            web.should_exit = True
            await task


@contextlib.asynccontextmanager
async def connected(url: str, **settings: Any) -> AsyncIterator[MCPServerStreamableHttp]:
    async with MCPServerStreamableHttp({"url": url}, name="offer", **settings) as server:
        yield server


CALLS = Turn(tool_calls=(ToolCall("look", {"city": "Oslo"}), ToolCall("look", {"city": "Rome"})))


@pytest.mark.parametrize(
    "crash", [None, *(f"{w}:step {n}" for n in (1, 3, 4, 5) for w in ("before", "after"))]
)
async def test_tools_of_a_server_run_once(
    model: ScriptedModel, config: RunConfig, url: str, crash: str | None
) -> None:
    model.scenario("m", [CALLS, summary])
    async with connected(url) as server:
        agent = Agent(name="A", model="m", mcp_servers=[server])

        async def run(ctx: hf.Context) -> str:
            return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

        said = await outcome(run, crash=crash)
    assert said.count("sunny in") == 2
    assert set(asked) == {"Oslo", "Rome"}
    assert len(asked) <= (2 if crash is None else 3)
    assert len(model.calls("m")) == 2


async def test_what_a_server_offers_is_recorded(
    model: ScriptedModel, config: RunConfig, url: str
) -> None:
    """A run whose record is complete asks nobody, also when the server is gone."""
    model.scenario("m", [CALLS, summary])
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(connected(url))
        agent = Agent(name="A", model="m", mcp_servers=[server])

        async def run(ctx: hf.Context) -> str:
            result = await durable_agents.run(agent, "go", run_config=config)
            await ctx.sleep(3600)
            return str(result.final_output)

        async with environment(served(run), autojump=False, always_replay=True) as env:
            sent = await env.client.send("Agent/handle")
            await env.settle()
            await stack.aclose()
            await env.advance(3600)
            assert "sunny in Oslo" in await env.client.attach(sent.invocation_id)
    assert len(asked) == 2


async def test_keys_of_the_journal(model: ScriptedModel, config: RunConfig, url: str) -> None:
    model.scenario("m", [CALLS, summary])
    async with connected(url) as server:
        agent = Agent(name="A", model="m", mcp_servers=[server])

        async def run(ctx: hf.Context) -> str:
            return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

        _, keys = await steps(run)
    assert sum("list tools of offer" in key for key in keys) == 2
    assert sum("tool:look:" in key for key in keys) == 2
    assert sum("model call" in key for key in keys) == 2


async def test_an_error_of_a_tool_is_told_to_the_model(
    model: ScriptedModel, config: RunConfig, url: str
) -> None:
    model.scenario("m", [Turn(tool_calls=(ToolCall("look", {"city": "Atlantis"}),)), summary])
    async with connected(url) as server:
        agent = Agent(name="A", model="m", mcp_servers=[server])

        async def run(ctx: hf.Context) -> str:
            return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

        assert "Error executing tool look" in await outcome(run)
    assert asked == ["Atlantis"]


async def test_a_server_may_want_approvals(
    model: ScriptedModel, config: RunConfig, url: str
) -> None:
    model.scenario("m", [Turn(tool_calls=(ToolCall("look", {"city": "Oslo"}),)), summary])
    async with connected(url, require_approval="always") as server:
        agent = Agent(name="A", model="m", mcp_servers=[server])

        async def run(ctx: hf.Context) -> str:
            return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

        async with environment(served(run), always_replay=True) as env:
            sent = await env.client.send("Agent/handle")
            (waiting,) = await env.approvals()
            assert asked == []
            await env.decide(waiting.id, True, arguments={"city": "Rome"})
            assert "sunny in Rome" in await env.client.attach(sent.invocation_id)
    assert asked == ["Rome"]
