from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from holdfast.web.asgi import (
    Message,
    Response,
    Scope,
    StreamedResponse,
    refuse_websocket,
    run_lifespan,
    send_response,
    send_streamed,
)


class Sent(list[Message]):
    async def send(self, message: Message) -> None:
        self.append(message)


def response() -> Response:
    return Response(404, [(b"a", b"b")], b"four")


async def test_sends_responses_with_their_length() -> None:
    sent = Sent()
    await send_response(sent.send, response())
    headers = [(b"a", b"b"), (b"content-length", b"4")]
    assert sent == [
        {"type": "http.response.start", "status": 404, "headers": headers},
        {"type": "http.response.body", "body": b"four"},
    ]


async def test_refuses_websockets_with_a_response_where_that_can_be_sent() -> None:
    sent = Sent()
    scope: Scope = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    await refuse_websocket(scope, sent.send, response())
    headers = [(b"a", b"b"), (b"content-length", b"4")]
    assert sent == [
        {"type": "websocket.http.response.start", "status": 404, "headers": headers},
        {"type": "websocket.http.response.body", "body": b"four"},
    ]


async def test_refuses_websockets_by_closing_elsewhere() -> None:
    for extensions in ({}, {"extensions": None}, {"extensions": {}}):
        sent = Sent()
        scope: Scope = {"type": "websocket", **extensions}
        await refuse_websocket(scope, sent.send, response())
        assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_answers_lifespan_until_shutdown() -> None:
    sent = Sent()
    inbox: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Message:
        return inbox.pop(0)

    await run_lifespan(receive, sent.send)
    assert [m["type"] for m in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.web.asgi._PIECE_TIMEOUT_S", 0.01)
    sent: list[Message] = []
    is_closed = False

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == 3:
            await asyncio.Event().wait()

    async def pieces() -> AsyncGenerator[bytes]:
        nonlocal is_closed
        try:
            while True:
                yield b"piece"
        finally:
            is_closed = True

    with pytest.raises(TimeoutError):
        await send_streamed(send, StreamedResponse(200, [], pieces()))
    assert [message["type"] for message in sent] == [
        "http.response.start", "http.response.body", "http.response.body",
    ]  # fmt: skip
    assert is_closed
