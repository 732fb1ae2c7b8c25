"""Unmodified services of Restate's Python SDK behind a Holdfast server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("restate", reason="restate-sdk is a development dependency")
pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pyqwest = pytest.importorskip("pyqwest")

from holdfast.server.app import Server  # noqa: E402
from holdfast.server.config import ServerConfig  # noqa: E402
from tests.compat.front_door import Answer, FrontDoor, until  # noqa: E402
from tests.compat.python_sdk_app import calls, seen, serving  # noqa: E402


class Running(FrontDoor):
    """A server, and the address of the endpoint that is registered there."""

    # What does not come never comes: handlers here take milliseconds, retries a second.
    patience_s = 10.0

    def __init__(self, server: Server, uri: str, client: Any) -> None:
        super().__init__(server.ingress_url, server.admin_url, client)
        self.server = server
        self.uri = uri

    async def register_again(self, **options: Any) -> Answer:
        return await self.ask("POST", f"{self.admin}/deployments", {"uri": self.uri, **options})

    async def invocations(self, query: str = "") -> list[dict[str, Any]]:
        url = f"{self.admin}/holdfast/v1/invocations{query}"
        rows: list[dict[str, Any]] = (await self.ask("GET", url)).json["invocations"]
        return rows

    async def journal(self, invocation_id: str) -> list[str]:
        url = f"{self.admin}/holdfast/v1/invocations/{invocation_id}/journal"
        return [entry["kind"] for entry in (await self.ask("GET", url)).json["entries"]]


@contextlib.asynccontextmanager
async def started(
    uri: str, *, inactivity_timeout_ms: int | None = None, **options: Any
) -> AsyncIterator[Running]:
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        inactivity_timeout_ms=inactivity_timeout_ms,
    )
    transport = pyqwest.HTTPTransport(http_version=pyqwest.HTTPVersion.HTTP1, enable_otel=False)
    async with Server(config) as server, transport:
        running = Running(server, uri, pyqwest.Client(transport))
        await running.register(uri, **options)
        yield running


MODES: dict[str, dict[str, Any]] = {
    "bidirectional": {},
    "request, then response": {"use_http_11": True},
    "always suspending": {"inactivity_timeout_ms": 0},
}


@pytest.fixture(params=MODES)
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    async with serving() as uri, started(uri, **MODES[request.param]) as running:
        yield running


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


# -- registration ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "protocol_type", "http_version"),
    [
        ({}, "BidiStream", "HTTP/2.0"),
        ({"use_http_11": True}, "RequestResponse", "HTTP/1.1"),
    ],
)
async def test_registration(options: dict[str, Any], protocol_type: str, http_version: str) -> None:
    """Register over HTTP/2 without TLS, and over HTTP/1.1."""
    async with serving() as uri, started(uri, **options) as running:
        listed = await running.ask("GET", f"{running.server.admin_url}/deployments")
        [deployment] = listed.json["deployments"]
        assert deployment["uri"] == f"{uri}/"
        assert deployment["protocol_type"] == protocol_type
        assert deployment["http_version"] == http_version
        assert deployment["sdk_version"].startswith("restate-sdk-python/")
        assert (deployment["min_protocol_version"], deployment["max_protocol_version"]) == (5, 7)
        services = (await running.ask("GET", f"{running.server.admin_url}/services")).json
        kinds = {each["name"]: (each["ty"], each["public"]) for each in services["services"]}
        assert kinds == {
            "Counter": ("VirtualObject", True),
            "Hidden": ("Service", False),
            "Lazy": ("VirtualObject", True),
            "Signup": ("Workflow", True),
            "Steps": ("Service", True),
        }


async def test_dry_run_again_force_and_down() -> None:
    """Dry run, the same address again without and with force, an endpoint that is down."""
    async with serving() as uri, started(uri) as running:
        admin = f"{running.server.admin_url}/deployments"
        [first] = (await running.ask("GET", admin)).json["deployments"]
        again = await running.register_again()
        assert (again.status, again.json["id"]) == (200, first["id"])
        dry = await running.register_again(dry_run=True, force=True)
        assert dry.status == 200
        assert dry.json["services"][0]["revision"] == 2
        forced = await running.register_again(force=True)
        assert (forced.status, forced.json["id"]) == (200, first["id"])
        assert forced.headers["location"] == f"/deployments/{first['id']}"
        assert forced.json["services"][0]["revision"] == 2
        down = await running.ask("POST", admin, {"uri": "http://127.0.0.1:1"})
        assert (down.status, down.json["restate_code"]) == (500, "META0003")


async def test_private_services_are_called_by_handlers_only(running: Running, name: str) -> None:
    """Private services: refused at the ingress, called from handler to handler."""
    refused = await running.ask("POST", f"{running.server.ingress_url}/Hidden/secret", name)
    assert refused.status == 400
    assert await running.call("Steps/tell", name) == f"secret {name}"


# -- handlers --------------------------------------------------------------------------------------


async def test_a_handler_answers(running: Running) -> None:
    assert await running.call("Steps/greet", "Ada") == "Hello Ada"
    [row] = await running.invocations("?service=Steps")
    assert await running.journal(row["id"]) == ["Command: Input", "Command: Output"]


async def test_bytes_come_back_unchanged(running: Running) -> None:
    data = bytes(range(256)) * 100
    assert (await running.post_bytes("Steps/bytes_back", data)).body == data


async def test_steps_run_once_and_in_order(running: Running) -> None:
    """Replay behind a Run: its closure is not executed again."""
    calls.clear()
    assert await running.call("Steps/count", 4) == [0, 1, 4, 9]
    assert [calls[f"count {n}"] for n in range(4)] == [1, 1, 1, 1]
    [row] = await running.invocations("?service=Steps")
    journal = await running.journal(row["id"])
    assert journal == [
        "Command: Input",
        *["Command: Run", "Notification: Run"] * 4,
        "Command: Output",
    ]


async def test_steps_and_calls_at_once(running: Running) -> None:
    assert await running.call("Steps/together", 5) == [0, 1, 2, 3, 4, 0, 1, 4, 9, 16]


async def test_sleeps(running: Running) -> None:
    """Timers: in the past, and many at once."""
    calls.clear()
    naps = [0, 1, 20, *[5] * 50]
    assert await running.call("Steps/nap", naps) == naps
    assert calls["nap"] == 1


async def test_a_failing_handler_is_retried(running: Running, name: str) -> None:
    """Error 500: retried near 500 ms, then doubling."""
    begun = asyncio.get_running_loop().time()
    assert await running.call("Steps/fail_twice", name) == 3
    assert asyncio.get_running_loop().time() - begun > 0.5


async def test_a_step_uses_up_its_own_attempts(running: Running, name: str) -> None:
    """Run attempts exhausted: a terminal failure, and no further attempt of the step."""
    said = await running.call("Steps/flaky_step", name)
    assert said.startswith("gave up: ")
    assert calls[name] == 3


async def test_a_terminal_failure_is_final(running: Running) -> None:
    """Failure code 418 is the status of the call, and 9999 becomes 500."""
    for code, status in ((418, 418), (404, 404)):
        answer = await running.ask("POST", f"{running.server.ingress_url}/Steps/reject", code)
        assert answer.status == status
        assert (answer.json["code"], answer.json["message"]) == (code, "not today")
        assert answer.headers["x-restate-error-source"] == "invocation"
    assert await running.call("Steps/call", 418) == "418 not today"


async def test_randomness_is_the_same_in_every_attempt(running: Running, name: str) -> None:
    """The same random seed in all attempts."""
    assert await running.call("Steps/random_numbers", name) == seen[name][0]
    assert len(seen[name]) >= 3
    assert all(numbers == seen[name][0] for numbers in seen[name])


# -- objects and workflows -------------------------------------------------------------------------


async def test_a_counter_counts(running: Running, name: str) -> None:
    """Counter add, one after the other and at once: strictly serial."""
    for number in range(1, 6):
        assert await running.call(f"Counter/{name}/add", 1) == number
    added = await asyncio.gather(*(running.call(f"Counter/{name}/add", 1) for _ in range(20)))
    assert sorted(added) == list(range(6, 26))
    assert await running.call(f"Counter/{name}/get") == 25
    assert await running.call(f"Counter/{name}/keys") == ["value"]


async def test_state_is_cleared(running: Running, name: str) -> None:
    """Clear all, then keys: empty, in the same and in the next invocation."""
    await running.call(f"Counter/{name}/add", 1)
    assert await running.call(f"Counter/{name}/empty") == ["other", "value"]
    assert await running.call(f"Counter/{name}/keys") == []


async def test_keys_are_any_text(running: Running) -> None:
    """A percent-encoded key with slash and UTF-8."""
    assert await running.call("Counter/a%2F%C3%BC%20%25/add", 2) == 2
    [row] = await running.invocations("?service=Counter")
    assert row["target"] == "Counter/a/ü %/add"


async def test_a_call_without_a_key_goes_to_the_empty_key(running: Running) -> None:
    """A keyed target without its key: one object, as behind Restate's server."""
    assert [await running.call("Steps/add_by_name", "") for _ in range(2)] == [1, 2]
    assert await running.call("Steps/add_by_name") == 3
    rows = await running.invocations("?service=Counter")
    assert {row["target"] for row in rows} == {"Counter//add"}


