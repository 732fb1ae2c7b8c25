"""A client of a server's ingress and admin API, and the serving of an app that it dials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter
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

    patience_s = PATIENCE_S

    def __init__(self, ingress: str, admin: str, client: Any) -> None:
        self.ingress = ingress
        self.admin = admin
        self._client = client

    async def ask(
        self, method: str, url: str, value: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        body = None if value is None else json.dumps(value).encode()
        sent = {} if body is None else {"content-type": "application/json"}
        async with asyncio.timeout(self.patience_s):
            response = await self._client.execute(method, url, {**sent, **(headers or {})}, body)
        return Answer(response.status, dict(response.headers.items()), bytes(response.content))

    async def register(self, uri: str, **options: Any) -> None:
        answer = await self.ask("POST", f"{self.admin}/deployments", {"uri": uri, **options})
        assert answer.status == 201, answer

    async def post(self, path: str, value: Any = None, **headers: str) -> Answer:
        return await self.ask("POST", f"{self.ingress}/{path}", value, headers)

    async def post_bytes(self, path: str, data: bytes) -> Answer:
        sent = {"content-type": "application/octet-stream"}
        async with asyncio.timeout(self.patience_s):
            response = await self._client.post(f"{self.ingress}/{path}", sent, data)
        return Answer(response.status, dict(response.headers.items()), bytes(response.content))

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

    async def cancel(self, invocation_id: str) -> None:
        answer = await self.ask("PATCH", f"{self.admin}/invocations/{invocation_id}/cancel")
        assert answer.status in (200, 202), answer

    async def resolve(self, awakeable_id: str, value: Any) -> None:
        url = f"{self.ingress}/restate/awakeables/{awakeable_id}/resolve"
        answer = await self.ask("POST", url, value)
        assert answer.status == 202, answer

    async def signal(self, invocation_id: str, name: str, value: Any) -> None:
        url = f"{self.ingress}/holdfast/v1/invocations/{invocation_id}/signals/{name}"
        answer = await self.ask("POST", url, value)
        assert answer.status == 202, answer


@contextlib.asynccontextmanager
async def front_door(ingress: str, admin: str) -> AsyncIterator[FrontDoor]:
    transport = pyqwest.HTTPTransport(http_version=pyqwest.HTTPVersion.HTTP1, enable_otel=False)
    async with transport:
        yield FrontDoor(ingress, admin, pyqwest.Client(transport))


@contextlib.asynccontextmanager
async def endpoint(
    app: hf.App, *, is_http_2: bool, wrap: Callable[[Any], Any] = lambda served: served
) -> AsyncIterator[str]:
    """Serve an app on a free port of loopback, as `holdfast serve` does; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    stopped = asyncio.Event()
    served = app.endpoint()
    listen = listen_http_2 if is_http_2 else listen_http_1
    serving = asyncio.ensure_future(listen(wrap(served), listener, stopped))
    try:
        yield url
    finally:
        await served.drain(0)
        stopped.set()
        await serving


class Cutting:
    """Cuts attempts in the middle: each of the first few of an invocation after some pieces.

    For HTTP/1.1: hypercorn breaks a whole HTTP/2 connection when one of its responses ends early.

    Args:
        served: An ASGI application.
    """

    CUTS_MAX = 6

    def __init__(self, served: Any) -> None:
        self._served = served
        self._random = random.Random(7)
        self._attempts: Counter[bytes] = Counter()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        invocation_id = dict(scope["headers"]).get(b"x-restate-invocation-id", b"")
        self._attempts[invocation_id] += 1
        is_safe = not invocation_id or self._attempts[invocation_id] > self.CUTS_MAX
        pieces_left = 1_000_000 if is_safe else self._random.randint(1, 3)

        async def cutting_send(message: Any) -> None:
            nonlocal pieces_left
            if message["type"] == "http.response.body":
                pieces_left -= 1
                if pieces_left == 0:
                    # Half of a piece, and no word how the attempt ended.
                    body = message["body"][: len(message["body"]) // 2]
                    await send({"type": "http.response.body", "body": body, "more_body": False})
                    raise OSError("cut")
            await send(message)

        await self._served(scope, receive, cutting_send)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)
