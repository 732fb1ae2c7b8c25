"""Our handlers as an HTTP endpoint, behind our server."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pytest.importorskip("pyqwest")

from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from tests.compat.front_door import FrontDoor, endpoint, front_door
from tests.compat.primitive_app import app
from tests.compat.primitive_check import CHECKS

MODES: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "request, then response": {"use_http_11": True},
    "always suspending": {"inactivity_timeout_ms": 0},
}


@contextlib.asynccontextmanager
async def running(
    *, use_http_11: bool = False, inactivity_timeout_ms: int | None = None
) -> AsyncIterator[FrontDoor]:
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        inactivity_timeout_ms=inactivity_timeout_ms,
    )
    async with (
        endpoint(app, is_http_2=not use_http_11) as uri,
        Server(config) as server,
        front_door(server.ingress_url, server.admin_url) as door,
    ):
        await door.register(uri, use_http_11=use_http_11)
        yield door


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives(name: str, mode: str) -> None:
    async with running(**MODES[mode]) as door:
        await CHECKS[name](door, uuid.uuid4().hex)