async def test_lazy_state(running: Running, name: str) -> None:
    """Lazy state: reads go to the server, an absent key is absent."""
    assert await running.call(f"Lazy/{name}/bump") == [None, 1]
    assert await running.call(f"Lazy/{name}/bump") == [None, 2]
    journal = await running.journal((await running.invocations("?service=Lazy"))[0]["id"])
    assert "Command: GetLazyState" in journal
    assert "Command: GetEagerState" not in journal


async def test_a_delayed_send(running: Running, name: str) -> None:
    """Send with delay: the sender gets the id at once, and the other runs later."""
    child_id = await running.call(f"Counter/{name}/add_later", 7)
    url = f"{running.server.ingress_url}/restate/invocation/{child_id}/attach"
    assert (await running.ask("GET", url)).json == 7


async def test_a_workflow_runs_once_and_waits_for_its_promise(running: Running, name: str) -> None:
    """Workflow: submit, a promise resolved from a shared handler, attach, a second call."""
    ingress = running.server.ingress_url
    sent = await running.ask("POST", f"{ingress}/Signup/{name}/run/send", "Ada")
    assert sent.status == 202
    while len(await running.journal(sent.json["invocationId"])) < 3:
        await asyncio.sleep(0.005)
    assert await running.call(f"Signup/{name}/click", "now") == "Ada"
    done = await running.ask("GET", f"{ingress}/restate/workflow/Signup/{name}/attach")
    assert done.json == "Ada now"
    again = await running.ask("POST", f"{ingress}/Signup/{name}/run", "Bob")
    assert again.status == 409


