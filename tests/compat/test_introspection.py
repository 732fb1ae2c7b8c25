"""What an operator sees of invocations of Restate's Python SDK, in SQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

pytest.importorskip("restate", reason="restate-sdk is a development dependency")
pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pytest.importorskip("pyqwest")

import restate

from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from tests.compat.front_door import FrontDoor, front_door
from tests.compat.python_sdk_app import serving

watched = restate.Service("Watched")


@watched.handler()
async def fail(ctx: restate.Context) -> None:
    await ctx.run_typed("one", lambda: 1)
    raise ValueError("boom")


@watched.handler()
async def wait_for_all(ctx: restate.Context) -> None:
    await restate.gather(ctx.sleep(timedelta(hours=1)), ctx.sleep(timedelta(hours=2)))


app = restate.app([watched])


@pytest.fixture
async def door() -> AsyncIterator[FrontDoor]:
    config = ServerConfig(
        store="memory:", ingress="127.0.0.1:0", admin="127.0.0.1:0", inactivity_timeout_ms=0
    )
    async with (
        serving(app=app) as uri,
        Server(config) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        await door.register(uri)
        yield door


async def row_of(door: FrontDoor, invocation_id: str, status: str) -> dict[str, Any]:
    """Return the row of an invocation when it has a status."""
    query = {"query": f"SELECT * FROM sys_invocation WHERE id = '{invocation_id}'"}
    async with asyncio.timeout(10):
        while True:
            answer = await door.ask(
                "POST", f"{door.admin}/query", query, {"accept": "application/json"}
            )
            [row] = answer.json["rows"]
            if row["status"] == status:
                return dict(row)
            await asyncio.sleep(0.005)


async def test_an_invocation_that_backs_off(door: FrontDoor) -> None:
    """The last attempt is known while the next one waits: where, since when, on which SDK."""
    invocation_id = await door.send("Watched/fail")
    row = await row_of(door, invocation_id, "backing-off")
    assert row["last_attempt_server"].startswith("restate-sdk-python/")
    assert row["last_attempt_deployment_id"] == row["pinned_deployment_id"]
    assert row["created_at"] <= row["last_start_at"] <= row["next_retry_at"]
    assert row["retry_count"] >= 1
    assert row["last_failure"].startswith("[500 Internal] ")
    assert row["last_failure_error_code"] == "RT0007"
    [deployment] = (await door.ask("GET", f"{door.admin}/deployments")).json["deployments"]
    assert row["pinned_service_protocol_version"] <= deployment["max_protocol_version"]


async def test_what_is_waited_for_is_shown_as_the_program_combines_it(door: FrontDoor) -> None:
    invocation_id = await door.send("Watched/wait_for_all")
    row = await row_of(door, invocation_id, "suspended")
    assert row["pinned_service_protocol_version"] == 7
    two = [{"Single": {"CompletionId": 1}}, {"Single": {"CompletionId": 2}}]
    assert json.loads(row["suspended_waiting_future_json"]) == {
        "FirstCompleted": [{"Single": {"SignalIndex": 1}}, {"AllCompleted": two}]
    }
