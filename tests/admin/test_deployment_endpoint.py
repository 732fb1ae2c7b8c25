from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.domain.deployment import HttpVersion
from holdfast.domain.target import ServiceKind
from holdfast.server.host import Host
from holdfast.storage.memory import MemoryStore
from tests.ingress.fake import Client, Seen
from tests.server.fake_dialer import A, B, FakeDialer, manifest_of
from tests.server.harness import ScriptedPort, hosting


class Admin:
    """The admin API of a host that reaches endpoints without a network."""

    def __init__(self, host: Host, dialer: FakeDialer) -> None:
        self.host = host
        self.dialer = dialer
        self._client = Client(create_admin_app(host))

    async def ask(self, method: str, path: str, value: Any = None) -> Seen:
        body = b"" if value is None else json.dumps(value).encode()
        return await self._client.request(method, path, body)

    async def register(self, uri: str = A, **options: Any) -> Seen:
        return await self.ask("POST", "/deployments", {"uri": uri, **options})


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    dialer = FakeDialer()
    async with hosting(MemoryStore(1), dialer=dialer) as host:
        yield Admin(host, dialer)


async def test_a_registration_as_the_command_line_of_restate_sends_it(admin: Admin) -> None:
    body = {
        "uri": A,
        "additional_headers": None,
        "use_http_11": False,
        "breaking": False,
        "force": False,
        "dry_run": True,
        "unheard_of": 1,
    }
    dry = await admin.ask("POST", "/v4/deployments", body)
    assert dry.status == 201
    assert (await admin.ask("GET", "/deployments")).json == {"deployments": []}
    seen = await admin.ask("POST", "/v4/deployments", body | {"dry_run": False})
    assert seen.status == 201
    deployment_id = seen.json["id"]
    assert seen.headers["location"] == f"/deployments/{deployment_id}"
    assert seen.json["min_protocol_version"] == 5
    assert seen.json["max_protocol_version"] == 6
    assert [(s["name"], s["revision"]) for s in seen.json["services"]] == [("S", 1)]
    assert seen.json["services"][0]["deployment_id"] == deployment_id
    again = await admin.ask("POST", "/deployments", body | {"dry_run": False})
    assert (again.status, again.json) == (200, seen.json)


async def test_a_registered_endpoint_is_shown(admin: Admin) -> None:
    headers = {"X-Tenant": "t", "Authorization": "Bearer secret"}
    await admin.register(additional_headers=headers, metadata={"team": "shop"}, use_http_11=True)
    [shown] = (await admin.ask("GET", "/deployments")).json["deployments"]
    assert shown["uri"] == A
    assert shown["protocol_type"] == "RequestResponse"
    assert shown["http_version"] == "HTTP/1.1"
    assert shown["additional_headers"] == {"x-tenant": "t", "authorization": "(hidden)"}
    assert shown["metadata"] == {"team": "shop"}
    assert shown["services"] == [{"name": "S", "revision": 1}]
    assert admin.dialer.asked[0][2] is HttpVersion.HTTP_1_1
    full = (await admin.ask("GET", f"/deployments/{shown['id']}?open=true")).json
    assert full["services"][0]["handlers"][0]["name"] == "run"
    assert (full["status"], full["open_invocations"]) == ("active", 0)
    await admin.register(B)
    full = (await admin.ask("GET", f"/deployments/{shown['id']}?open=true")).json
    assert full["status"] == "drained"


async def test_force_raises_the_revision(admin: Admin) -> None:
    first = await admin.register()
    forced = await admin.register(force=True)
    assert (forced.status, forced.json["id"]) == (200, first.json["id"])
    assert forced.json["services"][0]["revision"] == 2
    service = (await admin.ask("GET", "/services/S")).json
    assert (service["revision"], service["deployment_id"]) == (2, first.json["id"])


async def test_a_service_that_changes_its_kind(admin: Admin) -> None:
    """Type change of a service: 409 META0006; with breaking it is accepted."""
    await admin.register()
    admin.dialer.served[B] = manifest_of("S", kind=ServiceKind.VIRTUAL_OBJECT)
    refused = await admin.register(B)
    assert (refused.status, refused.json["restate_code"]) == (409, "META0006")
    assert (await admin.register(B, breaking=True)).status == 201


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "HF1280"),
        (b"[]", "HF1280"),
        (b'{"uri": 1}', "HF1280"),
        (b'{"uri": "http://a:1", "additional_headers": {"a": 1}}', "HF1280"),
        (b"{}", "HF1280"),
        (b'{"uri": "\xff"}', "HF1280"),
        (b'{"x": ' + b"[" * 100_000 + b"}", "HF1280"),
        (b'{"arn": "arn:aws:lambda:x"}', "HF1280"),
        (b'{"uri": "a:1"}', "HF1281"),
        (b'{"uri": "http://a:1", "additional_headers": {"host": "x"}}', "HF1282"),
    ],
)
async def test_bodies_that_register_nothing(admin: Admin, body: bytes, code: str) -> None:
    seen = await admin._client.request("POST", "/deployments", body)
    assert (seen.status, seen.json["error_code"]) == (400, code)


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
async def test_an_update(admin: Admin, method: str) -> None:
    deployment_id = (await admin.register()).json["id"]
    path = f"/deployments/{deployment_id}"
    unchanged = await admin.ask(method, path, {})
    assert (unchanged.status, unchanged.json["uri"]) == (200, A)
    changed = await admin.ask(method, path, {"uri": B, "use_http_11": True})
    assert (changed.status, changed.json["uri"]) == (200, B)
    assert changed.json["http_version"] == "HTTP/1.1"
    admin.dialer.protocol_version_max = 5
    refused = await admin.ask(method, path, {"uri": A})
    assert (refused.status, refused.json["restate_code"]) == (409, "META0016")
    unknown = await admin.ask(method, f"/deployments/dp_1{0:022}", {})
    assert (unknown.status, unknown.json["error_code"]) == (404, "HF1062")


async def test_removal(admin: Admin) -> None:
    deployment_id = (await admin.register()).json["id"]
    path = f"/deployments/{deployment_id}"
    kept = await admin.ask("DELETE", path)
    assert (kept.status, kept.json["error_code"]) == (409, "HF1284")
    assert (await admin.ask("DELETE", f"{path}?force=true")).status == 202
    assert (await admin.ask("DELETE", f"{path}?force=true")).status == 404
    assert (await admin.ask("GET", "/services")).json == {"services": []}


async def test_a_worker_is_shown_and_not_updated(admin: Admin) -> None:
    await admin.host.attach_worker(ScriptedPort())
    [shown] = (await admin.ask("GET", "/deployments")).json["deployments"]
    assert shown["uri"] == "worker://holdfast/scripted"
    refused = await admin.ask("PATCH", f"/deployments/{shown['id']}", {"uri": A})
    assert (refused.status, refused.json["error_code"]) == (409, "HF1289")
