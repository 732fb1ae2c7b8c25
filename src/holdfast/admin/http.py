"""HTTP for the admin API: requests and responses."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from holdfast.domain.errors import HoldfastError
from holdfast.web.asgi import (
    JSON_HEADER,
    Response,
    Scope,
    Send,
    refuse_websocket,
    send_response,
)
from holdfast.web.problem import error_headers, status_of

_encode = msgspec.json.Encoder().encode


class Request(NamedTuple):
    """A request that a route was found for."""

    params: list[str]
    """Decoded path segments that stand where the route has braces, in order."""
    query: list[tuple[str, str]]


def json_response(value: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(status, [JSON_HEADER], _encode(value))


def error_response(error: HoldfastError) -> Response:
    """Return the response to an error."""
    status = status_of(error)
    body = {
        "message": error.message,
        "restate_code": None,
        "error_code": error.code,
        "hint": error.hint,
    }
    return Response(status, error_headers(error, status), _encode(body))


def parse_query(scope: Scope) -> list[tuple[str, str]]:
    """Return the fields of a query, in order."""
    query: bytes = scope.get("query_string", b"")
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


async def respond(scope: Scope, send: Send, response: Response) -> None:
    """Send a whole response, also in place of accepting a WebSocket."""
    # What is shown here is other people's data: never guess at its type, never keep it.
    response.headers.extend(
        ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
    )
    if scope["type"] == "websocket":
        await refuse_websocket(scope, send, response)
    else:
        await send_response(send, response)
