"""Both front doors, request by request, beside what Restate's server 1.7.12 answers.

The statuses were noted from that server, with the services below registered. Where ours differ, a
row says why; docs/reference/http.md has the list.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.ingress.app import create_ingress_app
from holdfast.protocol.restate.discovery import manifest_media_type
from holdfast.protocol.restate.manifest import decode_manifest
from holdfast.server.host import Host
from holdfast.storage.memory import MemoryStore
from tests.ingress.fake import Client, Seen
from tests.server.harness import hosting
from tests.server.test_registrar import A, FakeDialer

ID = "inv_1foAirY4KKzi4pxC3cpRBM5n5x5yNFJAdV"
AWAKEABLE = "sign_1VIrjy6VAVbOeK7M1IQ8bZ_Xq2scCaph4AAAAEQ"
LEGACY = "prom_1VIrjy6VAVbOeK7M1IQ8bZ_Xq2scCaph4AAAAEQ"
DEPLOYMENT = "<deployment>"
"""Stands for the id of the one that is registered."""
OTHER = "dp_12O8fjt8fBovY5QpoappLGg"
JSON = "application/json"
MANIFEST = {
    "protocolMode": "REQUEST_RESPONSE",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {
            "name": "Cart",
            "ty": "VIRTUAL_OBJECT",
            "handlers": [
                {"name": "add", "ty": "EXCLUSIVE"},
                {"name": "total", "ty": "SHARED", "input": {}},
            ],
        },
        {
            "name": "Svc",
            "ty": "SERVICE",
            "handlers": [
                {"name": "absent"},
                {"name": "none", "input": {}, "output": {}},
                {"name": "opt", "input": {"contentType": JSON}},
                {"name": "req", "input": {"contentType": JSON, "required": True}},
                {"name": "any", "input": {"contentType": "*/*", "required": True}},
                {"name": "anyopt", "input": {"contentType": "*/*"}},
                {"name": "sch", "input": {"contentType": JSON, "jsonSchema": True}},
                {
                    "name": "schreq",
                    "input": {
                        "contentType": JSON,
                        "required": True,
                        "jsonSchema": {"type": "string"},
                    },
                },
                {"name": "schnoct", "input": {"jsonSchema": {"type": "string"}}},
                {"name": "priv", "ingressPrivate": True},
            ],
        },
        {
            "name": "Wf",
            "ty": "WORKFLOW",
            "handlers": [{"name": "run", "ty": "WORKFLOW"}, {"name": "stat", "ty": "SHARED"}],
        },
    ],
}


class Row(NamedTuple):
    """A request, and what Restate's server answers."""

    method: str
    url: str
    status: int
    source: str | None = None
    """Of an error of the ingress; None: the request failed."""
    body: Any = None
    """Text is sent as it is, anything else as JSON."""
    headers: dict[str, str] = {}  # noqa: RUF012  # Nobody changes it.
    ours: int | None = None
    """Our status, where it differs."""
    why: str = ""


class Doors:
    """Both front doors of one host."""

    def __init__(self, host: Host) -> None:
        self.ingress = Client(create_ingress_app(host))
        self.admin = Client(create_admin_app(host))
        self.deployment_id = ""

    async def ask(self, door: Client, row: Row) -> Seen:
        headers = dict(row.headers)
        body = b""
        if isinstance(row.body, str):
            body = row.body.encode()
        elif row.body is not None:
            body = json.dumps(row.body).encode()
            headers["content-type"] = JSON
        url = row.url.replace(DEPLOYMENT, self.deployment_id)
        if row.method != "HEAD":
            return await door.request(row.method, url, body, headers=list(headers.items()))
        try:
            return await door.request(row.method, url, body, headers=list(headers.items()))
        except AssertionError:
            # The fake client compares the length with the body, which HEAD leaves out.
            return Seen(door.sent[0]["status"], {}, door.sent[1]["body"])


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    dialer = FakeDialer()
    found = decode_manifest(json.dumps(MANIFEST).encode(), manifest_media_type(4))
    dialer.served[A] = found.manifest
    async with hosting(MemoryStore(1), dialer=dialer) as host:
        doors = Doors(host)
        seen = await doors.ask(doors.admin, Row("POST", "/deployments", 201, body={"uri": A}))
        assert seen.status == 201
        doors.deployment_id = seen.json["id"]
        yield doors