# -- awakeables, cancel, kill ----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["http", "handler", "reject"])
async def test_awakeables(running: Running, name: str, way: str) -> None:
    """Awakeables: resolved by HTTP, resolved by a handler, rejected."""
    ingress = running.server.ingress_url
    waiting = asyncio.create_task(running.ask("POST", f"{ingress}/Steps/wait_for_a_person", name))
    await until(lambda: name in seen)
    match way:
        case "handler":
            await running.ask("POST", f"{ingress}/Steps/answer", name)
        case "http":
            await running.ask("POST", f"{ingress}/restate/awakeables/{seen[name]}/resolve", "yes")
        case _:
            url = f"{ingress}/restate/awakeables/{seen[name]}/reject"
            await running._client.post(url, {"content-type": "text/plain"}, b"too late")
    answer = await waiting
    if way == "reject":
        assert (answer.status, answer.json["message"]) == (500, "too late")
    else:
        assert (answer.status, answer.json) == (200, "they said yes")


async def test_cancel_goes_down_the_tree_and_is_compensated(running: Running, name: str) -> None:
    """Cancel during a call: the child is cancelled, and the handler compensates with a Run."""
    ingress, admin = running.server.ingress_url, running.server.admin_url
    sent = (await running.ask("POST", f"{ingress}/Steps/compensate/send", name)).json
    while len(await running.journal(sent["invocationId"])) < 3:
        await asyncio.sleep(0.005)
    answer = await running.ask("PATCH", f"{admin}/invocations/{sent['invocationId']}/cancel")
    assert answer.status == 202
    url = f"{ingress}/restate/invocation/{sent['invocationId']}/attach"
    assert (await running.ask("GET", url)).json == "undone after 409"
    assert calls[f"undone {name}"] == 1
    await until(lambda: calls[f"child of {name} cancelled"])


