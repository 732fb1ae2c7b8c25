"""Applications inside of applications."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.web.asgi import ASGIApp, Receive, Scope, Send


def mounted(apps: Mapping[str, ASGIApp], path: str) -> ASGIApp | None:
    """Return the application for a path: mounted exactly there, or above it; the deepest wins."""
    while path:
        app = apps.get(path)
        if app is not None:
            return app
        path = path.rpartition("/")[0]
    return None


def below(path: str, app: ASGIApp) -> ASGIApp:
    """Return an application that finds itself at the root while it is mounted at `path`."""
    raw = path.encode()

    async def shifted(scope: Scope, receive: Receive, send: Send) -> None:
        inner = dict(scope)
        inner["path"] = scope["path"].removeprefix(path) or "/"
        raw_path: bytes | None = scope.get("raw_path")
        if raw_path is not None:
            inner["raw_path"] = raw_path.removeprefix(raw) or b"/"
        await app(inner, receive, send)

    return shifted
