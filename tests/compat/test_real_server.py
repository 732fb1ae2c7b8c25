"""Our handlers behind Restate's own server."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import holdfast as hf
from holdfast.protocol.identity import Signer
from holdfast.protocol.restate.manifest import encode_manifest
from tests.compat.front_door import Cutting, endpoint, front_door
from tests.compat.npm import NotThere
from tests.compat.primitive_app import app, steps
from tests.compat.primitive_check import CHECKS, REPEATABLE
from tests.compat.real_server import RealServer, installed
from tests.compat.serving import COUNT, TURNS, run_through_a_stop

SMOKE = {
    "HTTP/2": ("steps_run_once", "parallel_branches", "timers", "cancellation", "workflows"),
    "HTTP/1.1": ("steps_run_once", "awakeables", "state"),
}


def started(folder: Path, **settings: str) -> RealServer:
    try:
        return RealServer(installed(), folder, settings)
    except NotThere as why:
        pytest.skip(f"no restate-server: {why}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with started(tmp_path_factory.mktemp("restate")) as server:
        yield server


@pytest.fixture(scope="module")
def suspending_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One that closes each request as soon as its handler waits."""
    settings = {"RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s"}
    with started(tmp_path_factory.mktemp("restate"), **settings) as server:
        yield server


async def checked(
    server: RealServer,
    name: str,
    http_version: str,
    wrap: Callable[[Any], Any] = lambda served: served,
) -> None:
    async with (
        endpoint(app, is_http_2=http_version == "HTTP/2", wrap=wrap) as uri,
        front_door(server.ingress, server.admin) as door,
    ):
        await door.register(uri, use_http_11=http_version == "HTTP/1.1")
        await CHECKS[name](door, uuid.uuid4().hex)


@pytest.mark.parametrize(
    ("http_version", "name"),
    [(version, name) for version, names in SMOKE.items() for name in names],
)
async def test_smoke(name: str, http_version: str, server: RealServer) -> None:
    await checked(server, name, http_version)


@pytest.mark.nightly
@pytest.mark.parametrize("http_version", SMOKE)
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives(name: str, http_version: str, server: RealServer) -> None:
    await checked(server, name, http_version)


@pytest.mark.nightly
@pytest.mark.parametrize("name", CHECKS)
async def test_primitives_always_suspending(name: str, suspending_server: RealServer) -> None:
    await checked(suspending_server, name, "HTTP/2")


@pytest.fixture(scope="module")
def eager_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One that does not wait long before it tries again."""
    policy = {
        "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "5ms",
        "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "20ms",
    }
    with started(tmp_path_factory.mktemp("restate"), **policy) as server:
        yield server


@pytest.mark.nightly
@pytest.mark.parametrize("name", REPEATABLE)
async def test_attempts_that_are_cut(name: str, eager_server: RealServer) -> None:
    await checked(eager_server, name, "HTTP/1.1", wrap=Cutting)


@pytest.mark.nightly
@pytest.mark.parametrize("name", CHECKS)
async def test_version_5(name: str, server: RealServer, monkeypatch: pytest.MonkeyPatch) -> None:
    oldest = functools.partial(encode_manifest, protocol_version_max=5)
    monkeypatch.setattr("holdfast.transport.http.endpoint.encode_manifest", oldest)
    await checked(server, name, "HTTP/2")


@pytest.fixture(scope="module")
def newest_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """One that speaks version 7, and closes each request as soon as its handler waits."""
    settings = {
        "RESTATE_EXPERIMENTAL_ENABLE_PROTOCOL_V7": "true",
        "RESTATE_WORKER__INVOKER__INACTIVITY_TIMEOUT": "0s",
    }
    with started(tmp_path_factory.mktemp("restate"), **settings) as server:
        yield server


class Listening:
    """Looks at what is asked for."""

    def __init__(self, served: Any) -> None:
        self._served = served
        self.media_types: set[str] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if "/invoke/" in scope["path"]:
            self.media_types.add(dict(scope["headers"])[b"content-type"].decode())
        await self._served(scope, receive, send)


NEWEST = ("parallel_branches", "timers", "cancellation", "awakeables")


@pytest.mark.parametrize(
    ("name", "http_version"),
    [
        pytest.param(
            name,
            http_version,
            marks=[] if name in NEWEST and http_version == "HTTP/2" else [pytest.mark.nightly],
        )
        for name in CHECKS
        for http_version in SMOKE
    ],
)
async def test_version_7(name: str, http_version: str, newest_server: RealServer) -> None:
    heard: list[Listening] = []

    def listen(served: Any) -> Listening:
        heard.append(Listening(served))
        return heard[-1]

    await checked(newest_server, name, http_version, wrap=listen)
    assert heard[0].media_types == {"application/vnd.restate.invocation.v7"}


# -- crashes and restarts --------------------------------------------------------------------------


@pytest.mark.nightly
@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_killed_handlers_go_on(http_version: str, server: RealServer, tmp_path: Path) -> None:
    async with front_door(server.ingress, server.admin) as door:
        happened = await run_through_a_stop(door, tmp_path, http_version, is_killed=True)
    # Steps whose results were not recorded yet run again; nothing else does.
    assert len(set(happened)) == COUNT * TURNS
    assert len(happened) <= COUNT * TURNS + COUNT


@pytest.mark.parametrize("http_version", ["1.1", "2"])
async def test_stopped_handlers_finish_their_steps(
    http_version: str, server: RealServer, tmp_path: Path
) -> None:
    async with front_door(server.ingress, server.admin) as door:
        happened = await run_through_a_stop(door, tmp_path, http_version, is_killed=False)
    assert len(happened) == len(set(happened)) == COUNT * TURNS


@pytest.mark.nightly
async def test_a_killed_server_goes_on(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        async with (
            endpoint(app, is_http_2=True) as uri,
            front_door(server.ingress, server.admin) as door,
        ):
            await door.register(uri)
            invocation_id = await door.send("Steps/half", TURNS)
            await asyncio.sleep(0.1)
            server.kill()
            await asyncio.to_thread(server.start)
            answer = await door.attach(invocation_id)
            assert answer.json == [f"{invocation_id} half {n}" for n in range(TURNS)]


@pytest.mark.nightly
async def test_only_servers_with_a_known_key_may_invoke(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = tmp_path / "private.pem"
    file.write_bytes(pem)
    settings = {"RESTATE_REQUEST_IDENTITY_PRIVATE_KEY_PEM_FILE": str(file)}
    known = hf.App(steps, identity_keys=[Signer(pem).public_key])
    other = hf.App(steps, identity_keys=["publickeyv1_" + "1" * 32])
    with started(tmp_path, **settings) as server:
        async with (
            endpoint(known, is_http_2=True) as uri,
            endpoint(other, is_http_2=True) as closed,
            front_door(server.ingress, server.admin) as door,
        ):
            await door.register(uri)
            assert await door.call("Steps/greet", "Ada") == "Hello Ada"
            refused = await door.ask("POST", f"{server.admin}/deployments", {"uri": closed})
            assert refused.status == 500
            assert b"401" in refused.body