INPUTS = [
    ("absent", None, None, 202),
    ("absent", "", JSON, 202),
    ("absent", '"x"', None, 400),
    ("absent", '"x"', JSON, 202),
    ("absent", '"x"', "text/plain", 202),
    ("absent", "not json", JSON, 202),
    ("none", None, None, 202),
    ("none", "", JSON, 400),
    ("none", '"x"', None, 400),
    ("none", '"x"', JSON, 400),
    ("none", '"x"', "text/plain", 400),
    ("none", "not json", JSON, 400),
    ("opt", None, None, 202),
    ("opt", "", JSON, 202),
    ("opt", '"x"', None, 400),
    ("opt", '"x"', JSON, 202),
    ("opt", '"x"', "text/plain", 400),
    ("opt", "not json", JSON, 202, 400),
    ("req", None, None, 400),
    ("req", "", JSON, 202),
    ("req", '"x"', None, 400),
    ("req", '"x"', JSON, 202),
    ("req", '"x"', "text/plain", 400),
    ("req", "not json", JSON, 202, 400),
    ("any", None, None, 400),
    ("any", "", JSON, 202),
    ("any", '"x"', None, 400),
    ("any", '"x"', JSON, 202),
    ("any", '"x"', "text/plain", 202),
    ("any", "not json", JSON, 202),
    ("anyopt", None, None, 202),
    ("anyopt", "", JSON, 202),
    ("anyopt", '"x"', None, 400),
    ("anyopt", '"x"', JSON, 202),
    ("anyopt", '"x"', "text/plain", 202),
    ("anyopt", "not json", JSON, 202),
    ("sch", None, None, 202),
    ("sch", "", JSON, 400, 202),
    ("sch", '"x"', None, 400),
    ("sch", '"x"', JSON, 202),
    ("sch", '"x"', "text/plain", 400),
    ("sch", "not json", JSON, 202, 400),
    ("schreq", None, None, 400),
    ("schreq", "", JSON, 400),
    ("schreq", '"x"', None, 400),
    ("schreq", '"x"', JSON, 202),
    ("schreq", '"x"', "text/plain", 400),
    ("schreq", "not json", JSON, 202, 400),
    ("schnoct", None, None, 202),
    ("schnoct", "", JSON, 400),
    ("schnoct", '"x"', None, 400),
    ("schnoct", '"x"', JSON, 400),
    ("schnoct", '"x"', "text/plain", 400),
    ("schnoct", "not json", JSON, 400),
]
"""Handler, body, content type, status, and ours where it differs: bodies of JSON handlers are
looked at, and an empty one is no input also where a content type was sent."""


