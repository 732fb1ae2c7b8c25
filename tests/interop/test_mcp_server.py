"""Tools of an MCP server, with the client of the SDK in the same process."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types
import pytest
from mcp import Client as McpClient
from mcp import MCPError

import holdfast as hf
from holdfast.admin.catalog_view import view_service
from holdfast.domain.errors import TransportError
from holdfast.interop.call import Caller
from holdfast.interop.mcp_server import McpServer
from holdfast.interop.offer import Offer, read_offers
from holdfast.sdk.http_client import Client

NOWHERE = "http://127.0.0.1:9"


def offers(*services: hf.Service) -> list[Offer]:
    shown = [view_service(service.manifest(), []) for service in services]
    return read_offers({"services": shown}, services=(), is_all=False)


def serving(*services: hf.Service, patience_s: float = 0.0, is_away: bool = False) -> McpServer:
    async def list_offers() -> list[Offer]:
        if is_away:
            raise TransportError("nobody is there", hint="start a server")
        return offers(*services)

    async def read_status(invocation_id: str) -> str:
        raise TransportError("nobody is there")

    caller = Caller(Client(NOWHERE, admin_url=NOWHERE), patience_s=patience_s)
    return McpServer(caller, list_offers, read_status, version="1")


def service(name: str, **options: Any) -> hf.Service:
    made = hf.Service(name, **options)

    @made.handler
    async def look(ctx: hf.Context) -> str:
        return "seen"

    return made


def test_the_option_of_a_service_holds_for_its_handlers_and_can_be_refused() -> None:
    made = service("Weather", mcp=True, metadata={"team": "sky"})

    @made.handler(mcp=False)
    async def hidden(ctx: hf.Context) -> None: ...

    @made.handler(private=True)
    async def inner(ctx: hf.Context) -> None: ...

    @made.handler(metadata={"mood": "good"})
    async def more(ctx: hf.Context) -> None: ...

    assert [offer.handler for offer in offers(made)] == ["look", "more"]
    assert made.manifest().handlers[3].metadata == {"mood": "good", "holdfast.mcp": "true"}


def test_the_metadata_of_another_sdk_is_an_option_too() -> None:
    assert len(offers(service("Weather", metadata={"holdfast.mcp": "true"}))) == 1
    assert offers(service("Weather", metadata={"holdfast.mcp": "no"})) == []


def test_the_option_is_a_yes_or_no() -> None:
    with pytest.raises(hf.UsageError, match="mcp must be True or False") as caught:
        hf.Service("Weather", mcp="yes")  # type: ignore[arg-type]
    assert caught.value.code == "HF0530"


async def test_two_tools_of_one_name() -> None:
    server = serving(service("Shop.Cart", mcp=True), service("Shop_Cart", mcp=True))
    async with McpClient(server.server) as client:
        with pytest.raises(MCPError, match="HF0661"):
            await client.list_tools()


async def test_a_server_that_is_away() -> None:
    async with McpClient(serving(is_away=True).server) as client:
        with pytest.raises(MCPError, match="nobody is there"):
            await client.list_tools()
        result = await client.call_tool("Weather-look")
        assert result.is_error
        assert "start a server" in text_of(result)
    async with McpClient(serving(service("Weather", mcp=True)).server) as client:
        result = await client.call_tool("Weather-look")
        assert result.is_error
        assert "HF3000" in text_of(result)


async def test_what_is_away_is_asked_again() -> None:
    asked = 0

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if asked < 3:
            raise TransportError("away")
        return "here"

    caller = Caller(Client(NOWHERE, admin_url=NOWHERE), patience_s=30.0)
    async with asyncio.timeout(20):
        assert await caller.patiently(ask) == "here"
    assert asked == 3


def text_of(result: mcp_types.CallToolResult) -> str:
    return "".join(p.text for p in result.content if isinstance(p, mcp_types.TextContent))
