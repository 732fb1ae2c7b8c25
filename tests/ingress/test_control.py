"""The routes under `/restate`."""

from __future__ import annotations

import json

import pytest

from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.message import Failure, Signal, Value
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import InvocationRow, Status
from holdfast.server.handle import Finished
from tests.ingress.fake import AWAKEABLE_ID, INVOCATION_ID, NOW_MS, Client, FakeHandle

BY_KEY = idempotent_id(Target("Cart", "add", "a/b"), "abc")
BY_KEY_PLAIN = idempotent_id(Target("Greeter", "upload"), "abc")
BY_WORKFLOW = workflow_id("Signup", "ann")


def finish(handle: FakeHandle, invocation_id: str) -> None:
    handle.outcomes[invocation_id] = Finished(invocation_id, Value(b"done"), NOW_MS)


async def test_health(client: Client) -> None:
    seen = await client.get("/restate/health")
    assert seen.status == 200
    assert seen.json == {"services": ["Cart", "Counter", "Greeter", "Signup"]}
    assert seen.headers["content-type"] == "application/json"


# -- attach and output ---------------------------------------------------------------------------


def pointers() -> list[tuple[str, str, object, str, str]]:
    return [
        (
            f"/restate/invocation/{INVOCATION_ID}/{{verb}}",
            INVOCATION_ID,
            {"target": "invocation", "invocationId": INVOCATION_ID},
            "application/json",
            "by id",
        ),
        (
            "/restate/invocation/Cart/a%2Fb/add/abc/{verb}",
            BY_KEY,
            {
                "target": "idempotentInvocation",
                "service": "Cart",
                "key": "a/b",
                "handler": "add",
                "idempotencyKey": "abc",
                "ignored": 1,
            },
            "application/json",
            "by key of an object",
        ),
        (
            "/restate/invocation/Greeter/upload/abc/{verb}",
            BY_KEY_PLAIN,
            {
                "target": "idempotentInvocation",
                "service": "Greeter",
                "handler": "upload",
                "idempotencyKey": "abc",
                "scope": None,
            },
            "text/plain",
            "by key of a service",
        ),
        (
            "/restate/workflow/Signup/ann/{verb}",
            BY_WORKFLOW,
            {"target": "workflow", "workflowName": "Signup", "workflowKey": "ann"},
            "text/plain",
            "by workflow",
        ),
    ]


@pytest.mark.parametrize("verb", ["attach", "output"])
@pytest.mark.parametrize("pointer", pointers(), ids=lambda p: p[4])
async def test_finds_outcomes(
    client: Client, handle: FakeHandle, verb: str, pointer: tuple[str, str, object, str, str]
) -> None:
    path, invocation_id, body, content_type, _ = pointer
    finish(handle, invocation_id)
    for seen in (
        await client.get(path.format(verb=verb)),
        await client.post_json(f"/restate/{verb}", json.dumps(body).encode()),
    ):
        assert (seen.status, seen.body) == (200, b"done")
        assert seen.headers["x-restate-id"] == invocation_id
        assert seen.headers["content-type"] == content_type
        assert seen.headers["idempotency-expires"] == "2026-01-31T12:00:00.000Z"


@pytest.mark.parametrize("verb", ["attach", "output"])
async def test_newer_path_by_id(client: Client, handle: FakeHandle, verb: str) -> None:
    finish(handle, INVOCATION_ID)
    assert (await client.get(f"/restate/{verb}/{INVOCATION_ID}")).body == b"done"


@pytest.mark.parametrize("pointer", pointers(), ids=lambda p: p[4])
async def test_lookup_computes(client: Client, pointer: tuple[str, str, object, str, str]) -> None:
    seen = await client.post_json("/restate/lookup", json.dumps(pointer[2]).encode())
    assert (seen.status, seen.json) == (200, {"invocationId": pointer[1]})


