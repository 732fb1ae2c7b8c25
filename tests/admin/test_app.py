from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.admin.endpoint import RESTATE_VERSION
from holdfast.domain.errors import StorageUnavailable
from holdfast.domain.ids import deployment_id_of, print_invocation_id
from holdfast.domain.message import SIGNAL_CANCEL, Signal, StepFailures, Void
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.on_state import state_version
from holdfast.engine.row import (
    AttemptFailure,
    InvocationRow,
    Origin,
    OriginKind,
    Sink,
    Status,
    Waiting,
)
from holdfast.storage.base import InvocationFilter
from tests.ingress.fake import INVOCATION_ID, NOW_MS, SERVICES, Client, FakeHandle, scope_of

NOW = "2026-01-31T12:00:00.000Z"
DEPLOYMENT_ID = deployment_id_of("worker-1")


def row_of(invocation_id: str = INVOCATION_ID, **options: Any) -> InvocationRow:
    fields: dict[str, Any] = {
        "id": invocation_id,
        "target": Target("Cart", "add", "k/1"),
        "service_kind": ServiceKind.VIRTUAL_OBJECT,
        "handler_kind": HandlerKind.EXCLUSIVE,
        "status": Status.RUNNING,
        "created_at_ms": NOW_MS,
        "modified_at_ms": NOW_MS + 1,
    }
    return InvocationRow(**(fields | options))


# -- server --------------------------------------------------------------------------------------


async def test_health(client: Client) -> None:
    seen = await client.get("/health")
    assert (seen.status, seen.json) == (200, {"status": "ok", "durability": "full"})
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["x-content-type-options"] == "nosniff"
    assert seen.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
async def test_version(client: Client, prefix: str) -> None:
    seen = await client.get(f"{prefix}/version")
    assert (seen.status, seen.json) == (
        200,
        {
            "version": RESTATE_VERSION,
            "holdfast_version": version("holdfast"),
            "min_admin_api_version": 2,
            "max_admin_api_version": 4,
            "ingress_endpoint": "http://127.0.0.1:8080",
            "features": {},
        },
    )


async def test_version_1_is_not_there(client: Client) -> None:
    seen = await client.get("/v1/version")
    assert (seen.status, seen.json["error_code"]) == (400, "HF1061")
    assert "Version 1 of the admin API is not supported" in seen.json["message"]


# -- catalog -------------------------------------------------------------------------------------


async def test_deployments(client: Client) -> None:
    seen = await client.get("/v4/deployments/")
    assert seen.status == 200
    assert seen.json == {
        "deployments": [
            {
                "id": DEPLOYMENT_ID,
                "name": "worker-1",
                "uri": "worker://holdfast/worker-1",
                "protocol_type": "BidiStream",
                "http_version": "HTTP/1.1",
                "created_at": NOW,
                "min_protocol_version": 5,
                "max_protocol_version": 6,
                "services": [{"name": service.name, "revision": 2} for service in SERVICES],
            }
        ]
    }


async def test_deployment(client: Client) -> None:
    seen = await client.get(f"/deployments/{DEPLOYMENT_ID}")
    services = (await client.get("/services")).json["services"]
    assert seen.json["services"] == services
    unknown = f"dp_1{0:022}"
    seen = await client.get(f"/deployments/{unknown}")
    assert (seen.status, seen.json["error_code"]) == (404, "HF1062")
    assert f"There is no deployment '{unknown}'." in seen.json["message"]
    seen = await client.get("/deployments/dp_1x")
    assert (seen.status, seen.json["error_code"]) == (400, "HF1003")


async def test_service(client: Client) -> None:
    seen = await client.get("/services/Cart")
    assert seen.status == 200
    service = seen.json
    handlers = service.pop("handlers")
    assert service == {
        "name": "Cart",
        "ty": "VirtualObject",
        "deployment_id": DEPLOYMENT_ID,
        "revision": 2,
        "public": True,
        "idempotency_retention": "1d",
        "journal_retention": "1d",
        "inactivity_timeout": "1m",
        "abort_timeout": "10m",
        "enable_lazy_state": False,
        "retry_policy": {
            "initial_interval": "500ms",
            "exponentiation_factor": 2.0,
            "max_attempts": 70,
            "max_interval": "1m",
            "on_max_attempts": "Pause",
        },
        "documentation": "A cart.",
    }
    assert handlers[:2] == [
        {
            "name": "add",
            "ty": "Exclusive",
            "public": True,
            "input_description": "JSON object",
            "output_description": "application/json",
            "input_json_schema": {"type": "object"},
            "retry_policy": {"max_attempts": None},
        },
        {
            "name": "total",
            "ty": "Shared",
            "public": True,
            "input_description": "none",
            "output_description": "application/json",
            "retry_policy": {"max_attempts": None},
        },
    ]


