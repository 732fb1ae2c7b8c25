"""Restate's Python SDK in each version of the protocol that a server may agree on with it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.engine.row import InvocationRow
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from holdfast.storage.base import InvocationFilter

from .front_door import FrontDoor, front_door, until
from .python_sdk_app import calls, seen, serving

VERSIONS = (5, 6, 7)
MODES: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "request, then response": {"use_http_11": True},
    "always suspending": {"inactivity_timeout_ms": 0},
}


@contextlib.asynccontextmanager
async def running(
    version: int,
    monkeypatch: pytest.MonkeyPatch,
    *,
    inactivity_timeout_ms: int | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Server, FrontDoor]]:
    """Serve the SDK's services to a server that speaks no later version."""
    if version == 5:
        monkeypatch.setattr("holdfast.server.app.VERSION_MAX_BEFORE_TREES", 5)
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        inactivity_timeout_ms=inactivity_timeout_ms,
        is_protocol_v7=version >= 7,
    )
    async with (
        serving() as uri,
        Server(config) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        await door.register(uri, **options)
        yield server, door


async def rows(server: Server) -> list[InvocationRow]:
    return await server.host.invocations(InvocationFilter(), None, 1000)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", VERSIONS)
async def test_handlers_answer_in_every_version(
    version: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = uuid.uuid4().hex
    async with running(version, monkeypatch, **MODES[mode]) as (server, door):
        assert await door.call("Steps/together", 5) == [0, 1, 2, 3, 4, 0, 1, 4, 9, 16]
        assert await door.call("Steps/nap", [0, 1, 20, 5]) == [0, 1, 20, 5]
        assert (await door.call("Steps/flaky_step", name)).startswith("gave up: ")
        assert await door.call("Steps/call", 418) == "418 not today"
        assert await door.call(f"Counter/{name}/add", 2) == 2
        assert await door.call("Steps/random_numbers", name) == seen[name][0]
        person = f"{name} waits"
        waiting = await door.send("Steps/wait_for_a_person", person)
        await until(lambda: person in seen)
        await door.resolve(seen[person], "yes")
        assert (await door.attach(waiting)).json == "they said yes"
        parent = await door.send("Steps/compensate", f"{name} cancel")
        await until(lambda: f"{name} cancel" in seen)
        while len(await server.host.journal(parent)) < 3:
            await asyncio.sleep(0.005)
        await door.cancel(parent)
        assert (await door.attach(parent)).json == "undone after 409"
        await until(lambda: calls[f"child of {name} cancel cancelled"])
        spoken = {row.protocol_version for row in await rows(server)}
        assert spoken == {version}


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_waits_for_all_is_woken_once(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From version 7 on the server knows that the first timer is not enough."""
    async with running(version, monkeypatch, inactivity_timeout_ms=0) as (server, door):
        naps = [50, 150, 250]
        assert await door.call("Steps/nap", naps) == naps
        [row] = await rows(server)
        assert row.attempt == (2 if version >= 7 else 4)
