"""`holdfast mcp` with the client of the MCP SDK, over both transports, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import mcp_types
import pytest
from mcp import Client, MCPError, StdioServerParameters

from .harness import APPS, PATIENCE_S, Holdfast, Ledger, environment, free_port, wait_until

CALL_KEY = "holdfast/idempotency-key"
BEGIN = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


@pytest.fixture
def tools(tmp_path: Path, ledger: Ledger) -> Iterator[Holdfast]:
    with Holdfast(tmp_path, f"{APPS / 'mcp_offer.py'}:app", ledger.env) as holdfast:
        holdfast.up()
        yield holdfast


def doors(holdfast: Holdfast) -> list[str]:
    return [f"--ingress={holdfast.ingress}", f"--admin={holdfast.admin}"]


def over_stdio(holdfast: Holdfast, *options: str) -> Client:
    return Client(
        StdioServerParameters(
            command=sys.executable,
            args=["-m", "holdfast.cli", "mcp", *doors(holdfast), *options],
            env=environment(),
        )
    )


@contextlib.asynccontextmanager
async def over_http(holdfast: Holdfast, **settings: Any) -> AsyncIterator[tuple[Client, str]]:
    address = f"127.0.0.1:{free_port()}"
    command = holdfast.run("mcp", "mcp", *doors(holdfast), f"--http={address}")
    await asyncio.to_thread(command.until, "Tools at")
    url = f"http://{address}/mcp"
    async with Client(url, **settings) as client:
        yield client, url
    assert await asyncio.to_thread(command.terminate) == 0
    assert "Traceback" not in command.text


def text_of(result: mcp_types.CallToolResult) -> str:
    return "".join(p.text for p in result.content if isinstance(p, mcp_types.TextContent))


def id_of(result: mcp_types.CallToolResult) -> str:
    assert result.meta is not None
    return str(result.meta["holdfast/invocation-id"])


async def watched(ledger: Ledger, city: str) -> tuple[str, str]:
    """Wait until `watch` waits; return its invocation and its awakeable."""

    def find() -> list[str] | None:
        lines = [line.split() for line in ledger.lines() if line.startswith(f"watch {city} ")]
        return lines[0][2:] if lines else None

    invocation_id, awakeable_id = await asyncio.to_thread(wait_until, find, f"{city} to be watched")
    return invocation_id, awakeable_id


async def test_handlers_with_the_flag_are_tools(tools: Holdfast) -> None:
    async with over_stdio(tools) as client:
        found = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(found) == ["Shop_Cart-add", "Weather-forecast", "Weather-watch", "Wedding-marry"]
    forecast = found["Weather-forecast"]
    assert forecast.description == "Say how the weather will be."
    assert forecast.input_schema["required"] == ["name"]
    assert forecast.input_schema["properties"]["days"] == {"type": "integer", "default": 1}
    assert forecast.output_schema is not None
    assert list(forecast.output_schema["properties"]) == ["city", "text"]
    add = found["Shop_Cart-add"].input_schema
    assert add["required"] == ["key", "input"]
    assert add["properties"]["input"] == {"type": "string"}


async def test_all_public_handlers_of_named_services(tools: Holdfast) -> None:
    async with over_stdio(tools, "--all", "--service=Weather") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
    # Neither the private one nor the one that returns bytes.
    assert names == ["Weather-forecast", "Weather-watch", "Weather-quiet"]


async def test_calls_and_their_errors(tools: Holdfast) -> None:
    async with over_stdio(tools) as client:
        good = await client.call_tool("Weather-forecast", {"name": "Oslo", "days": 2})
        assert not good.is_error
        assert good.structured_content == {"city": "Oslo", "text": "sunny for 2 days"}
        assert tools.invocation(id_of(good))["target"] == "Weather/forecast"

        bag = {"key": "a/b ä", "input": "tea"}
        assert text_of(await client.call_tool("Shop_Cart-add", bag)) == '["tea"]'
        assert text_of(await client.call_tool("Shop_Cart-add", bag)) == '["tea", "tea"]'

        failed = await client.call_tool("Weather-forecast", {"name": "Atlantis"})
        assert failed.is_error
        assert "there is no Atlantis (code 404)" in text_of(failed)
        assert id_of(failed) in text_of(failed)

        unfit = await client.call_tool("Weather-forecast", {"name": 3})
        assert unfit.is_error
        assert "HF0508" in text_of(unfit)

        keyless = await client.call_tool("Shop_Cart-add", {"input": "tea"})
        assert keyless.is_error
        assert "HF0662" in text_of(keyless)
        assert "hint:" in text_of(keyless)

        odd = await client.call_tool("Weather-forecast", {"name": "Rome"}, meta={CALL_KEY: ["x"]})
        assert odd.is_error
        assert "HF0663" in text_of(odd)
        # Not offered, though it is there.
        with pytest.raises(MCPError, match="HF0660"):
            await client.call_tool("Weather-quiet")


async def test_a_request_that_is_sent_again_runs_once(tools: Holdfast, ledger: Ledger) -> None:
    oslo = {"name": "Oslo"}
    ids = set()
    for _ in range(2):
        # A client that has lost its server, and has started another.
        async with over_stdio(tools) as client:
            result = await client.call_tool("Weather-forecast", oslo, meta={CALL_KEY: "no 1 ü"})
            ids.add(id_of(result))
            other = await client.call_tool("Weather-forecast", oslo)
            ids.add(id_of(other))
            married = {"key": "may", "input": ["Ada", "Bo"]}
            assert text_of(await client.call_tool("Wedding-marry", married)) == "Ada and Bo"
    assert len(ids) == 3
    assert ledger.lines().count("look Oslo") == 3
    assert ledger.lines().count("marry Ada Bo") == 1


async def test_the_clients_cancellation_cancels(tools: Holdfast, ledger: Ledger) -> None:
    async with over_stdio(tools) as client:
        call = asyncio.ensure_future(client.call_tool("Weather-watch", {"input": "Oslo"}))
        invocation_id, _ = await watched(ledger, "Oslo")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await asyncio.to_thread(ledger.until, "given up Oslo")
        # The connection is still good.
        assert not (await client.call_tool("Weather-forecast", {"name": "Oslo"})).is_error
    assert (await asyncio.to_thread(tools.attach, invocation_id)).status == 409


@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
async def test_an_invocation_goes_on_without_its_client(
    tools: Holdfast, ledger: Ledger, how: str
) -> None:
    command = [sys.executable, "-m", "holdfast.cli", "mcp", *doors(tools)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    for frame in (
        {"id": 1, "method": "initialize", "params": BEGIN},
        {"method": "notifications/initialized"},
        {
            "id": 2,
            "method": "tools/call",
            "params": {"name": "Weather-watch", "arguments": {"input": "Oslo"}},
        },
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **frame}).encode() + b"\n")
    process.stdin.flush()
    invocation_id, awakeable_id = await watched(ledger, "Oslo")
    if how == "SIGTERM":
        process.terminate()
        process.wait(PATIENCE_S)
    # Closes its standard input.
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, b"")
    # Standard output belongs to the protocol.
    assert [json.loads(line)["jsonrpc"] for line in output.splitlines()][:1] == ["2.0"]

    await asyncio.to_thread(tools.resolve, awakeable_id, "rain")
    assert (await asyncio.to_thread(tools.attach, invocation_id)).ok() == "Oslo: rain"
    assert "given up Oslo" not in ledger.lines()


async def test_a_call_outlives_the_server(tools: Holdfast, ledger: Ledger) -> None:
    said: list[str] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        said.append(message or "")

    async with over_stdio(tools) as client:
        call = asyncio.ensure_future(
            client.call_tool("Weather-watch", {"input": "Oslo"}, progress_callback=progress)
        )
        invocation_id, awakeable_id = await watched(ledger, "Oslo")
        tools.current("server").kill()
        again = tools.server()
        await asyncio.to_thread(again.until, "Ready")
        await asyncio.to_thread(tools.resolve, awakeable_id, "rain")
        result = await call
    assert text_of(result) == "Oslo: rain"
    assert said[0] == f"{invocation_id} is accepted"
    # The step may run again, because the server died on it; the invocation is the same one.
    assert {line.split()[2] for line in ledger.lines()} == {invocation_id}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http(tools: Holdfast, ledger: Ledger, mode: str) -> None:
    async with over_http(tools, mode=mode) as (client, _):
        assert len((await client.list_tools()).tools) == 4
        good = await client.call_tool("Weather-forecast", {"name": "Oslo"})
        assert good.structured_content == {"city": "Oslo", "text": "sunny for 1 days"}
        call = asyncio.ensure_future(client.call_tool("Weather-watch", {"input": "Rome"}))
        await watched(ledger, "Rome")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await asyncio.to_thread(ledger.until, "given up Rome")


async def test_a_post_of_a_session_that_is_sent_again_runs_once(
    tools: Holdfast, ledger: Ledger
) -> None:
    async with over_http(tools) as (_, url), httpx2.AsyncClient() as web:
        head = {"accept": "application/json, text/event-stream"}
        frame = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": BEGIN}
        opened = await web.post(url, json=frame, headers=head)
        head["mcp-session-id"] = opened.headers["mcp-session-id"]
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        assert (await web.post(url, json=ready, headers=head)).status_code == 202
        params = {"name": "Weather-forecast", "arguments": {"name": "Oslo"}}
        frame = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
        answers = [(await web.post(url, json=frame, headers=head)).text for _ in range(2)]
        assert all("sunny" in answer for answer in answers)
        # A page on another host that points here.
        bad = await web.post(url, json=frame, headers={**head, "host": "evil.example"})
        assert bad.status_code == 421
    assert ledger.lines().count("look Oslo") == 1
