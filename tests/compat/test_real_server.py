"""Our handlers behind Restate's own server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pytest.importorskip("pyqwest")

from tests.compat.front_door import endpoint, front_door
from tests.compat.primitive_app import app
from tests.compat.primitive_check import CHECKS
from tests.compat.real_server import NotThere, RealServer, installed

MODES = {
    "bidirectional": {},
    "request, then response": {},
    "always suspending": {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s"},
}
SMOKE = ("greeting", "steps_run_once", "parallel_branches", "timers", "awakeables", "state")


@pytest.fixture(scope="module", params=["default settings", "always suspending"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealServer]:
    try:
        binary = installed()
    except NotThere as why:
        pytest.skip(f"no restate-server: {why}")
    settings = (
        {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s"}
        if request.param == "always suspending"
        else {}
    )
    with RealServer(binary, tmp_path_factory.mktemp("restate"), settings) as server:
        yield server


@pytest.mark.parametrize("is_http_2", [True, False], ids=["HTTP/2", "HTTP/1.1"])
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives(name: str, is_http_2: bool, server: RealServer) -> None:
    async with (
        endpoint(app, is_http_2=is_http_2) as uri,
        front_door(server.ingress, server.admin) as door,
    ):
        await door.register(uri, use_http_11=not is_http_2)
        await CHECKS[name](door, uuid.uuid4().hex)
