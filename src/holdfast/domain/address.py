"""Addresses of endpoints: which are taken, and which URLs below them are asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from holdfast.domain.errors import UsageError

DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED_HEADERS = frozenset(
    {
        "accept",
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED_PREFIX = "x-restate-"
_HEADER_COUNT_MAX = 64
_HEADER_SIZE_MAX = 8 * 1024


def parse_uri(text: str) -> str:
    """Return the normal form of an endpoint's address, so that equal addresses are equal texts.

    Raises:
        UsageError: HF1281, not an absolute http or https URL, or one with user or fragment.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _no_address(text, str(error)) from error
    if parts.scheme not in DEFAULT_PORTS:
        found = f"its scheme is {parts.scheme!r}" if parts.scheme else "it has no scheme"
        raise _no_address(text, found)
    if not host or not text.isprintable() or " " in text:
        raise _no_address(text, "it names no host")
    if parts.username is not None or parts.password is not None:
        # The password must not get into logs.
        raise _no_address(
            f"{parts.scheme}://…@{host}", "it has a user or a password; send a header instead"
        )
    if parts.fragment:
        raise _no_address(text, "it has a fragment")
    host = f"[{host}]" if ":" in host else host
    if port is not None and port != DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/"
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._")
    return urlunsplit((parts.scheme, host, path, query, ""))


def url_of(uri: str, path: str) -> str:
    """Return the URL of a path below an endpoint's address; a query stays behind the path."""
    parts = urlsplit(uri)
    joined = f"{parts.path.rstrip('/')}/{path}"
    return urlunsplit((parts.scheme, parts.netloc, joined, parts.query, ""))


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers to send with every request, by lower-case name.

    Raises:
        UsageError: HF1282, a name or value that HTTP cannot carry, or one that is ours to set.
    """
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.fullmatch(name):
            raise _bad_header(name, "is not the name of a header")
        if lower in _RESERVED_HEADERS or lower.startswith(_RESERVED_PREFIX):
            raise _bad_header(name, "is set by the server")
        if not value.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in value):
            raise _bad_header(name, "has a value that is not printable ASCII")
        checked[lower] = value.strip()
    size = sum(len(name) + len(value) for name, value in checked.items())
    if len(checked) > _HEADER_COUNT_MAX or size > _HEADER_SIZE_MAX:
        raise UsageError(
            f"{len(checked)} additional headers of {size} bytes are too many.",
            code="HF1282",
            hint=f"At most {_HEADER_COUNT_MAX} headers of {_HEADER_SIZE_MAX} bytes in all.",
        )
    return checked


def _no_address(text: str, found: str) -> UsageError:
    shown = text if len(text) <= 200 else f"{text[:200]}…"
    return UsageError(
        f"{shown!r} is not the address of an endpoint: {found}.",
        code="HF1281",
        hint="Give a URL such as http://127.0.0.1:9080 or https://handlers.example.com/agents.",
    )


def _bad_header(name: str, found: str) -> UsageError:
    return UsageError(
        f"The additional header {name[:80]!r} {found}.",
        code="HF1282",
        hint="Give headers such as authorization or x-tenant, with printable ASCII.",
    )
