"""Asks the admin API questions in SQL, without sockets."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import pyarrow as pa

from holdfast.web.asgi import ASGIApp, Message
from tests.ingress.fake import scope_of


class Answer(NamedTuple):
    """An answer as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_whole: bool

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def rows(self) -> list[dict[str, Any]]:
        assert self.status == 200, self.body
        return self.json["rows"]

    @property
    def columns(self) -> list[str]:
        return json.loads(self.headers["x-holdfast-columns"])

    @property
    def arrow(self) -> Any:
        assert self.status == 200, self.body
        assert self.headers["content-type"] == "application/vnd.apache.arrow.stream"
        return pa.ipc.open_stream(io.BytesIO(self.body)).read_all()


class SqlClient:
    """A client of one application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def ask(self, query: str, accept: str = "application/json") -> Answer:
        return await self.post(json.dumps({"query": query}).encode(), accept)

    async def rows(self, query: str) -> list[dict[str, Any]]:
        return (await self.ask(query)).rows

    async def arrow(self, query: str) -> Any:
        return (await self.ask(query, "*/*")).arrow

    async def refused(self, query: str) -> tuple[int, str]:
        answer = await self.ask(query)
        return answer.status, answer.json["error_code"]

    async def post(self, body: bytes, accept: str = "*/*", path: str = "/query") -> Answer:
        sent: list[Message] = []
        inbox = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return inbox.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope_of("POST", path, [("accept", accept)]), receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message["body"] for message in sent[1:])
        is_whole = not sent[-1].get("more_body", False)
        return Answer(sent[0]["status"], headers, content, is_whole)