@pytest.mark.parametrize(
    ("target", "content_type"),
    [
        (Target("Greeter", "upload"), "text/plain"),
        (Target("Greeter", "gone"), "application/json"),
    ],
)
async def test_the_handler_gives_the_type(
    client: Client, handle: FakeHandle, target: Target, content_type: str
) -> None:
    finish(handle, INVOCATION_ID)
    handle.rows[INVOCATION_ID] = InvocationRow(
        id=INVOCATION_ID,
        target=target,
        service_kind=ServiceKind.SERVICE,
        handler_kind=HandlerKind.PLAIN,
        status=Status.COMPLETED,
        created_at_ms=NOW_MS,
        modified_at_ms=NOW_MS,
    )
    seen = await client.get(f"/restate/attach/{INVOCATION_ID}")
    assert seen.headers["content-type"] == content_type


async def test_failures_are_those_of_the_call(client: Client, handle: FakeHandle) -> None:
    handle.outcomes[INVOCATION_ID] = Finished(INVOCATION_ID, Failure(409, "killed"), 0)
    seen = await client.get(f"/restate/output/{INVOCATION_ID}")
    assert seen.status == 409
    assert seen.json == {"code": 409, "message": "killed", "source": "invocation"}


async def test_output_does_not_wait(client: Client, handle: FakeHandle) -> None:
    handle.outcomes[INVOCATION_ID] = None
    seen = await client.get(f"/restate/invocation/{INVOCATION_ID}/output")
    assert (seen.status, seen.json["code"], seen.json["error_code"]) == (470, 470, "HF1050")
    assert seen.json["source"] == "ingress"
    assert f"{INVOCATION_ID} has not completed yet" in seen.json["message"]


async def test_unknown_ids(client: Client) -> None:
    attach = await client.get(f"/restate/invocation/{INVOCATION_ID}/attach")
    assert (attach.status, attach.json["error_code"]) == (404, "HF1004")
    # Clients retry errors of the ingress; this one is final.
    assert attach.json["source"] == attach.headers["x-restate-error-source"] == "invocation"
    output = await client.get(f"/restate/invocation/{INVOCATION_ID}/output")
    assert (output.status, output.json["error_code"]) == (404, "HF1004")
    assert output.json["source"] == output.headers["x-restate-error-source"] == "ingress"


# -- awakeables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/restate/awakeables", "/restate/a"])
async def test_completes_awakeables(client: Client, handle: FakeHandle, prefix: str) -> None:
    workflow_run = "inv_1foAirY4KKzi3FyJqpVxiDUsWuxX3p32tU"
    seen = await client.post(f"{prefix}/{AWAKEABLE_ID}/resolve", b"\x00raw")
    assert (seen.status, seen.body) == (202, b"")
    legacy = AWAKEABLE_ID.replace("sign_", "prom_")
    seen = await client.post(f"{prefix}/{legacy}/reject", "nö".encode())
    assert (seen.status, seen.body) == (202, b"")
    assert handle.signals == [
        (workflow_run, Signal(Value(b"\x00raw"), index=17)),
        (workflow_run, Signal(Failure(500, "nö"), index=17)),
    ]


@pytest.mark.parametrize("reply", [Reply.NOT_FOUND, Reply.ALREADY_COMPLETED, Reply.IGNORED])
async def test_late_completions_are_harmless(
    client: Client, handle: FakeHandle, reply: Reply
) -> None:
    handle.answer = Answer(reply)
    assert (await client.post(f"/restate/a/{AWAKEABLE_ID}/resolve")).status == 202


