"""Applications inside of applications."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.web.asgi import ASGIApp


def mounted(apps: Mapping[str, ASGIApp], path: str) -> ASGIApp | None:
    """Return the application for a path: mounted exactly there, or above it; the deepest wins."""
    while path:
        app = apps.get(path)
        if app is not None:
            return app
        path = path.rpartition("/")[0]
    return None