async def test_cancel_is_heard_while_a_step_runs(running: Running, name: str) -> None:
    """Cancel in the middle of a long step, also when the request has long ended."""
    ingress, admin = running.server.ingress_url, running.server.admin_url
    sent = (await running.ask("POST", f"{ingress}/Steps/wander/send", name)).json
    await until(lambda: calls[f"{name} wanders"])
    answer = await running.ask("PATCH", f"{admin}/invocations/{sent['invocationId']}/cancel")
    assert answer.status == 202
    url = f"{ingress}/restate/invocation/{sent['invocationId']}/attach"
    assert (await running.ask("GET", url)).json == "stopped by 409"
    assert calls[f"{name} wanders"] == 1


async def test_kill_ends_a_tree(running: Running, name: str) -> None:
    """Kill: all completed with 409, no compensation."""
    ingress, admin = running.server.ingress_url, running.server.admin_url
    sent = (await running.ask("POST", f"{ingress}/Steps/compensate/send", name)).json
    while len(await running.invocations("?service=Steps")) < 2:
        await asyncio.sleep(0.005)
    await running.ask("PATCH", f"{admin}/invocations/{sent['invocationId']}/kill")
    url = f"{ingress}/restate/invocation/{sent['invocationId']}/attach"
    assert (await running.ask("GET", url)).status == 409
    while await running.invocations("?service=Steps&status=running,suspended,pending"):
        await asyncio.sleep(0.005)
    assert calls[f"undone {name}"] == 0


async def test_attempts_go_through_when_the_endpoint_closes_connections() -> None:
    """An endpoint that breaks its connections after a few requests loses no invocation."""
    async with serving(keep_alive_max_requests=10) as uri, started(uri) as running:
        said = await asyncio.gather(*(running.call("Steps/count", 2) for _ in range(12)))
        assert said == [[0, 1]] * 12


async def test_an_endpoint_is_killed_and_comes_back() -> None:
    """An endpoint dies while its invocation is open: retried until it is there again."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        killed = await stack.enter_async_context(process(port))
        running = await stack.enter_async_context(started(f"http://127.0.0.1:{port}"))
        ingress = running.server.ingress_url
        sent = (await running.ask("POST", f"{ingress}/Steps/nap/send", [300])).json
        while len(await running.journal(sent["invocationId"])) < 2:
            await asyncio.sleep(0.005)
        killed.kill()
        await killed.wait()
        await stack.enter_async_context(process(port))
        url = f"{ingress}/restate/invocation/{sent['invocationId']}/attach"
        assert (await running.ask("GET", url)).json == [300]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.asynccontextmanager
async def process(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Serve the app in a process of its own."""
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "hypercorn", "--bind", f"127.0.0.1:{port}"),
        # In this very process: a worker would outlive its killed parent, with the port.
        *("--workers", "0", "tests.compat.python_sdk_app:app"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
        yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
