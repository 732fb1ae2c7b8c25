"""HTTP for the admin API: requests and responses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl

import msgspec

from holdfast.domain.errors import HoldfastError
from holdfast.web.asgi import (
    JSON_HEADER,
    Response,
    Scope,
    Send,
    StreamedResponse,
    refuse_websocket,
    send_head,
    send_response,
    send_streamed,
)
from holdfast.web.problem import error_headers, status_of

_logger = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode

T = TypeVar("T")
E = TypeVar("E", bound=HoldfastError)

_CAUSE_LENGTH_MAX = 200


class Request(NamedTuple):
    """A request that a route was found for."""

    params: list[str]
    """Decoded path segments that stand where the route has braces, in order."""
    query: list[tuple[str, str]]
    headers: dict[str, str]
    """By lower-case name; of several with one name, the last."""
    body: bytes
    """Whole; empty for methods that have none."""


def decode_body(body: bytes, decode: Callable[[bytes], T], refuse: Callable[[str], E]) -> T:
    """Return what a body of JSON says.

    Args:
        body: The whole body.
        decode: Of a `msgspec.json.Decoder`.
        refuse: Makes the refusal, from why it cannot be read.

    Raises:
        Refusal: From `refuse`.
    """
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(str(error)[:_CAUSE_LENGTH_MAX]) from error


def json_response(value: object, status: int = 200) -> Response:
    """Return a response with a JSON body."""
    return Response(status, [JSON_HEADER], _encode(value))


def error_response(error: HoldfastError) -> Response:
    """Return the response to an error."""
    status = status_of(error)
    body = {
        "message": error.message,
        "restate_code": getattr(error, "restate_code", None),
        "error_code": error.code,
        "hint": error.hint,
    }
    return Response(status, error_headers(error, status), _encode(body))


def parse_query(scope: Scope) -> list[tuple[str, str]]:
    """Return the fields of a query, in order."""
    query: bytes = scope.get("query_string", b"")
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


async def respond(scope: Scope, send: Send, response: Response | StreamedResponse) -> None:
    """Send a response, also in place of accepting a WebSocket."""
    # What is shown here is other people's data: never guess at its type, never keep it.
    response.headers.extend(
        ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
    )
    if isinstance(response, StreamedResponse):
        await _respond_streamed(send, response)
    elif scope["type"] == "websocket":
        await refuse_websocket(scope, send, response)
    elif scope["method"] == "HEAD":
        await send_head(send, response)
    else:
        await send_response(send, response)


async def _respond_streamed(send: Send, response: StreamedResponse) -> None:
    try:
        await send_streamed(send, response)
    except (HoldfastError, TimeoutError) as error:
        # Its head is on its way: an incomplete answer is all that can still tell.
        _logger.warning("a response was broken off: %s", error or "the client takes nothing")