async def test_handlers(client: Client) -> None:
    handlers = (await client.get("/v2/services/Signup/handlers")).json["handlers"]
    assert [(h["name"], h["ty"]) for h in handlers] == [("run", "Workflow"), ("status", "Shared")]
    handlers = (await client.get("/services/Greeter/handlers")).json["handlers"]
    assert all("ty" not in handler for handler in handlers)
    assert {h["name"]: h["public"] for h in handlers}["hidden"] is False
    assert (await client.get("/services/Greeter/handlers/ping")).json["name"] == "ping"
    workflow = (await client.get("/services/Signup")).json
    assert workflow["workflow_completion_retention"] == "1d"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/services/Nobody", "HF1001"),
        ("/services/Nobody/handlers", "HF1001"),
        ("/services/Cart/handlers/nothing", "HF1002"),
    ],
)
async def test_unknown_names(client: Client, path: str, code: str) -> None:
    seen = await client.get(path)
    assert (seen.status, seen.json["error_code"]) == (404, code)
    assert set(seen.json) == {"message", "restate_code", "error_code", "hint"}


# -- cancel and kill -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (Status.PENDING, 200),
        (Status.SCHEDULED, 200),
        (Status.RUNNING, 202),
        (Status.SUSPENDED, 202),
        (Status.BACKING_OFF, 202),
        (Status.PAUSED, 202),
        (None, 202),
    ],
)
async def test_cancel(
    client: Client, handle: FakeHandle, before: Status | None, status: int
) -> None:
    handle.answer = Answer(Reply.ACCEPTED, before)
    seen = await client.request("PATCH", f"/v4/invocations/{INVOCATION_ID}/cancel")
    assert (seen.status, seen.body) == (status, b"")
    assert handle.signals == [(INVOCATION_ID, Signal(Void(), index=SIGNAL_CANCEL))]


async def test_kill(client: Client, handle: FakeHandle) -> None:
    handle.answer = Answer(Reply.ACCEPTED, Status.RUNNING)
    seen = await client.request("PATCH", f"/invocations/{INVOCATION_ID}/kill")
    assert (seen.status, handle.killed) == (200, [INVOCATION_ID])


@pytest.mark.parametrize("deed", ["cancel", "kill"])
@pytest.mark.parametrize(
    ("reply", "status", "code", "text"),
    [
        (Reply.NOT_FOUND, 404, "HF1004", f"There is no invocation {INVOCATION_ID}."),
        (Reply.ALREADY_COMPLETED, 409, "HF1409", "has completed; there is nothing to"),
        (Reply.OVERLOADED, 429, "HF1429", "a queue is full"),
    ],
)
async def test_too_late(
    client: Client, handle: FakeHandle, deed: str, reply: Reply, status: int, code: str, text: str
) -> None:
    handle.answer = Answer(reply)
    seen = await client.request("PATCH", f"/invocations/{INVOCATION_ID}/{deed}")
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert text in seen.json["message"]
    assert seen.json["restate_code"] is None


# -- invocations ---------------------------------------------------------------------------------


