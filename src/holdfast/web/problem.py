"""Refusals, and which HTTP status and headers tell about an error; each door prints the body."""

from __future__ import annotations

from holdfast.domain.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    StorageUnavailable,
    TransportError,
    UsageError,
)
from holdfast.server.handle import Overloaded
from holdfast.web.asgi import JSON_HEADER, Headers

_SHOWN_LENGTH_MAX = 80


class Refusal(UsageError):
    """A request that is not served, and the HTTP status that says so.

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
    """Return the headers of a response to an error, whose body is JSON."""
    headers: Headers = [JSON_HEADER]
    if isinstance(error, Refusal):
        headers += error.headers
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    return headers


def unexpected_error() -> HoldfastError:
    """Return what a client is told about a bug here: no detail, which may be a secret."""
    return HoldfastError(
        "The server failed to handle this request.",
        hint="This is a bug in Holdfast; the server's log has the details.",
    )
