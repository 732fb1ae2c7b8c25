"""Where handlers of a registered HTTP deployment are reached, and how."""

from __future__ import annotations

from enum import Enum

import msgspec


class HttpVersion(Enum):
    """How a deployment is spoken to; chosen at registration and kept."""

    HTTP_1_1 = "HTTP/1.1"
    HTTP_2 = "HTTP/2.0"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An address that serves handlers, and what it said about itself when it was asked."""

    uri: str
    """Absolute, normalised; may have a path, under which all requests go, and a query."""
    headers: dict[str, str] = {}
    """Sent with every request, by lower-case name."""
    http_version: HttpVersion
    is_bidirectional: bool
    """False: a request is sent whole before its response is read."""
    protocol_version_min: int
    protocol_version_max: int
    sdk_version: str = ""
    metadata: dict[str, str] = {}
    """Labels of who registered it; nothing here reads them."""
