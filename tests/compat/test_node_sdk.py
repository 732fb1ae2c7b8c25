"""Unmodified services of Restate's TypeScript SDK behind a Holdfast server."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

pytest.importorskip("pyqwest")

from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from tests.compat.front_door import FrontDoor, front_door
from tests.compat.node_check import CHECKS
from tests.compat.node_process import NodeProcess
from tests.compat.npm import NotThere
from tests.compat.test_identity import make_key
from tests.e2e.harness import Holdfast


class Mode(NamedTuple):
    """How services are served, and what the server does with them."""

    env: Mapping[str, str] = MappingProxyType({})
    is_http_11: bool = False
    inactivity_timeout_ms: int | None = None
    protocol_type: str = "BidiStream"
    is_protocol_v7: bool = True


MODES = {
    "bidirectional": Mode(),
    "request, then response": Mode({"HTTP": "1.1"}, True, protocol_type="RequestResponse"),
    "request, then response, HTTP/2": Mode(
        {"BIDIRECTIONAL": "false"}, protocol_type="RequestResponse"
    ),
    "always suspending": Mode(inactivity_timeout_ms=0),
    "version 6": Mode(is_protocol_v7=False),
    "version 6, request, then response": Mode(
        {"HTTP": "1.1"}, True, protocol_type="RequestResponse", is_protocol_v7=False
    ),
    "version 5": Mode({"VERSION_MAX": "5"}),
    "version 5, request, then response": Mode(
        {"VERSION_MAX": "5", "HTTP": "1.1"}, True, protocol_type="RequestResponse"
    ),
}
SMOKE = {
    "bidirectional": (
        "steps_run_once",
        "steps_and_calls_at_once",
        "combinators",
        "failures_are_retried",
        "awakeables",
        "cancellation",
        "state",
        "workflows",
    ),
    "request, then response": ("steps_and_calls_at_once", "signals", "combinators"),
    "always suspending": ("combinators", "cancellation"),
    "version 6": ("combinators", "signals"),
}


def start(folder: Path, env: Mapping[str, str]) -> NodeProcess:
    try:
        return NodeProcess("service.mjs", folder, env)
    except NotThere as why:
        pytest.skip(f"no TypeScript SDK: {why}")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, NodeProcess]]:
    """Node processes by mode, started when a test needs them."""
    with contextlib.ExitStack() as stack:

        class Started(dict[str, NodeProcess]):
            def __missing__(self, name: str) -> NodeProcess:
                process = start(tmp_path_factory.mktemp("node"), MODES[name].env)
                self[name] = stack.enter_context(process)
                return process

        yield Started()


@contextlib.asynccontextmanager
async def served(process: NodeProcess, mode: Mode) -> AsyncIterator[FrontDoor]:
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        inactivity_timeout_ms=mode.inactivity_timeout_ms,
        is_protocol_v7=mode.is_protocol_v7,
    )
    async with Server(config) as server, front_door(server.ingress_url, server.admin_url) as door:
        await door.register(process.uri, use_http_11=mode.is_http_11)
        yield door


async def checked(processes: dict[str, NodeProcess], mode: str, name: str) -> None:
    process = processes[mode]
    async with served(process, MODES[mode]) as door:
        await CHECKS[name](door, process.ledger, uuid.uuid4().hex)


@pytest.mark.parametrize(
    ("mode", "name"), [(mode, name) for mode, names in SMOKE.items() for name in names]
)
async def test_smoke(processes: dict[str, NodeProcess], mode: str, name: str) -> None:
    await checked(processes, mode, name)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives(processes: dict[str, NodeProcess], mode: str, name: str) -> None:
    await checked(processes, mode, name)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", MODES)
async def test_registration(processes: dict[str, NodeProcess], mode: str) -> None:
    async with served(processes[mode], MODES[mode]) as door:
        [found] = (await door.ask("GET", f"{door.admin}/deployments")).json["deployments"]
        assert found["protocol_type"] == MODES[mode].protocol_type
        assert found["max_protocol_version"] == int(MODES[mode].env.get("VERSION_MAX", 7))
        assert found["sdk_version"].startswith("restate-sdk-typescript/")
        listed = (await door.ask("GET", f"{door.admin}/services")).json["services"]
        assert {each["name"]: (each["ty"], each["public"]) for each in listed} == {
            "Counter": ("VirtualObject", True),
            "Hidden": ("Service", False),
            "Lazy": ("VirtualObject", True),
            "Signup": ("Workflow", True),
            "Steps": ("Service", True),
        }


async def test_a_listener_of_http_2_only_is_no_http_1_1(processes: dict[str, NodeProcess]) -> None:
    config = ServerConfig(store="memory:", ingress="127.0.0.1:0", admin="127.0.0.1:0")
    uri = processes["bidirectional"].uri
    async with Server(config) as server, front_door(server.ingress_url, server.admin_url) as door:
        body = {"uri": uri, "use_http_11": True}
        answer = await door.ask("POST", f"{door.admin}/deployments", body)
        assert (answer.status, answer.json["restate_code"]) == (500, "META0003")


@pytest.mark.nightly
@pytest.mark.parametrize("is_trusted", [True, False])
async def test_requests_are_signed(tmp_path: Path, is_trusted: bool) -> None:
    key_file = tmp_path / "key.pem"
    public_key = make_key(key_file)
    trusted = public_key if is_trusted else make_key(tmp_path / "other.pem")
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        identity_key_file=str(key_file),
    )
    with start(tmp_path, {"IDENTITY_KEY": trusted}) as process:
        async with (
            Server(config) as server,
            front_door(server.ingress_url, server.admin_url) as door,
        ):
            url = f"{door.admin}/deployments"
            answer = await door.ask("POST", url, {"uri": process.uri})
            if is_trusted:
                assert answer.status == 201
                assert await door.call("Steps/greet", "Ada") == "Hello Ada"
            else:
                assert (answer.status, answer.json["restate_code"]) == (500, "META0003")
                assert "401" in answer.json["message"]


# -- crashes ---------------------------------------------------------------------------------------

TURNS = 12
COUNT = 4


async def half_way(process: NodeProcess, ids: list[str]) -> None:
    while len(process.ledger.lines()) < COUNT * TURNS // 3:
        await asyncio.sleep(0.005)
    assert len(process.ledger.lines()) < COUNT * TURNS


async def finished(door: FrontDoor, process: NodeProcess, ids: list[str]) -> None:
    for invocation_id in ids:
        expected = [f"{invocation_id} half {n}" for n in range(TURNS)]
        assert (await door.attach(invocation_id)).json == expected
    # Steps whose results were not recorded yet run again; nothing else does.
    lines = process.ledger.lines()
    assert len(set(lines)) == COUNT * TURNS
    assert len(lines) <= COUNT * TURNS + COUNT


CRASH_MODES = [
    "bidirectional",
    *(pytest.param(mode, marks=pytest.mark.nightly) for mode in list(MODES)[1:]),
]


@pytest.mark.parametrize("mode", CRASH_MODES)
async def test_a_killed_node_process_goes_on(tmp_path: Path, mode: str) -> None:
    with start(tmp_path, MODES[mode].env) as process:
        async with served(process, MODES[mode]) as door:
            ids = [await door.send("Steps/half", TURNS) for _ in range(COUNT)]
            await half_way(process, ids)
            process.kill()
            await asyncio.to_thread(process.start)
            await finished(door, process, ids)


@pytest.mark.parametrize("mode", CRASH_MODES)
async def test_a_killed_server_goes_on(tmp_path: Path, mode: str) -> None:
    env: dict[str, str] = {}
    if MODES[mode].inactivity_timeout_ms is not None:
        env["HOLDFAST_INACTIVITY_TIMEOUT"] = f"{MODES[mode].inactivity_timeout_ms}ms"
    with start(tmp_path, MODES[mode].env) as process, Holdfast(tmp_path, "", env) as holdfast:
        await asyncio.to_thread(holdfast.server().until, "Ready")
        addresses = f"http://{holdfast.ingress}", f"http://{holdfast.admin}"
        async with front_door(*addresses) as door:
            await door.register(process.uri, use_http_11=MODES[mode].is_http_11)
            ids = [await door.send("Steps/half", TURNS) for _ in range(COUNT)]
            await half_way(process, ids)
            holdfast.current("server").kill()
            await asyncio.to_thread(holdfast.server().until, "Ready")
            await finished(door, process, ids)
