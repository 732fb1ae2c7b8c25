"""Both front doors, request by request, beside what Restate's server 1.7.12 answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.ingress.app import create_ingress_app
from holdfast.protocol.restate.discovery import manifest_media_type
from holdfast.protocol.restate.manifest import decode_manifest
from holdfast.server.host import Host
from holdfast.storage.memory import MemoryStore
from tests.compat.real_server import VERSION
from tests.compat.route_table import ADMIN, DEPLOYMENT, INGRESS, INPUTS, JSON, Row
from tests.ingress.fake import Client, Seen
from tests.server.harness import hosting
from tests.server.test_registrar import A, FakeDialer

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


@pytest.mark.parametrize("case", INPUTS, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
async def test_input_rules(doors: Doors, case: tuple[Any, ...]) -> None:
    name, body, content_type, status, *ours = case
    headers = {} if content_type is None else {"content-type": content_type}
    row = Row("POST", f"/Svc/{name}/send", status, body=body, headers=headers)
    seen = await doors.ask(doors.ingress, row)
    assert seen.status == (ours[0] if ours else status), seen.body


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
    assert version["version"] == VERSION
