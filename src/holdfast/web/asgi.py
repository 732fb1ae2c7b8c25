"""ASGI: its types, and how a response leaves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_HEADER = (b"content-type", b"application/json")


class Response(NamedTuple):
    """A whole response; content-length is added when it is sent."""

    status: int
    headers: Headers
    body: bytes


class StreamedResponse(NamedTuple):
    """A response whose body comes piece by piece."""

    status: int
    headers: Headers
    pieces: AsyncGenerator[bytes]
    """Raises HoldfastError to break off: the client sees an incomplete response."""


_PIECE_TIMEOUT_S = 30.0


async def send_streamed(send: Send, response: StreamedResponse) -> None:
    """Send a streamed response. A client that takes nothing for 30 s is cut off.

    Raises:
        HoldfastError: From the pieces. The response stays incomplete.
        TimeoutError: The client takes nothing. The response stays incomplete.
    """
    status, headers, pieces = response
    async with contextlib.aclosing(pieces):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        async for piece in pieces:
            async with asyncio.timeout(_PIECE_TIMEOUT_S):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def send_response(send: Send, response: Response) -> None:
    """Send a whole response."""
    status, headers, body = response
    # Without a length, HTTP/1.1 servers fall back to chunks: more bytes and more work for both.
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_head(send: Send, response: Response) -> None:
    """Send a response to HEAD: as for GET, without the body."""
    status, headers, body = response
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse_websocket(scope: Scope, send: Send, response: Response) -> None:
    """Refuse a WebSocket handshake, with a readable answer where the server can send one."""
    if "websocket.http.response" in (scope.get("extensions") or {}):
        status, headers, body = response
        headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})
    else:
        await send({"type": "websocket.close", "code": 1008})


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Answer the lifespan events of a server for an application that has nothing to set up."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
