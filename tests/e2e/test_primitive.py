"""Every primitive on our own carriers and stores; `tests/compat` does the same over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from holdfast.server.embedded import EmbeddedClient
from holdfast.transport.inprocess import InProcessPort
from holdfast.transport.websocket_worker import run_worker
from tests.compat.front_door import PATIENCE_S, Answer, front_door
from tests.compat.primitive_app import app
from tests.compat.primitive_check import CHECKS, OURS, PROTOCOL_ONLY, Door

OWN = {name: check for name, check in {**CHECKS, **OURS}.items() if name not in PROTOCOL_ONLY}
STORES = ("memory:", "sqlite:{}/data.db")


class EmbeddedDoor:
    """The client of an embedded server, asked as the HTTP front doors are."""

    def __init__(self, client: EmbeddedClient) -> None:
        self._client = client

    async def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        target, key = _target(path)
        idempotency_key = headers.pop("idempotency-key", None)
        try:
            async with asyncio.timeout(PATIENCE_S):
                result = await self._client.call(
                    target, value, key=key, headers=headers, idempotency_key=idempotency_key
                )
        except hf.TerminalError as error:
            return Answer(error.code, {}, error.message.encode())
        return Answer(200, {}, json.dumps(result).encode())

    async def call(self, path: str, value: Any = None, **headers: str) -> Any:
        answer = await self.post(path, value, **headers)
        assert answer.status == 200, answer
        return answer.json

    async def send(self, path: str, value: Any = None) -> str:
        target, key = _target(path)
        return (await self._client.send(target, value, key=key)).invocation_id

    async def attach(self, invocation_id: str) -> Answer:
        try:
            async with asyncio.timeout(PATIENCE_S):
                result = await self._client.attach(invocation_id)
        except hf.TerminalError as error:
            return Answer(error.code, {}, error.message.encode())
        return Answer(200, {}, json.dumps(result).encode())

    async def cancel(self, invocation_id: str) -> None:
        await self._client.cancel(invocation_id)

    async def resolve(self, awakeable_id: str, value: Any) -> None:
        await self._client.resolve(awakeable_id, value)

    async def signal(self, invocation_id: str, name: str, value: Any) -> None:
        await self._client.signal(invocation_id, name, value)


def _target(path: str) -> tuple[str, str | None]:
    """Split `Service/handler` or `Service/key/handler`."""
    service, *key, handler = path.split("/")
    return f"{service}/{handler}", key[0] if key else None


@contextlib.asynccontextmanager
async def embedded(store: str) -> AsyncIterator[Door]:
    async with hf.embedded(app, store=store, partition_count=2) as client:
        yield EmbeddedDoor(client)


@contextlib.asynccontextmanager
async def _serving(store: str, inactivity_timeout_ms: int | None) -> AsyncIterator[Server]:
    config = ServerConfig(
        store=store,
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        partition_count=2,
        inactivity_timeout_ms=inactivity_timeout_ms,
    )
    async with Server(config) as server:
        yield server


@contextlib.asynccontextmanager
async def worker_socket(
    store: str, inactivity_timeout_ms: int | None = None
) -> AsyncIterator[Door]:
    stop, ready = asyncio.Event(), asyncio.Event()
    async with (
        _serving(store, inactivity_timeout_ms) as server,
        front_door(server.ingress_url, server.admin_url) as door,
        asyncio.TaskGroup() as group,
    ):
        work = run_worker(
            app,
            server.admin_url,
            instance="w",
            on_ready=lambda _: ready.set(),
            stop=stop,
            drain_grace_s=0,
        )
        group.create_task(work)
        async with asyncio.timeout(PATIENCE_S):
            await ready.wait()
        try:
            yield door
        finally:
            stop.set()


def suspending_worker_socket(store: str) -> AbstractAsyncContextManager[Door]:
    return worker_socket(store, inactivity_timeout_ms=0)


@contextlib.asynccontextmanager
async def suspending_in_process(store: str) -> AsyncIterator[Door]:
    async with (
        _serving(store, inactivity_timeout_ms=0) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        await server.host.attach_worker(InProcessPort(app))
        yield door


Carrier = Callable[[str], AbstractAsyncContextManager[Door]]


@pytest.mark.parametrize("store", STORES, ids=["memory", "sqlite"])
@pytest.mark.parametrize(
    "carrier",
    [
        embedded,
        worker_socket,
        suspending_worker_socket,
        pytest.param(suspending_in_process, marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("name", OWN)
async def test_primitives(name: str, carrier: Carrier, store: str, tmp_path: Path) -> None:
    async with carrier(store.format(tmp_path)) as door:
        await OWN[name](door, uuid.uuid4().hex)
