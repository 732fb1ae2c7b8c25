"""A client of a server's ingress and admin API, and the serving of an app that it dials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pyqwest

import holdfast as hf
from holdfast.cli.serve import listen_http_1, listen_http_2

PATIENCE_S = 20.0


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None


class FrontDoor:
    """What a client and an operator reach."""

    def __init__(self, ingress: str, admin: str, client: Any) -> None:
        self.ingress = ingress
        self.admin = admin
        self._client = client

    async def ask(
        self, method: str, url: str, value: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        body = None if value is None else json.dumps(value).encode()
        sent = {} if body is None else {"content-type": "application/json"}
        async with asyncio.timeout(PATIENCE_S):
            response = await self._client.execute(method, url, {**sent, **(headers or {})}, body)
        return Answer(response.status, dict(response.headers.items()), bytes(response.content))

    async def register(self, uri: str, **options: Any) -> None:
        answer = await self.ask("POST", f"{self.admin}/deployments", {"uri": uri, **options})
        assert answer.status == 201, answer

    async def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        return await self.ask("POST", f"{self.ingress}/{path}", value, headers)

    async def call(self, path: str, value: Any = None, **headers: str) -> Any:
        answer = await self.post(path, value, **headers)
        assert answer.status == 200, answer
        return answer.json

    async def send(self, path: str, value: Any = None) -> str:
        answer = await self.post(f"{path}/send", value)
        assert answer.status in (200, 202), answer
        invocation_id: str = answer.json["invocationId"]
        return invocation_id

    async def attach(self, invocation_id: str) -> Answer:
        url = f"{self.ingress}/restate/invocation/{invocation_id}/attach"
        return await self.ask("GET", url)


@contextlib.asynccontextmanager
async def front_door(ingress: str, admin: str) -> AsyncIterator[FrontDoor]:
    transport = pyqwest.HTTPTransport(http_version=pyqwest.HTTPVersion.HTTP1, enable_otel=False)
    async with transport:
        yield FrontDoor(ingress, admin, pyqwest.Client(transport))


@contextlib.asynccontextmanager
async def endpoint(app: hf.App, *, is_http_2: bool) -> AsyncIterator[str]:
    """Serve an app on a free port of loopback, as `holdfast serve` does; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stopped = asyncio.Event()
    served = app.endpoint()
    listen = listen_http_2 if is_http_2 else listen_http_1
    serving = asyncio.ensure_future(listen(served, listener, stopped))
    try:
        yield url
    finally:
        await served.drain(0)
        stopped.set()
        await serving


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
