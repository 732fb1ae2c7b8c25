"""Our handlers as an HTTP endpoint, behind our server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pyqwest
import pytest

import holdfast as hf
from holdfast.domain.ids import print_invocation_id
from holdfast.domain.message import Input, Start, Value
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.manifest import encode_manifest
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from tests.compat.front_door import Cutting, FrontDoor, endpoint, front_door
from tests.compat.primitive_app import app
from tests.compat.primitive_check import CHECKS, OURS, REPEATABLE
from tests.compat.serving import COUNT, TURNS, run_through_a_stop

MODES: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "request, then response": {"use_http_11": True},
    "always suspending": {"inactivity_timeout_ms": 0},
}


@contextlib.asynccontextmanager
async def running(
    *,
    use_http_11: bool = False,
    inactivity_timeout_ms: int | None = None,
    wrap: Callable[[Any], Any] = lambda served: served,
) -> AsyncIterator[FrontDoor]:
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        inactivity_timeout_ms=inactivity_timeout_ms,
    )
    async with (
        endpoint(app, is_http_2=not use_http_11, wrap=wrap) as uri,
        Server(config) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        await door.register(uri, use_http_11=use_http_11)
        yield door


@pytest.mark.parametrize(
    "mode",
    [
        "bidirectional",
        "request, then response",
        pytest.param("always suspending", marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives(name: str, mode: str) -> None:
    async with running(**MODES[mode]) as door:
        await CHECKS[name](door, uuid.uuid4().hex)


@pytest.mark.parametrize("mode", MODES)
async def test_a_running_step_is_cancelled_though_its_request_has_ended(mode: str) -> None:
    async with running(**MODES[mode]) as door:
        await OURS["a_running_step_is_cancelled_at_once"](door, uuid.uuid4().hex)


@pytest.mark.parametrize("name", ["parallel_branches", "cancellation", "randomness", "state"])
async def test_version_5(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = functools.partial(encode_manifest, protocol_version_max=5)
    monkeypatch.setattr("holdfast.transport.http.endpoint.encode_manifest", oldest)
    async with running() as door:
        [deployment] = (await door.ask("GET", f"{door.admin}/deployments")).json["deployments"]
        assert deployment["max_protocol_version"] == 5
        await CHECKS[name](door, uuid.uuid4().hex)


@pytest.mark.nightly
@pytest.mark.parametrize("name", REPEATABLE)
async def test_attempts_that_are_cut(name: str) -> None:
    async with running(use_http_11=True, wrap=Cutting) as door:
        await CHECKS[name](door, uuid.uuid4().hex)


@pytest.mark.parametrize("http_version", ["1.1", "2"])
@pytest.mark.parametrize("is_killed", [True, False], ids=["SIGKILL", "SIGTERM"])
async def test_stopped_handlers_go_on(http_version: str, is_killed: bool, tmp_path: Path) -> None:
    config = ServerConfig(store="memory:", ingress="127.0.0.1:0", admin="127.0.0.1:0")
    async with (
        Server(config) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        happened = await run_through_a_stop(door, tmp_path, http_version, is_killed=is_killed)
    # Steps whose results were not recorded yet run again; nothing else does.
    assert len(set(happened)) == COUNT * TURNS
    assert len(happened) <= COUNT * (TURNS + is_killed)


@pytest.mark.parametrize("is_http_2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
async def test_a_client_that_hangs_up_stops_the_bodies_of_steps(is_http_2: bool) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    slow = hf.Service("Slow")

    async def body() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    @slow.handler
    async def run(ctx: hf.Context) -> None:
        await ctx.run("slow", body)

    codec = Codec(6, is_keyed=True)
    invocation_id = print_invocation_id(bytes(24))
    start = Start(invocation_id, "Slow", "run", "", 1, {}, True, 0, 0, 42)
    journal = codec.encode_start(start) + codec.encode(Input(Value()))
    version = pyqwest.HTTPVersion.HTTP2 if is_http_2 else pyqwest.HTTPVersion.HTTP1
    transport = pyqwest.HTTPTransport(http_version=version, enable_otel=False)
    async with endpoint(hf.App(slow), is_http_2=is_http_2) as uri, transport:
        headers = {"content-type": "application/vnd.restate.invocation.v6"}
        client = pyqwest.Client(transport)
        asking = asyncio.ensure_future(
            client.execute("POST", f"{uri}/invoke/Slow/run", headers, journal)
        )
        async with asyncio.timeout(5):
            await begun.wait()
            asking.cancel()
            await ended.wait()
