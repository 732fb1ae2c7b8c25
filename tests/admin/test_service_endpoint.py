"""Services: their settings, and what is said about them."""

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
from tests.ingress.fake import Client, Seen
from tests.server.harness import hosting
from tests.server.test_registrar import A, FakeDialer

ITEM = {
    "type": "object",
    "title": "Item",
    "properties": {
        "n": {"$ref": "#/$defs/N"},
        "default": {"$ref": "#/$defs/N"},
        "kind": {
            "oneOf": [{"$ref": "#/$defs/N"}],
            "discriminator": {"propertyName": "k", "mapping": {"n": "#/$defs/N"}},
            "default": {"$ref": "#/$defs/N"},
        },
    },
    "$defs": {"N": {"type": "integer"}},
}
MANIFEST = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 6,
    "services": [
        {
            "name": "Cart",
            "ty": "VIRTUAL_OBJECT",
            "documentation": "A cart",
            "metadata": {"team": "shop"},
            "inactivityTimeout": 30_000,
            "handlers": [
                {
                    "name": "add",
                    "ty": "EXCLUSIVE",
                    "documentation": "Adds.",
                    "abortTimeout": 5_000,
                    "input": {
                        "required": True,
                        "contentType": "application/json",
                        "jsonSchema": ITEM,
                    },
                    "output": {"contentType": "application/json", "jsonSchema": True},
                },
                {
                    "name": "total",
                    "ty": "SHARED",
                    "input": {},
                    "output": {"contentType": "text/plain", "setContentTypeIfEmpty": True},
                },
            ],
        },
        {
            "name": "Svc",
            "ty": "SERVICE",
            "handlers": [
                {"name": "any"},
                {"name": "nothing", "input": {}, "output": {}},
                {"name": "hidden", "ingressPrivate": True},
            ],
        },
        {
            "name": "Wf",
            "ty": "WORKFLOW",
            "handlers": [
                {"name": "run", "ty": "WORKFLOW", "workflowCompletionRetention": 3_600_000},
                {"name": "look", "ty": "SHARED"},
            ],
        },
    ],
}


class Doors:
    """Both front doors of a host that has one endpoint registered."""

    def __init__(self, host: Host, dialer: FakeDialer) -> None:
        self.host = host
        self.dialer = dialer
        self.admin = Client(create_admin_app(host, ingress_url="http://127.0.0.1:8080"))
        self.ingress = Client(create_ingress_app(host))

    def serve(self, manifest: dict[str, Any]) -> None:
        found = decode_manifest(json.dumps(manifest).encode(), manifest_media_type(4))
        self.dialer.served[A] = found.manifest

    async def register(self, **options: Any) -> Seen:
        body = json.dumps({"uri": A, **options}).encode()
        return await self.admin.request("POST", "/deployments", body)

    async def get(self, path: str) -> Any:
        seen = await self.admin.request("GET", path)
        assert seen.status == 200, seen
        return seen.json

    async def patch(self, service: str, **change: Any) -> Seen:
        return await self.admin.request(
            "PATCH", f"/services/{service}", json.dumps(change).encode()
        )


@pytest.fixture
async def doors() -> AsyncIterator[Doors]:
    dialer = FakeDialer()
    async with hosting(MemoryStore(1), dialer=dialer) as host:
        doors = Doors(host, dialer)
        doors.serve(MANIFEST)
        assert (await doors.register()).status == 201
        yield doors


async def test_a_change_as_the_command_line_of_restate_sends_it(doors: Doors) -> None:
    unchanged = dict.fromkeys(
        ("workflow_completion_retention", "journal_retention", "inactivity_timeout"), None
    )
    seen = await doors.patch(
        "Cart", public=False, idempotency_retention="2d", abort_timeout="PT3M", **unchanged
    )
    assert seen.status == 200
    service = seen.json
    assert service == await doors.get("/services/Cart")
    assert service["revision"] == 1
    assert service["public"] is False
    assert [handler["public"] for handler in service["handlers"]] == [False, False]
    assert (service["idempotency_retention"], service["abort_timeout"]) == ("2d", "3m")
    assert (service["inactivity_timeout"], service["journal_retention"]) == ("30s", "1d")
    # What a handler says itself stays.
    assert service["handlers"][0]["abort_timeout"] == "5s"
    assert "abort_timeout" not in service["handlers"][1]
    [deployment] = (await doors.get("/deployments"))["deployments"]
    assert (await doors.get(f"/deployments/{deployment['id']}"))["services"][0] == service
    refused = await doors.ingress.request("GET", "/Cart/k/total/send")
    assert (refused.status, refused.json["error_code"]) == (400, "HF1015")
    assert (await doors.patch("Cart", public=True)).json["public"] is True
    accepted = await doors.ingress.request("GET", "/Cart/k/total/send")
    assert accepted.status == 202


