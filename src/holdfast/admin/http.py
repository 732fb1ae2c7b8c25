"""HTTP for the admin API: requests, responses, refusals."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from holdfast.domain.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    StorageUnavailable,
    TransportError,
    UsageError,
)
from holdfast.server.handle import Overloaded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_SHOWN_LENGTH_MAX = 80

_encode = msgspec.json.Encoder().encode


class Response(NamedTuple):
    """A whole response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Request(NamedTuple):
    """A request that a route was found for."""

    params: list[str]
    """Decoded path segments that stand where the route has braces, in order."""
    query: list[tuple[str, str]]


class Refusal(UsageError):
    """A request that is not served.

    Args:
        status: HTTP status.
        code: Stable code with a page in `docs/errors/`.
        message: What happened, expected versus found.
        hint: What to do.
        headers: Further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.headers = headers


def shown(text: str) -> str:
    """Quote what a client sent for use in a message: escaped, and cut when it is long."""
    if len(text) > _SHOWN_LENGTH_MAX:
        return f"{text[:_SHOWN_LENGTH_MAX]!r}… ({len(text)} characters)"
    return repr(text)


def json_response(value: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(status, [(b"content-type", b"application/json")], _encode(value))


def error_response(error: HoldfastError) -> Response:
    """Return the response to an error."""
    status = _status_of(error)
    response = json_response(
        {
            "message": error.message,
            "restate_code": None,
            "error_code": error.code,
            "hint": error.hint,
        },
        status,
    )
    if isinstance(error, Refusal):
        response.headers.extend(error.headers)
    if status in (429, 503):
        response.headers.append((b"retry-after", b"1"))
    return response


def _status_of(error: HoldfastError) -> int:
    match error:
        case Refusal():
            return error.status
        case NotFoundError():
            return 404
        case ConflictError():
            return 409
        case UsageError():
            return 400
        case Overloaded():
            return 429
        case StorageUnavailable() | TransportError():
            return 503
        case _:
            return 500


def unexpected_error() -> HoldfastError:
    """Return what a client is told about a bug here: no detail, which may be a secret."""
    return HoldfastError(
        "The server failed to handle this request.",
        hint="This is a bug in Holdfast; the server's log has the details.",
    )


def parse_query(scope: Scope) -> list[tuple[str, str]]:
    """Return the fields of a query, in order."""
    query: bytes = scope.get("query_string", b"")
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


async def send_response(scope: Scope, send: Send, response: Response) -> None:
    """Send a whole response, also in place of accepting a WebSocket."""
    status, headers, body = response
    prefix = "http"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": 1008})
            return
        prefix = "websocket.http"
    headers += (
        (b"content-length", b"%d" % len(body)),
        # What is shown here is other people's data: never guess at its type, never keep it.
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    )
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": body})


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Answer the lifespan events of a server for an application that has nothing to set up."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