async def test_shows_an_invocation(client: Client, handle: FakeHandle) -> None:
    handle.rows[INVOCATION_ID] = row_of(
        status=Status.BACKING_OFF,
        origin=Origin(OriginKind.SERVICE, "inv_1parent", "Greeter/greet"),
        idempotency_key="abc",
        sinks=(Sink("inv_1parent", 3, 0x800D),),
        attempt=2,
        open_runs=(4, 5),
        retry_at_ms=NOW_MS + 2000,
        last_failure=AttemptFailure(500, "boom", NOW_MS, "trace", 1, "fetch", 0x0411),
        step_failures=(StepFailures(4, 2, NOW_MS),),
        waiting=Waiting((1,), (17,), ("go",)),
        execute_at_ms=2**62,
    )
    seen = await client.get(f"/holdfast/v1/invocations/{INVOCATION_ID}")
    assert seen.status == 200
    shown = seen.json
    assert set(shown) >= {
        name.removesuffix("_ms") if name.endswith(("_at_ms", "_since_ms")) else name
        for name in InvocationRow.__struct_fields__
    }
    expected = {
        "id": INVOCATION_ID,
        "target": "Cart/k/1/add",
        "service": "Cart",
        "key": "k/1",
        "handler": "add",
        "service_kind": "virtual_object",
        "handler_kind": "exclusive",
        "status": "backing-off",
        "created_at": NOW,
        "modified_at": "2026-01-31T12:00:00.001Z",
        "execute_at": "9999-12-31T23:59:59.999Z",
        "completed_at": None,
        "origin": {"kind": "service", "invocation_id": "inv_1parent", "target": "Greeter/greet"},
        "idempotency_key": "abc",
        "sinks": [
            {
                "invocation_id": "inv_1parent",
                "completion_id": 3,
                "kind": 0x800D,
                "created_at": None,
            }
        ],
        "attempt": 2,
        "open_runs": [4, 5],
        "retry_at": "2026-01-31T12:00:02.000Z",
        "last_failure": {
            "code": 500,
            "message": "boom",
            "at": NOW,
            "stacktrace": "trace",
            "related_command_index": 1,
            "related_command_name": "fetch",
            "related_command_type": 0x0411,
        },
        "step_failures": [{"completion_id": 4, "count": 2, "since": NOW}],
        "waiting": {
            "completions": [1],
            "signals": [17],
            "named_signals": ["go"],
            "tree": None,
        },
        "retention_ms": 0,
        "has_failed": False,
    }
    assert {name: shown[name] for name in expected} == expected