async def test_a_private_handler_stays_private(doors: Doors) -> None:
    await doors.patch("Svc", public=False)
    handlers = (await doors.patch("Svc", public=True)).json["handlers"]
    assert {each["name"]: each["public"] for each in handlers} == {
        "any": True,
        "nothing": True,
        "hidden": False,
    }


async def test_retention_holds_for_what_begins_from_now_on(doors: Doors) -> None:
    await doors.patch("Cart", journal_retention="0s")
    assert doors.host.resolve("Cart", "total").manifest.journal_retention_ms == 0
    assert (await doors.patch("Cart", journal_retention="1w 1h")).json["journal_retention"] == (
        "7d 1h"
    )


async def test_a_new_revision_begins_with_what_the_code_says(doors: Doors) -> None:
    await doors.patch("Cart", public=False, abort_timeout="3m")
    assert (await doors.register()).status == 200
    assert (await doors.get("/services/Cart"))["public"] is False
    assert (await doors.register(force=True)).status == 200
    service = await doors.get("/services/Cart")
    assert (service["revision"], service["public"], service["abort_timeout"]) == (2, True, "10m")


async def test_workflow_retention(doors: Doors) -> None:
    # The main handler says it itself.
    seen = await doors.patch("Wf", workflow_completion_retention="5d")
    assert seen.json["workflow_completion_retention"] == "1h"
    refused = await doors.patch("Svc", workflow_completion_retention="5d")
    assert (refused.status, refused.json["error_code"]) == (400, "HF1290")


@pytest.mark.parametrize(
    "change",
    [
        {"public": 5},
        {"inactivity_timeout": 10},
        {"inactivity_timeout": "10"},
        {"inactivity_timeout": "-5s"},
        {"inactivity_timeout": "soon"},
        {"journal_retention": "1mo"},
        {"journal_retention": "40000d"},
    ],
)
async def test_what_is_no_setting_is_refused(doors: Doors, change: dict[str, Any]) -> None:
    before = await doors.get("/services/Cart")
    seen = await doors.patch("Cart", **change)
    assert (seen.status, seen.json["error_code"]) == (400, "HF1290")
    assert (await doors.admin.request("PATCH", "/services/Cart", b"no")).status == 400
    assert (await doors.patch("Nope", public=True)).status == 404
    assert await doors.get("/services/Cart") == before
    assert (await doors.patch("Cart", unheard_of=1)).json == before


async def test_descriptions(doors: Doors) -> None:
    described = {
        handler["name"]: (handler["input_description"], handler["output_description"])
        for name in ("Cart", "Svc")
        for handler in (await doors.get(f"/services/{name}/handlers"))["handlers"]
    }
    assert described == {
        "add": ("JSON 'Item'", "application/json"),
        "total": ("none", "optional text/plain"),
        "any": ("*/*", "application/json"),
        "nothing": ("none", "none"),
        "hidden": ("*/*", "application/json"),
    }


