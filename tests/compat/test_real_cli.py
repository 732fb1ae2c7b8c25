"""Restate's own command line against our admin API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("restate", reason="restate-sdk is a development dependency")
pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pytest.importorskip("pyqwest")

from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from tests.compat.front_door import FrontDoor, front_door, until
from tests.compat.npm import NotThere, binary
from tests.compat.python_sdk_app import calls, seen, serving

PACKAGE = "@restatedev/restate"
VERSION = "1.7.12"


class Said(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str


class Cli:
    """The command line, with a server and an endpoint that is not registered yet."""

    def __init__(self, program: Path, door: FrontDoor, uri: str, folder: Path) -> None:
        self.door = door
        self.uri = uri
        self._program = program
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RESTATE_CLI_CONFIG_HOME": str(folder),
            "RESTATE_ADMIN_URL": door.admin,
            "RESTATE_INGRESS_URL": door.ingress,
            "NO_COLOR": "1",
            "DO_NOT_TRACK": "1",
        }

    async def run(self, *arguments: str, **environment: str) -> Said:
        process = await asyncio.create_subprocess_exec(
            self._program,
            *("--yes", *arguments),
            env={**self._environment, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(20):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def ok(self, *arguments: str, **environment: str) -> str:
        said = await self.run(*arguments, **environment)
        assert said.status == 0, said
        return said.out

    async def register(self) -> str:
        """Register the endpoint; returns the deployment's id."""
        await self.ok("deployments", "register", self.uri)
        listed = await self.door.ask("GET", f"{self.door.admin}/deployments")
        deployment_id: str = listed.json["deployments"][0]["id"]
        return deployment_id

    async def status_of(self, invocation_id: str) -> str:
        url = f"{self.door.admin}/holdfast/v1/invocations/{invocation_id}"
        status: str = (await self.door.ask("GET", url)).json["status"]
        return status

    async def until_status(self, invocation_id: str, status: str) -> None:
        async with asyncio.timeout(10):
            while await self.status_of(invocation_id) != status:
                await asyncio.sleep(0.005)


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[Cli]:
    try:
        program = binary(PACKAGE, VERSION, "restate")
    except NotThere as why:
        pytest.skip(f"no restate command line: {why}")
    config = ServerConfig(store="memory:", ingress="127.0.0.1:0", admin="127.0.0.1:0")
    async with contextlib.AsyncExitStack() as stack:
        uri = await stack.enter_async_context(serving())
        server = await stack.enter_async_context(Server(config))
        doors = front_door(server.ingress_url, server.admin_url)
        yield Cli(program, await stack.enter_async_context(doors), uri, tmp_path)


async def test_register_call_and_look(cli: Cli) -> None:
    """The smoke: from registration to a query."""
    deployment_id = await cli.register()
    assert await cli.door.call("Counter/k/add", 5) == 5
    assert deployment_id in await cli.ok("deployments", "list")
    assert "Counter" in await cli.ok("services", "list")
    rows = json.loads(await cli.ok("sql", "--json", "SELECT target, status FROM sys_invocation"))
    assert rows == [{"target": "Counter/k/add", "status": "completed"}]


@pytest.mark.nightly
async def test_whoami(cli: Cli) -> None:
    said = await cli.ok("whoami")
    assert cli.door.admin in said
    assert cli.door.ingress in said


@pytest.mark.nightly
async def test_deployments(cli: Cli) -> None:
    """New, unchanged, forced, described, and removed."""
    assert "SERVICES THAT WILL BE ADDED" in await cli.ok("deployments", "register", cli.uri)
    again = await cli.ok("deployments", "register", cli.uri)
    assert "No changes will be made" in again
    forced = await cli.ok("deployments", "register", cli.uri, "--force")
    assert "Revision: 1 -> 2" in forced
    deployment_id = await cli.register()
    for extra in ([], ["--extra"]):
        listed = await cli.ok("deployments", "list", *extra)
        assert deployment_id in listed
        assert "Steps [2]" in listed
        described = await cli.ok("deployments", "describe", deployment_id, *extra)
        assert "Bidirectional Stream" in described
        assert "restate-sdk-python/" in described
        assert "bytes_back" in described
    refused = await cli.run("deployments", "remove", deployment_id)
    assert refused.status == 1
    assert "still Active" in refused.err
    await cli.ok("deployments", "remove", deployment_id, "--force")
    assert "No deployments" in (await cli.run("deployments", "list")).err


