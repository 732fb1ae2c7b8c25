"""Which code answers which path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from holdfast.admin.http import Request
from holdfast.web.asgi import Response, Scope, StreamedResponse
from holdfast.web.problem import Refusal, method_refusal, shown

Endpoint = Callable[[Request], Awaitable[Response | StreamedResponse]]

_VERSIONS = ("v2", "v3", "v4")
_BAD_ESCAPE = re.compile(rb"%(?![0-9a-fA-F]{2})")


class Route(NamedTuple):
    """What answers a method at a path."""

    method: str
    segments: tuple[str, ...]
    """Of the path; one in braces stands for any."""
    endpoint: Endpoint


class Router:
    """Routes by method and path; `{…}` stands for any one segment."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add(self, method: str, path: str, endpoint: Endpoint) -> None:
        """Add a route, such as `GET`, `/services/{service}`."""
        self.routes.append(Route(method, tuple(path.strip("/").split("/")), endpoint))

    def find(self, method: str, segments: list[str]) -> tuple[Endpoint, list[str]]:
        """Return what answers a request, and the segments in place of braces.

        Raises:
            Refusal: HF1005 no such path; HF1007 another method is needed; HF1061 old version.
        """
        path = "/".join(["", *segments])
        if segments and segments[0] in _VERSIONS:
            segments = segments[1:]
        elif segments and segments[0] == "v1":
            raise Refusal(
                400,
                "HF1061",
                "Version 1 of the admin API is not supported.",
                hint=f"Use one of: {', '.join(_VERSIONS)}, or no version in the path.",
            )
        methods: list[str] = []
        for route in self.routes:
            params = _match(route.segments, segments)
            if params is None:
                continue
            if route.method == method or (route.method == "GET" and method == "HEAD"):
                return route.endpoint, params
            methods.append(route.method)
        if methods:
            raise method_refusal(method, ", ".join([*methods, "OPTIONS"]))
        raise Refusal(
            404,
            "HF1005",
            f"Path {shown(path)} has no meaning here.",
            hint="Calls go to the ingress, on another port; GET /version names it.",
        )


def _match(pattern: tuple[str, ...], segments: list[str]) -> list[str] | None:
    if len(pattern) != len(segments):
        return None
    params: list[str] = []
    for wanted, found in zip(pattern, segments, strict=True):
        if wanted.startswith("{"):
            params.append(found)
        elif wanted != found:
            return None
    return params


def split_path(scope: Scope) -> list[str]:
    """Return the segments of a path, each percent-decoded once; one trailing slash is ignored.

    Raises:
        Refusal: HF1006, not percent-encoded UTF-8.
    """
    raw: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
    try:
        if _BAD_ESCAPE.search(raw) is not None:
            raise ValueError
        segments = [unquote_to_bytes(segment).decode() for segment in raw.split(b"/")]
    except ValueError:
        raise Refusal(
            400,
            "HF1006",
            "The path is not percent-encoded UTF-8.",
            hint="Encode text as UTF-8, then percent-encode its bytes; a percent sign is %25.",
        ) from None
    if segments[-1] == "" and len(segments) > 2:
        segments.pop()
    return segments[1:]