@pytest.mark.parametrize("case", INPUTS, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
async def test_input_rules(doors: Doors, case: tuple[Any, ...]) -> None:
    name, body, content_type, status, *ours = case
    headers = {} if content_type is None else {"content-type": content_type}
    row = Row("POST", f"/Svc/{name}/send", status, body=body, headers=headers)
    seen = await doors.ask(doors.ingress, row)
    assert seen.status == (ours[0] if ours else status), seen.body


INGRESS = [
    Row("POST", "/Svc/priv", 400),
    Row("POST", "/Svc/priv/send", 400),
    Row("POST", "/Nope/x", 404),
    Row("POST", "/Svc/nope", 404),
    Row("GET", "/Svc", 400),
    Row("GET", "/", 400),
    Row(
        "GET", "/a/b/c/d/e", 404, ours=400, why="too many parts are no route, whatever the service"
    ),
    Row("PUT", "/Svc/none/send", 405),
    Row("HEAD", "/Svc/none", 405),
    Row("OPTIONS", "/Svc/none", 200),
    Row("DELETE", "/Svc/none", 405),
    Row("POST", "/Cart/total", 400),
    Row("POST", "/Svc/k/none", 400),
    Row("POST", "/Cart//total/send", 202, ours=400, why="an empty key is a forgotten one"),
    Row("POST", "/Cart/k/total/send/", 202),
    Row("POST", "/Svc/none/send?delay=abc", 400),
    Row(
        "POST",
        "/Svc/none/send?delay=10",
        400,
        ours=202,
        why="clients send milliseconds without a unit",
    ),
    Row("POST", "/Svc/none/send?delay=0", 202),
    Row("POST", "/Svc/none/send?delay=PT1S", 202),
    Row("POST", "/Svc/none/send?delay=1500ms", 202),
    Row("POST", "/Svc/none?delay=1s", 400),
    Row("POST", "/restate/call/Svc/priv", 400),
    Row("POST", "/restate/send/Svc/none", 202),
    Row("POST", "/restate/send/Cart/k/total", 202),
    Row("POST", "/restate/send/Cart/total", 400),
    Row("POST", "/restate/scope/s/call/Svc/none", 400),
    Row("PUT", "/restate/send/Svc/none", 405),
    Row("GET", "/restate/send/Svc/none", 202),
    Row("POST", "/restate/call/Svc", 400),
    Row("GET", "/restate", 400),
    Row("GET", "/restate/nope", 404),
    Row("GET", "/restate/health", 200),
    Row("POST", "/restate/health", 405),
    Row("GET", "/openapi", 400),
    Row("GET", "/Svc/openapi", 404),
    Row("GET", "/restate/openapi", 404),
    Row("GET", "/restate/services/Svc/openapi", 404),
    Row("GET", "/restate/invocation/bad/attach", 400),
    Row("GET", f"/restate/invocation/{ID}/attach", 404, source="invocation"),
    Row("GET", f"/restate/invocation/{ID}/output", 404),
    Row("GET", f"/restate/attach/{ID}", 404, source="invocation"),
    Row("GET", f"/restate/output/{ID}", 404),
    Row("GET", "/restate/output/bad", 400),
    Row("GET", "/restate/invocation/Svc/none/ik/output", 404),
    Row("GET", "/restate/invocation/Nope/none/ik/output", 404),
    Row("GET", "/restate/invocation/Svc/nope/ik/output", 404),
    Row("GET", "/restate/invocation/Cart/k/total/ik/output", 404),
    Row("GET", "/restate/invocation/Cart/total/ik/output", 400),
    Row(
        "GET",
        "/restate/invocation/Svc/k/none/ik/output",
        404,
        ours=400,
        why="what cannot be is refused with a reason",
    ),
    Row("GET", "/restate/workflow/Wf/k/output", 404),
    Row("GET", "/restate/workflow/Wf/k/attach", 404, source="invocation"),
    Row("GET", "/restate/workflow/Nope/k/output", 404),
    Row(
        "GET",
        "/restate/workflow/Cart/k/output",
        404,
        ours=400,
        why="what cannot be is refused with a reason",
    ),
    Row("POST", "/restate/workflow/Wf/k/output", 405),
    Row(
        "GET",
        "/restate/invocation/Wf/k/run/ik/output",
        404,
        ours=400,
        why="what cannot be is refused with a reason",
    ),
    Row("POST", "/restate/output", 500, ours=400, why="a malformed body is the client's fault"),
    Row(
        "POST",
        "/restate/output",
        500,
        body="{}",
        ours=400,
        why="a malformed body is the client's fault",
    ),
    Row(
        "POST",
        "/restate/output",
        500,
        body="nope",
        ours=400,
        why="a malformed body is the client's fault",
    ),
    Row("GET", "/restate/output", 405),
    Row("POST", "/restate/lookup", 200, body={"target": "invocation", "invocationId": ID}),
    Row("POST", "/restate/lookup", 400, body={"target": "invocation", "invocationId": "bad"}),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={"target": "workflow", "workflowName": "Wf", "workflowKey": "k"},
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={"target": "workflow", "workflowName": "Nope", "workflowKey": "k"},
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={"target": "workflow", "workflowName": "Cart", "workflowKey": "k"},
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={
            "target": "idempotentInvocation",
            "service": "Nope",
            "handler": "x",
            "idempotencyKey": "i",
        },
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={
            "target": "idempotentInvocation",
            "service": "Svc",
            "handler": "none",
            "idempotencyKey": "i",
        },
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={
            "target": "idempotentInvocation",
            "service": "Cart",
            "key": "k",
            "handler": "total",
            "idempotencyKey": "i",
        },
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={
            "target": "idempotentInvocation",
            "service": "Cart",
            "handler": "total",
            "idempotencyKey": "i",
        },
    ),
    Row(
        "POST",
        "/restate/lookup",
        200,
        body={"target": "workflow", "workflowName": "Wf", "workflowKey": "k", "scope": "s"},
        ours=400,
        why="there are no scopes",
    ),
    Row(
        "POST",
        "/restate/output",
        404,
        body={"target": "workflow", "workflowName": "Wf", "workflowKey": "k"},
    ),
    Row(
        "POST",
        "/restate/attach",
        404,
        source="invocation",
        body={"target": "workflow", "workflowName": "Wf", "workflowKey": "k"},
    ),
    Row(
        "POST",
        "/restate/attach",
        404,
        source="invocation",
        body={"target": "invocation", "invocationId": ID, "extra": 1},
    ),
    Row("POST", "/restate/awakeables/bad/resolve", 400, body="x"),
    Row("POST", f"/restate/awakeables/{AWAKEABLE}/resolve", 202, body="x"),
    Row("POST", f"/restate/a/{AWAKEABLE}/reject", 202, body="x"),
    Row("GET", f"/restate/a/{AWAKEABLE}/reject", 405),
    Row("POST", f"/restate/a/{AWAKEABLE}/nope", 404, body="x"),
    Row("POST", f"/restate/awakeables/{LEGACY}/resolve", 202, body="x"),
    Row("POST", "/Wf/k/run", 400, headers={"idempotency-key": "a"}),
    Row("POST", "/Wf/k/run/send", 202),
    Row("POST", "/Wf/k/run/send", 202),
    Row("POST", "/Wf/k/run", 409, source="invocation"),
    Row("GET", "/restate/workflow/Wf/k/output", 470),
    Row("POST", "/Svc/absent/send", 202, headers={"idempotency-key": "a"}),
    Row("POST", "/Svc/absent/send", 202, headers={"idempotency-key": "a"}),
    Row(
        "POST",
        "/Svc/absent/send",
        202,
        headers={"idempotency-key": ""},
        ours=400,
        why="an empty idempotency key is a forgotten one",
    ),
    Row("GET", "/restate/invocation/Svc/absent/a/output", 470),
    Row("POST", "/Svc/absent/send", 400, headers={"x-restate-limit-key": "a"}),
    Row("POST", "/Svc/absent/send?limit-key=q", 400),
    Row("POST", "/%zz/absent/send", 404, ours=400, why="a malformed path is no name"),
    Row("POST", "/Cart/%ff/total/send", 400),
]