async def test_a_completion_that_was_not_stored_is_not_accepted(
    client: Client, handle: FakeHandle
) -> None:
    handle.answer = Answer(Reply.OVERLOADED)
    seen = await client.post(f"/restate/a/{AWAKEABLE_ID}/resolve")
    assert (seen.status, seen.json["error_code"]) == (429, "HF1429")
    assert seen.headers["retry-after"] == "1"


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "allowed", "path"),
    [
        ("GET", "POST, OPTIONS", f"/restate/awakeables/{AWAKEABLE_ID}/resolve"),
        ("GET", "POST, OPTIONS", "/restate/attach"),
        ("POST", "GET, OPTIONS", f"/restate/attach/{INVOCATION_ID}"),
        ("POST", "GET, OPTIONS", f"/restate/invocation/{INVOCATION_ID}/output"),
        ("POST", "GET, OPTIONS", "/restate/workflow/Signup/k/attach"),
        ("POST", "GET, OPTIONS", "/restate/health"),
        ("PUT", "GET, POST, OPTIONS", "/restate/call/Greeter/greet"),
    ],
)
async def test_refuses_methods(client: Client, method: str, allowed: str, path: str) -> None:
    seen = await client.request(method, path)
    assert (seen.status, seen.json["error_code"]) == (405, "HF1007")
    assert seen.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "status", "code", "text"),
    [
        ("/restate/invocation/inv_1x/attach", 400, "HF1003", "'inv_1x' is not an invocation id"),
        ("/restate/output/inv_1" + "!" * 33, 400, "HF1003", "is not an invocation id"),
        ("/restate/attach/" + "x" * 500, 400, "HF1003", "(500 characters) is not an invocation"),
        ("/restate/invocation/Nobody/x/k/attach", 404, "HF1001", "no service 'Nobody'"),
        ("/restate/invocation/Greeter/x/k/attach", 404, "HF1002", "no handler 'x'"),
        ("/restate/invocation/Cart/add/k/attach", 400, "HF1010", "Cart is keyed"),
        ("/restate/invocation/Greeter/k/greet/i/output", 400, "HF1011", "has no keys"),
        ("/restate/invocation/Greeter/greet/%C3%A9/output", 400, "HF1040", "ASCII"),
        ("/restate/invocation/Greeter/greet//output", 400, "HF1040", "is empty"),
        ("/restate/invocation/Signup/k/run/i/output", 400, "HF1041", "runs once"),
        ("/restate/invocation/a/b/attach", 400, "HF1005", "has no meaning"),
        ("/restate/workflow/Nobody/k/attach", 404, "HF1001", "no service 'Nobody'"),
        ("/restate/workflow/Cart/k/attach", 400, "HF1042", "'Cart' is not a workflow"),
        ("/restate/workflow/Signup//attach", 400, "HF1012", "is empty"),
        ("/restate", 400, "HF1005", "'/restate' has no meaning"),
        ("/restate/", 400, "HF1005", "has no meaning"),
        ("/restate/nothing", 404, "HF1005", "'/restate/nothing' has no meaning"),
        ("/restate/call/Greeter", 400, "HF1005", "has no meaning"),
        ("/restate/call/a/b/c/d", 400, "HF1005", "has no meaning"),
    ],
)
async def test_refuses_paths(client: Client, path: str, status: int, code: str, text: str) -> None:
    seen = await client.get(path)
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert text in seen.json["message"]


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("/restate/a/nothing/resolve", b"", "HF1003", "'nothing' is not an awakeable id"),
        ("/restate/a/sign_1" + "*" * 38 + "/reject", b"", "HF1003", "is not an awakeable id"),
        ("/restate/attach", b"", "HF1022", "it ends too early"),
        ("/restate/attach", b"{]", "HF1022", "at line 1, column 2"),
        ("/restate/attach", b"[" * 100_000, "HF1024", "128 levels"),
        ("/restate/attach", b"[]", "HF1051", "Expected `object`, got `array`"),
        ("/restate/attach", b"{}", "HF1051", "missing required field `target`"),
        ("/restate/lookup", b'{"target":"x"}', "HF1051", "Invalid value 'x' - at `$.target`"),
        ("/restate/lookup", b'{"target":"invocation"}', "HF1051", "`invocationId`"),
        (
            "/restate/lookup",
            b'{"target":"invocation","invocationId":1}',
            "HF1051",
            "Expected `str`",
        ),
        ("/restate/lookup", b'{"target":"invocation","invocationId":"x"}', "HF1003", "'x' is not"),
        (
            "/restate/output",
            b'{"target":"workflow","workflowName":"a","workflowKey":"b","scope":"s"}',
            "HF1016",
            "Scopes are not supported",
        ),
    ],
)
async def test_refuses_bodies(client: Client, path: str, body: bytes, code: str, text: str) -> None:
    seen = await client.post_json(path, body)
    assert (seen.status, seen.json["error_code"]) == (400, code)
    assert text in seen.json["message"]