async def test_pages_through_invocations(client: Client, handle: FakeHandle) -> None:
    ids = [print_invocation_id(index.to_bytes(24, "big")) for index in range(5)]
    for index, invocation_id in enumerate(ids):
        handle.rows[invocation_id] = row_of(invocation_id, created_at_ms=NOW_MS + index // 2)
    url = "/holdfast/v1/invocations?limit=2"
    page = (await client.get(url)).json
    listed = [invocation["id"] for invocation in page["invocations"]]
    while page["next"] is not None:
        page = (await client.get(f"{url}&before={page['next']}")).json
        listed += [invocation["id"] for invocation in page["invocations"]]
    assert listed == sorted(ids, key=lambda i: (handle.rows[i].created_at_ms, i), reverse=True)


async def test_filters_invocations(client: Client, handle: FakeHandle) -> None:
    seen = await client.get(
        "/holdfast/v1/invocations?service=Cart&handler=add&key=a%2Fb"
        "&status=running,backing-off&status=paused&limit=7"
    )
    assert (seen.status, seen.json) == (200, {"invocations": [], "next": None})
    await client.get("/holdfast/v1/invocations?service=&status=")
    assert handle.queries == [
        (
            InvocationFilter(
                "Cart", "add", "a/b", (Status.RUNNING, Status.BACKING_OFF, Status.PAUSED)
            ),
            None,
            8,
        ),
        (InvocationFilter(), None, 101),
    ]


@pytest.mark.parametrize(
    ("path", "status", "code", "text"),
    [
        ("/holdfast/v1/invocations?servce=x", 400, "HF1060", "no query field 'servce'"),
        ("/holdfast/v1/invocations?status=done", 400, "HF1060", "'done' is not a status"),
        ("/holdfast/v1/invocations?limit=0", 400, "HF1060", "whole number from 1 to 1000"),
        ("/holdfast/v1/invocations?limit=1001", 400, "HF1060", "limit is '1001'"),
        ("/holdfast/v1/invocations?limit=ten", 400, "HF1060", "limit is 'ten'"),
        ("/holdfast/v1/invocations?before=x", 400, "HF1060", "'x' is not a value for before"),
        ("/holdfast/v1/invocations?before=1-x", 400, "HF1003", "'x' is not an invocation id"),
        ("/holdfast/v1/invocations/x", 400, "HF1003", "'x' is not an invocation id"),
        ("/holdfast/v1/invocations/x/journal", 400, "HF1003", "'x' is not an invocation id"),
        (f"/holdfast/v1/invocations/{INVOCATION_ID}", 404, "HF1004", "There is no invocation"),
        (f"/holdfast/v1/invocations/{INVOCATION_ID}/journal", 404, "HF1004", "no invocation"),
        ("/holdfast/v1/state/Nobody/k", 404, "HF1001", "There is no service 'Nobody'"),
        ("/holdfast/v1/state/Greeter/k", 400, "HF1011", "Greeter is a plain service"),
        ("/holdfast/v1/state/Cart/k?payload_size_max=-1", 400, "HF1060", "payload_size_max is"),
        ("/nothing", 404, "HF1005", "Path '/nothing' has no meaning here"),
        ("/", 404, "HF1005", "Path '/' has no meaning here"),
        ("/ui", 404, "HF1005", "has no meaning here"),
        ("/services/%ff", 400, "HF1006", "not percent-encoded UTF-8"),
        ("/services/%", 400, "HF1006", "not percent-encoded UTF-8"),
        (f"/invocations/{INVOCATION_ID}/cancel", 405, "HF1007", "Method GET is not allowed"),
    ],
)
async def test_refuses_with_a_reason(
    client: Client, path: str, status: int, code: str, text: str
) -> None:
    seen = await client.get(path)
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert text in seen.json["message"]


async def test_refuses_methods(client: Client) -> None:
    seen = await client.request("PATCH", "/services")
    assert (seen.status, seen.headers["allow"]) == (405, "GET, OPTIONS")
    seen = await client.get(f"/v3/invocations/{INVOCATION_ID}/kill")
    assert (seen.status, seen.headers["allow"]) == (405, "PATCH, OPTIONS")
    assert (await client.request("OPTIONS", "/services")).status == 200


# -- state ---------------------------------------------------------------------------------------


async def test_state(client: Client, handle: FakeHandle) -> None:
    handle.states["Cart", "a/b"] = {"count": b"3", "note": b"<b>", "raw": b"\xff\x00"}
    seen = await client.get("/holdfast/v1/state/Cart/a%2Fb")
    assert seen.json == {
        "service": "Cart",
        "key": "a/b",
        "version": state_version({"count": b"3", "note": b"<b>", "raw": b"\xff\x00"}),
        "entries": [
            {"name": "count", "encoding": "json", "value": 3, "size": 1, "expires_at": None},
            {"name": "note", "encoding": "text", "value": "<b>", "size": 3, "expires_at": None},
            {"name": "raw", "encoding": "base64", "value": "/wA=", "size": 2, "expires_at": None},
        ],
    }
    assert (await client.get("/holdfast/v1/state/Cart/none")).json["entries"] == []
    handle.states["Gone", "k"] = {"a": b"1"}
    assert (await client.get("/holdfast/v1/state/Gone/k")).status == 200


# -- errors, mounts ------------------------------------------------------------------------------


async def test_errors_of_the_server(
    client: Client, handle: FakeHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(invocation_id: str) -> Answer:
        raise StorageUnavailable("No leader.")

    monkeypatch.setattr(handle, "kill", fail)
    seen = await client.request("PATCH", f"/invocations/{INVOCATION_ID}/kill")
    assert (seen.status, seen.json["error_code"]) == (503, "HF4001")
    assert seen.headers["retry-after"] == "1"

    async def break_down(invocation_id: str) -> Answer:
        raise RuntimeError("secret")

    monkeypatch.setattr(handle, "kill", break_down)
    seen = await client.request("PATCH", f"/invocations/{INVOCATION_ID}/kill")
    assert (seen.status, seen.json["error_code"]) == (500, "HF0000")
    assert b"secret" not in seen.body


async def test_mounts(handle: FakeHandle) -> None:
    paths: list[str] = []

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 203, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    app = create_admin_app(handle, routes={"/holdfast/v1/worker": mounted, "/ui": mounted})
    client = Client(app)
    assert (await client.get("/ui/")).status == 203
    assert (await client.get("/ui/app.js")).status == 203
    for path in ("/", "/ui"):
        seen = await client.get(path)
        assert (seen.status, seen.headers["location"]) == (308, "/ui/")
    assert (await client.get("/ui/", ("host", "evil.example"))).status == 421
    assert (await client.get("/uix")).status == 404

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def connect(path: str, *headers: tuple[str, str]) -> str:
        sent.clear()
        await app(scope_of("GET", path, headers, kind="websocket"), receive, send)
        return f"{sent[0]['type']} {sent[0].get('status', '')}".strip()

    assert await connect("/holdfast/v1/worker") == "websocket.accept"
    foreign = await connect("/holdfast/v1/worker", ("origin", "http://evil.example"))
    assert foreign == "websocket.http.response.start 403"
    rebound = await connect("/holdfast/v1/worker", ("host", "evil.example"))
    assert rebound == "websocket.http.response.start 421"
    assert await connect("/elsewhere") == "websocket.http.response.start 404"
    assert paths == ["/ui/", "/ui/app.js", "/holdfast/v1/worker"]


async def test_answers_lifespan(handle: FakeHandle) -> None:
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return inbox.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await create_admin_app(handle)({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
