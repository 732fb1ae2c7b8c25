"""What the headers of a request say."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote

from holdfast.domain.retry import RetrySchedule
from holdfast.ingress.guard import Guard
from holdfast.ingress.problem import IngressRefusal
from holdfast.ingress.retry import parse_retry
from holdfast.web.asgi import Scope
from holdfast.web.problem import Refusal, shown

IDEMPOTENCY_KEY_LENGTH_MAX = 256

_HEADER_COUNT_MAX = 200
_HEADER_SIZE_BYTES_MAX = 65_536

_READ = frozenset(
    {
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"holdfast-retry",
        b"host",
        b"idempotency-expires",
        b"idempotency-key",
        b"sec-fetch-site",
        b"x-restate-limit-key",
    }
)
_HIDDEN = frozenset(
    {b"connection", b"holdfast-retry", b"host", b"idempotency-expires", b"idempotency-key"}
)


class Head(NamedTuple):
    """What was found in the headers of a request."""

    visible: list[tuple[str, str]]
    """What the handler will see: path and query first, then headers in order."""
    content_type: str | None
    content_encoding: str | None
    content_length: int | None
    idempotency_key: str | None
    path: bytes
    """As sent, percent-encoded, without the query."""
    query: bytes
    retry: RetrySchedule | None = None
    """Policy of this invocation; None: that of its handler."""


def read_head(scope: Scope, guard: Guard) -> Head:
    """Read the headers of a request.

    Raises:
        Refusal: HF1008 foreign host; HF1009 foreign page; HF1016 limit key; HF1017 headers too
            large; HF0532 bad retry policy; HF1029 bad Content-Length; HF1040 bad idempotency key.
    """
    # ASGI servers may leave out the path as it was sent; then it can only be made again.
    path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    query: bytes = scope["query_string"]
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    size = len(path) + len(query)
    link = (path + b"?" + query if query else path).decode("latin-1")
    visible = [("x-restate-ingress-path", link)]
    # Most requests have none of these, so they are looked at only when the set says so.
    content_type = content_encoding = idempotency_key = None
    content_length = retry = None
    for name, value in headers:
        size += len(name) + len(value)
        text = value.decode("latin-1")
        if name in _READ:
            if name == b"content-type":
                content_type = text
            elif name == b"content-length":
                content_length = _parse_length(text)
            elif name == b"idempotency-key":
                idempotency_key = _check_idempotency_key(text, idempotency_key)
            elif name == b"content-encoding":
                content_encoding = text
            elif name == b"holdfast-retry":
                retry = parse_retry(text)
            else:
                _check(name, value, guard)
            if name in _HIDDEN:
                continue
        visible.append((name.decode("latin-1"), text))
    if len(headers) > _HEADER_COUNT_MAX or size > _HEADER_SIZE_BYTES_MAX:
        raise Refusal(
            431,
            "HF1017",
            f"The request has {len(headers)} headers and {size} bytes before its body; at most"
            f" {_HEADER_COUNT_MAX} and {_HEADER_SIZE_BYTES_MAX} are allowed.",
            hint="Send data in the body; look for cookies that do not belong here.",
        )
    return Head(
        visible, content_type, content_encoding, content_length, idempotency_key, path, query, retry
    )


def check_idempotency_key(key: str) -> None:
    """Refuse idempotency keys that are empty, too long or not ASCII.

    Raises:
        Refusal: HF1040.
    """
    if not key:
        problem = "is empty"
    elif len(key) > IDEMPOTENCY_KEY_LENGTH_MAX:
        problem = f"has {len(key)} characters; at most {IDEMPOTENCY_KEY_LENGTH_MAX} are allowed"
    elif not key.isascii() or not key.isprintable():
        problem = f"{shown(key)} has characters other than printable ASCII"
    else:
        return
    raise Refusal(
        400,
        "HF1040",
        f"The idempotency key {problem}.",
        hint="Use a UUID or a hash of what makes the request unique.",
    )


def no_scopes(what: str) -> Refusal:
    """Return the refusal of scopes and limit keys."""
    return Refusal(
        400,
        "HF1016",
        f"{what} are not supported: this server has no virtual queues.",
        hint="Leave them out.",
    )


def _check(name: bytes, value: bytes, guard: Guard) -> None:
    """Look at the headers that say whether the request may come in at all."""
    if name == b"host":
        guard.check_host(value)
    elif name == b"sec-fetch-site":
        guard.check_site(value)
    elif name == b"x-restate-limit-key":
        raise no_scopes("Limit keys")


def _check_idempotency_key(key: str, earlier: str | None) -> str:
    check_idempotency_key(key)
    if earlier is not None:
        raise Refusal(
            400,
            "HF1040",
            "The request has more than one idempotency key.",
            hint="Send the header once.",
        )
    return key


def _parse_length(text: str) -> int:
    # HTTP servers check this first; behind one that does not, it must not become a crash.
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise IngressRefusal(
            400,
            "HF1029",
            f"Content-Length {shown(text)} is not a number of bytes.",
            hint="Let the HTTP library compute Content-Length.",
            is_body_unread=True,
        )
    return int(text)