async def test_ingress(doors: Doors) -> None:
    wrong = []
    for row in INGRESS:
        seen = await doors.ask(doors.ingress, row)
        expected = row.status if row.ours is None else row.ours
        source = (row.source or "ingress") if expected >= 400 else ""
        found = (seen.status, seen.headers.get("x-restate-error-source", ""))
        if found != (expected, source):
            wrong.append((row, found, seen.body))
        if expected >= 400 and row.method != "HEAD":
            assert seen.headers["content-type"] == JSON
            error = seen.json
            assert (error["code"], error["source"]) == (expected, source)
            assert error["message"]
    assert not wrong


ADMIN = [
    Row("GET", "/health", 200),
    Row("HEAD", "/health", 200),
    Row("GET", "/version", 200),
    Row("GET", "/cluster-health", 200),
    Row("GET", "/", 308, ours=404, why="the UI is not here yet"),
    Row("GET", "/nope", 404),
    Row("GET", "/v1/health", 400),
    Row("GET", "/v5/health", 404),
    Row("GET", "/v3/version", 200),
    Row("OPTIONS", "/services", 405, ours=200, why="it says what is allowed"),
    Row("HEAD", "/services", 200),
    Row("POST", "/services", 405),
    Row("GET", "/services/Nope", 404),
    Row("GET", "/services/Svc/handlers", 200),
    Row("GET", "/services/Svc/handlers/nope", 404),
    Row("GET", "/services/Svc/handlers/opt", 200),
    Row("GET", "/services/Nope/handlers", 404),
    Row("GET", "/services/Nope/openapi", 404),
    Row("GET", "/services/", 404, ours=200, why="one trailing slash is ignored"),
    Row("GET", "/deployments/bad", 400),
    Row("GET", f"/deployments/{OTHER}", 404),
    Row("DELETE", "/deployments/bad", 400),
    Row(
        "DELETE",
        f"/deployments/{DEPLOYMENT}",
        501,
        ours=409,
        why="what is not in use can go without force",
    ),
    Row(
        "DELETE",
        f"/deployments/{OTHER}",
        501,
        ours=404,
        why="what is not in use can go without force",
    ),
    Row("DELETE", f"/deployments/{OTHER}?force=true", 404),
    Row("POST", "/deployments", 415, ours=400, why="the content type of a body is not looked at"),
    Row(
        "POST",
        "/deployments",
        415,
        body="nope",
        ours=400,
        why="the content type of a body is not looked at",
    ),
    Row("POST", "/deployments", 400, body="nope"),
    Row("POST", "/deployments", 422, body={}, ours=400, why="all malformed bodies are 400"),
    Row("POST", "/deployments", 422, body={"uri": 5}, ours=400, why="all malformed bodies are 400"),
    Row("POST", "/deployments", 400, body={"uri": "nope"}),
    Row(
        "POST",
        "/deployments",
        500,
        body={"uri": "ftp://x"},
        ours=400,
        why="the address is refused before it is asked",
    ),
    Row("POST", "/deployments", 200, body={"uri": A}),
    Row("PATCH", f"/deployments/{DEPLOYMENT}", 200, body={}),
    Row("PATCH", f"/deployments/{OTHER}", 404, body={}),
    Row("PUT", f"/deployments/{DEPLOYMENT}", 405, body={}, ours=200, why="the older form is taken"),
    Row("PATCH", "/invocations/bad/cancel", 400),
    Row("PATCH", f"/invocations/{ID}/cancel", 404),
    Row("PATCH", f"/invocations/{ID}/kill", 404),
    Row("PATCH", f"/invocations/{ID}/pause", 404),
    Row("PATCH", f"/invocations/{ID}/resume", 404),
    Row(
        "PATCH",
        f"/invocations/{ID}/resume?deployment=nope",
        400,
        ours=404,
        why="the invocation is looked for first",
    ),
    Row("PATCH", f"/invocations/{ID}/purge", 404),
    Row("PATCH", f"/invocations/{ID}/purge-journal", 404),
    Row("PATCH", f"/invocations/{ID}/restart-as-new", 404),
    Row("PATCH", f"/invocations/{ID}/restart-as-new?from=x", 400),
    Row("PATCH", f"/invocations/{ID}/nope", 404),
    Row("GET", f"/invocations/{ID}", 405),
    Row("POST", f"/invocations/{ID}/cancel", 405),
    Row("DELETE", f"/invocations/{ID}", 202),
    Row("DELETE", f"/invocations/{ID}?mode=Kill", 202),
    Row("DELETE", f"/invocations/{ID}?mode=Nope", 400),
    Row("DELETE", "/invocations/bad?mode=Kill", 400),
    Row("DELETE", f"/invocations/{ID}?mode=kill", 202),
    Row("DELETE", f"/invocations/{ID}?mode=Purge", 202),
    Row("POST", "/services/Svc/state", 400, body={"object_key": "k", "new_state": {}}),
    Row(
        "POST",
        "/services/Nope/state",
        202,
        body={"object_key": "k", "new_state": {}},
        ours=404,
        why="it would wait for ever",
    ),
    Row("POST", "/services/Cart/state", 202, body={"object_key": "k", "new_state": {"a": [1]}}),
    Row("POST", "/services/Cart/state", 422, body={}, ours=400, why="all malformed bodies are 400"),
    Row("POST", "/services/Cart/state", 400, body="x"),
    Row(
        "POST",
        "/services/Cart/state",
        415,
        body="{}",
        ours=400,
        why="the content type of a body is not looked at",
    ),
    Row(
        "POST",
        "/internal/invocations_batch_operations/kill",
        422,
        body={"invocation_ids": [ID, "bad"]},
        ours=400,
        why="all malformed bodies are 400",
    ),
    Row("POST", "/internal/invocations_batch_operations/kill", 200, body={"invocation_ids": [ID]}),
    Row("POST", "/internal/invocations_batch_operations/nope", 404, body={"invocation_ids": [ID]}),
    Row(
        "POST",
        "/internal/invocations_batch_operations/kill",
        422,
        body={},
        ours=400,
        why="all malformed bodies are 400",
    ),
    Row("GET", "/subscriptions", 200, ours=404, why="there are no subscriptions here"),
    Row("GET", "/kafka-clusters", 200, ours=404, why="there are no subscriptions here"),
    Row("PATCH", "/services/Nope", 404, body={"public": False}),
    Row("PATCH", "/services/Svc", 200, body={}),
    Row("PATCH", "/services/Svc", 415, ours=400, why="the content type of a body is not looked at"),
    Row(
        "PATCH",
        "/services/Svc",
        422,
        body={"public": 5},
        ours=400,
        why="all malformed bodies are 400",
    ),
    Row(
        "PATCH",
        "/services/Svc",
        422,
        body={"inactivity_timeout": "nope"},
        ours=400,
        why="all malformed bodies are 400",
    ),
    Row(
        "PATCH",
        "/services/Svc",
        422,
        body={"inactivity_timeout": 10},
        ours=400,
        why="all malformed bodies are 400",
    ),
    Row("PATCH", "/services/Svc", 400, body={"workflow_completion_retention": "1h"}),
    Row("PATCH", "/services/Svc", 200, body={"nope": 1}),
]