async def test_openapi_of_an_object(doors: Doors) -> None:
    found = await doors.get("/services/Cart/openapi")
    assert found["openapi"] == "3.1.0"
    assert found["info"] == {
        "title": "Cart",
        "version": "1",
        "description": "A cart",
        "x-restate-extensions": {"team": "shop"},
    }
    assert found["servers"][0]["url"] == "http://127.0.0.1:8080/"
    assert sorted(found["paths"]) == [
        "/restate/call/Cart/{key}/add",
        "/restate/call/Cart/{key}/total",
        "/restate/invocation/Cart/{key}/add/{idempotencyKey}/attach",
        "/restate/invocation/Cart/{key}/add/{idempotencyKey}/output",
        "/restate/invocation/Cart/{key}/total/{idempotencyKey}/attach",
        "/restate/invocation/Cart/{key}/total/{idempotencyKey}/output",
        "/restate/send/Cart/{key}/add",
        "/restate/send/Cart/{key}/total",
    ]
    add = found["paths"]["/restate/call/Cart/{key}/add"]["post"]
    assert (add["operationId"], add["description"]) == ("add", "Adds.")
    assert add["requestBody"] == {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/addRequest"}}},
    }
    total = found["paths"]["/restate/call/Cart/{key}/total"]["post"]
    assert "requestBody" not in total
    assert list(total["responses"]["200"]["content"]) == ["text/plain"]
    send = found["paths"]["/restate/send/Cart/{key}/add"]["post"]
    assert list(send["responses"]) == ["202", "default"]
    output = found["paths"]["/restate/invocation/Cart/{key}/add/{idempotencyKey}/output"]["get"]
    assert list(output["responses"]) == ["200", "404", "470", "default"]


async def test_references_of_schemas_move_with_them(doors: Doors) -> None:
    schema = (await doors.get("/services/Cart/openapi"))["components"]["schemas"]["addRequest"]
    moved = {"$ref": "#/components/schemas/addRequest/$defs/N"}
    properties = schema["properties"]
    # A property that is called `default` has a schema; the default of a schema is a value.
    assert properties["n"] == properties["default"] == moved
    assert properties["kind"]["oneOf"] == [moved]
    assert properties["kind"]["discriminator"]["mapping"] == {"n": moved["$ref"]}
    assert properties["kind"]["default"] == {"$ref": "#/$defs/N"}


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for item in value for each in references(item)]
    if not isinstance(value, dict):
        return []
    own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
    return own + [each for item in value.values() for each in references(item)]


LITERAL = "#/$defs/N"
"""Stands in the default of a property: a value that only looks like a reference."""


@pytest.mark.parametrize("path", ["/services/Cart/openapi", "/services/Wf/openapi", "/openapi"])
async def test_all_references_lead_somewhere(doors: Doors, path: str) -> None:
    found = await doors.get(path)
    names = references(found["paths"]) + references(found["components"])
    assert len(names) > 1
    for reference in names:
        if reference == LITERAL:
            continue
        at = found
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]


async def test_openapi_of_other_kinds(doors: Doors) -> None:
    service = await doors.get("/services/Svc/openapi")
    assert "/restate/call/Svc/any" in service["paths"]
    assert not [path for path in service["paths"] if "hidden" in path]
    assert service["paths"]["/restate/call/Svc/any"]["post"]["requestBody"] == {
        "required": False,
        "content": {"*/*": {}},
    }
    assert (
        "content" not in service["paths"]["/restate/call/Svc/nothing"]["post"]["responses"]["200"]
    )
    workflow = await doors.get("/services/Wf/openapi")
    assert {"/restate/workflow/Wf/{key}/attach", "/restate/workflow/Wf/{key}/output"} <= set(
        workflow["paths"]
    )
    run = workflow["paths"]["/restate/call/Wf/{key}/run"]["post"]
    assert run["parameters"] == [{"$ref": "#/components/parameters/key"}]


async def test_openapi_of_the_admin_api(doors: Doors) -> None:
    found = await doors.get("/openapi")
    patch = found["paths"]["/services/{service}"]["patch"]
    assert patch["summary"] == "Change settings of a service."
    assert [each["name"] for each in patch["parameters"]] == ["service"]
    ids = [
        operation["operationId"] for path in found["paths"].values() for operation in path.values()
    ]
    assert len(ids) == len(set(ids))


async def test_an_empty_result_has_a_type_where_its_handler_says_so(doors: Doors) -> None:
    assert doors.host.resolve("Cart", "total").manifest.is_empty_output_typed
    assert not doors.host.resolve("Cart", "add").manifest.is_empty_output_typed