@pytest.mark.nightly
async def test_services(cli: Cli) -> None:
    deployment_id = await cli.register()
    listed = await cli.ok("services", "list")
    assert "[private]  Hidden" in listed
    described = await cli.ok("services", "describe", "Counter")
    assert deployment_id in described
    assert "add_later" in described
    assert "add_later" in await cli.ok("services", "status", "Counter")
    assert "Signup" in await cli.ok("services", "status")
    await cli.ok("services", "config", "patch", "Counter", "--public", "false")
    assert "Public:  false" in await cli.ok("services", "config", "view", "Counter")
    assert (await cli.door.post("Counter/k/add", 1)).status == 400


@pytest.mark.nightly
async def test_invocations_are_listed_and_described(cli: Cli) -> None:
    """Running, suspended, backing off and completed."""
    await cli.register()
    name = uuid.uuid4().hex
    running = await cli.door.send("Steps/sleep_long", name)
    failing = await cli.door.send("Steps/fail_twice", name)
    done = await cli.door.send("Steps/count", 2)
    await cli.until_status(done, "completed")
    await until(lambda: calls[name] >= 1)
    listed = await cli.ok("invocations", "list")
    assert running in listed
    assert done not in listed
    assert done in await cli.ok("invocations", "list", "--all")
    assert "Command: Sleep until" in await cli.ok("invocations", "describe", running)
    described = await cli.ok("invocations", "describe", failing)
    assert "ValueError('attempt" in described
    described = await cli.ok("invocations", "describe", done)
    assert "completed" in described
    assert "step 1" in described
    calling = await cli.door.send("Steps/call", 418)
    await cli.until_status(calling, "completed")
    assert "Command: Call Steps/reject inv_" in await cli.ok("invocations", "describe", calling)


@pytest.mark.nightly
async def test_invocations_are_steered(cli: Cli) -> None:
    await cli.register()
    name = uuid.uuid4().hex
    cancelled = await cli.door.send("Steps/compensate", name)
    await until(lambda: name in seen)
    await cli.ok("invocations", "cancel", cancelled)
    assert (await cli.door.attach(cancelled)).json == "undone after 409"
    killed = await cli.door.send("Steps/sleep_long", name)
    await cli.ok("invocations", "pause", killed)
    await cli.until_status(killed, "paused")
    await cli.ok("invocations", "resume", killed)
    await cli.until_status(killed, "running")
    await cli.ok("invocations", "kill", killed)
    assert (await cli.door.attach(killed)).status == 409
    assert "Restarted 1" in await cli.ok("invocations", "restart-as-new", killed)
    await cli.ok("invocations", "purge", killed)
    assert (await cli.door.attach(killed)).status == 404
    # All of a service, by name.
    assert "Killed 1" in await cli.ok("invocations", "kill", "Steps")


@pytest.mark.nightly
async def test_sql(cli: Cli) -> None:
    await cli.register()
    assert await cli.door.call("Counter/k/add", 5) == 5
    assert "Counter/k/add" in await cli.ok("sql", "SELECT * FROM sys_invocation")
    counted = await cli.ok("sql", "SELECT COUNT(*) FROM state")
    assert counted.split()[-1] == "1"
    empty = await cli.run("sql", "SELECT id FROM sys_invocation WHERE target = 'none'")
    assert (empty.status, empty.err.startswith("0 rows")) == (0, True)
    wrong = await cli.run("sql", "SELECT nonsense")
    assert wrong.status == 1
    assert "nonsense" in wrong.err


@pytest.mark.nightly
async def test_state(cli: Cli, tmp_path: Path) -> None:
    await cli.register()
    assert await cli.door.call("Counter/k/add", 5) == 5
    got = await cli.ok("kv", "get", "Counter", "k")
    assert got.split()[-2:] == ["value", "5"]
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/5/7/ "$1"\n')
    editor.chmod(0o755)
    await cli.ok("kv", "edit", "Counter", "k", EDITOR=str(editor), VISUAL=str(editor))
    assert await cli.door.call("Counter/k/get") == 7
    replaced = '[{"op": "replace", "path": "/value", "value": 9}]'
    await cli.ok("kv", "patch", "Counter", "k", "--patch", replaced)
    assert await cli.door.call("Counter/k/get") == 9
    await cli.ok("kv", "clear", "Counter/k")
    assert await cli.door.call("Counter/k/get") == 0