async def test_admin(doors: Doors) -> None:
    wrong = []
    for row in ADMIN:
        seen = await doors.ask(doors.admin, row)
        expected = row.status if row.ours is None else row.ours
        if seen.status != expected:
            wrong.append((row, seen.status, seen.body))
        if expected >= 400:
            error = seen.json
            assert error["message"]
            assert "restate_code" in error
    assert not wrong


@pytest.mark.parametrize("table", [INGRESS, ADMIN])
def test_each_difference_has_a_reason(table: list[Row]) -> None:
    assert all((row.ours is None) == (not row.why) for row in table)


async def test_head_is_get_without_the_body(doors: Doors) -> None:
    seen = await doors.ask(doors.admin, Row("HEAD", "/services", 200))
    assert (seen.status, seen.body) == (200, b"")


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3", "/v4"])
async def test_all_prefixes_lead_to_the_same(doors: Doors, prefix: str) -> None:
    for path in ("/services", "/deployments", "/cluster-health", "/services/Svc/openapi"):
        plain = await doors.admin.request("GET", path)
        assert await doors.admin.request("GET", prefix + path) == plain
    cluster = (await doors.admin.request("GET", f"{prefix}/cluster-health")).json
    assert cluster["metadata_cluster_health"] == {"members": [1]}
    version = (await doors.admin.request("GET", f"{prefix}/version")).json
    assert (version["min_admin_api_version"], version["max_admin_api_version"]) == (2, 4)
