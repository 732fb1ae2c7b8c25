"""Refusals, and how any error becomes an HTTP response."""

from __future__ import annotations

import msgspec

from holdfast.domain.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    StorageUnavailable,
    TransportError,
    UsageError,
)
from holdfast.domain.message import Failure
from holdfast.ingress.asgi import JSON_HEADER, Headers, Response
from holdfast.server.handle import Overloaded

_SHOWN_LENGTH_MAX = 80


class Refusal(UsageError):
    """A request that is not served, and the HTTP status that says so.

    Args:
        status: HTTP status.
        code: Stable code with a page in `docs/errors/`.
        message: What happened, expected versus found.
        hint: What to do.
        headers: Further response headers.
        source: `ingress` when the request failed, `invocation` when the durable result did.
        is_body_unread: Whether the client may still be sending a body that nobody will read.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        source: str = "ingress",
        is_body_unread: bool = False,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.headers = headers
        self.source = source
        self.is_body_unread = is_body_unread


class _Body(msgspec.Struct, omit_defaults=True):
    """An error as the ingress prints it."""

    code: int
    message: str
    source: str
    hint: str = ""
    error_code: str = ""
    metadata: dict[str, str] | None = None


_encode = msgspec.json.Encoder().encode


def shown(text: str) -> str:
    """Quote what a client sent for use in a message: escaped, and cut when it is long."""
    if len(text) > _SHOWN_LENGTH_MAX:
        return f"{text[:_SHOWN_LENGTH_MAX]!r}… ({len(text)} characters)"
    return repr(text)


def method_refusal(method: str, allowed: str) -> Refusal:
    """Return the refusal of a method; `allowed` is the value of the Allow header."""
    return Refusal(
        405,
        "HF1007",
        f"Method {method} is not allowed here.",
        hint=f"Use one of: {allowed}.",
        headers=((b"allow", allowed.encode()),),
    )


def status_of(error: HoldfastError) -> int:
    """Return the HTTP status of an error."""
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


def error_headers(error: HoldfastError, status: int) -> Headers:
    """Return the headers of a response to an error."""
    headers: Headers = [JSON_HEADER]
    if isinstance(error, Refusal):
        headers += error.headers
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    return headers


def error_response(error: HoldfastError) -> Response:
    """Return the response of the ingress to an error."""
    status = status_of(error)
    source = error.source if isinstance(error, Refusal) else "ingress"
    headers = error_headers(error, status)
    headers.append((b"x-restate-error-source", source.encode()))
    body = _Body(status, error.message, source, error.hint, error.code)
    return Response(status, headers, _encode(body))


def unexpected_error() -> HoldfastError:
    """Return what a client is told about a bug here: no detail, which may be a secret."""
    return HoldfastError(
        "The server failed to handle this request.",
        hint="This is a bug in Holdfast; the server's log has the details.",
    )


def failure_response(invocation_id: str, failure: Failure) -> Response:
    """Return the response for an invocation that ended with a terminal failure."""
    body = _Body(failure.code, failure.message, "invocation", metadata=failure.metadata or None)
    headers: Headers = [
        JSON_HEADER,
        (b"x-restate-id", invocation_id.encode()),
        (b"x-restate-error-source", b"invocation"),
    ]
    return Response(http_status_of_failure(failure.code), headers, _encode(body))


def http_status_of_failure(code: int) -> int:
    """Return the HTTP status that tells about a failure with this code.

    It is the code itself where HTTP can send it with a body. A status of 1xx would leave the client
    waiting for another response, 204, 205 and 304 have no body, and HTTP ends at 599; for these it
    is 500, and the body still says the code.
    """
    if 200 <= code <= 599 and code not in (204, 205, 304):
        return code
    return 500
