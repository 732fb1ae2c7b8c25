"""How errors and failures become responses of the ingress."""

from __future__ import annotations

import msgspec

from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import Failure
from holdfast.web.asgi import JSON_HEADER, Headers, Response
from holdfast.web.problem import Refusal, error_headers, status_of


class IngressRefusal(Refusal):
    """A refusal with more to say than most.

    Args:
        status: HTTP status.
        code: Stable code with a page in `docs/errors/`.
        message: What happened, expected versus found.
        hint: What to do.
        source: `ingress` when the request failed, `invocation` when the durable result did.
        is_body_unread: Whether the client may still be sending a body that nobody will read.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str,
        source: str = "ingress",
        is_body_unread: bool = False,
    ) -> None:
        super().__init__(status, code, message, hint=hint)
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


def error_response(error: HoldfastError) -> Response:
    """Return the response of the ingress to an error."""
    status = status_of(error)
    source = error.source if isinstance(error, IngressRefusal) else "ingress"
    headers = error_headers(error, status)
    headers.append((b"x-restate-error-source", source.encode()))
    body = _Body(status, error.message, source, error.hint, error.code)
    return Response(status, headers, _encode(body))


def failure_response(invocation_id: str, failure: Failure) -> Response:
    """Return the response for an invocation that ended with a terminal failure."""
    metadata = failure.metadata or {}
    body = _Body(
        failure.code,
        failure.message,
        "invocation",
        error_code=metadata.get("error_code", ""),
        metadata=metadata or None,
    )
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
