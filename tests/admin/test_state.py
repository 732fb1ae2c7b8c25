"""State over the admin API."""

from __future__ import annotations

import json

import pytest

from holdfast.engine.decision import Reply
from holdfast.engine.on_state import state_version
from holdfast.engine.row import StateEdit, StateRow
from tests.ingress.fake import Client, FakeHandle

PATH = "/holdfast/v1/state/Cart/a%2Fb"


async def test_an_entry_says_when_it_expires(client: Client, handle: FakeHandle) -> None:
    handle.states["Cart", "k"] = {"a": StateRow(b"1", 1_769_860_800_000), "b": b"2"}
    seen = (await client.get("/holdfast/v1/state/Cart/k")).json
    assert [e["expires_at"] for e in seen["entries"]] == ["2026-01-31T12:00:00.000Z", None]
    assert seen["version"] == state_version({"a": b"1", "b": b"2"})


async def test_keys_are_paged(client: Client, handle: FakeHandle) -> None:
    for key in "cab":
        handle.states["Cart", key] = {"n": b"1"}
    seen = await client.get("/holdfast/v1/state/Cart?limit=2")
    assert seen.json == {"service": "Cart", "keys": ["a", "b"], "next": "b"}
    seen = await client.get("/holdfast/v1/state/Cart?limit=2&after=b")
    assert seen.json == {"service": "Cart", "keys": ["c"], "next": None}
    assert (await client.get("/holdfast/v1/state/Nobody")).json["error_code"] == "HF1001"
    assert (await client.get("/holdfast/v1/state/Greeter")).json["error_code"] == "HF1011"


async def patch(client: Client, body: object, path: str = PATH) -> tuple[int, dict[str, object]]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    seen = await client.request("PATCH", path, body=text)
    return seen.status, seen.json


async def test_an_edit(client: Client, handle: FakeHandle) -> None:
    body = {"set": {"n": [1, 2]}, "set_base64": {"raw": "/wA="}, "clear": ["old"]}
    assert await patch(client, body) == (200, {"status": "applied"})
    entries = (("n", b"[1, 2]"), ("old", None), ("raw", b"\xff\x00"))
    assert handle.edits == [("Cart", "a/b", StateEdit(entries))]


async def test_an_edit_that_waits(client: Client, handle: FakeHandle) -> None:
    handle.edit_reply = Reply.QUEUED
    body = {"replace": True, "version": "v"}
    assert await patch(client, body) == (202, {"status": "queued"})
    assert handle.edits == [("Cart", "a/b", StateEdit((), True, "v"))]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply.STALE, (409, "HF1270")),
        (Reply.NOT_FOUND, (409, "HF1258")),
        (Reply.OVERLOADED, (429, "HF1429")),
    ],
)
async def test_an_edit_that_is_refused(
    client: Client, handle: FakeHandle, reply: Reply, expected: tuple[int, str]
) -> None:
    handle.edit_reply = reply
    status, seen = await patch(client, {"clear": ["a"]})
    assert (status, seen["error_code"]) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        {},
        {"sett": {}},
        {"set": {"a": 1}, "clear": ["a"]},
        {"clear": ["a", "a"]},
        {"set_base64": {"a": "?"}},
        {"set": {"n" * 1025: 1}},
        {"version": 5, "clear": ["a"]},
    ],
)
async def test_what_is_no_edit(client: Client, handle: FakeHandle, body: object) -> None:
    status, seen = await patch(client, body)
    assert (status, seen["error_code"]) == (400, "HF1271")
    assert handle.edits == []


async def test_restates_form(client: Client, handle: FakeHandle) -> None:
    body = {"version": "v", "object_key": "k1", "new_state": {"c": [53]}, "more": 1}
    seen = await client.request("POST", "/services/Cart/state", body=json.dumps(body).encode())
    assert (seen.status, seen.body) == (202, b"")
    assert handle.edits == [("Cart", "k1", StateEdit((("c", b"5"),), True, "v"))]
    handle.edit_reply = Reply.STALE
    seen = await client.request("POST", "/services/Cart/state", body=json.dumps(body).encode())
    assert seen.status == 202
    bad = {"object_key": "k1", "new_state": {"c": [256]}}
    seen = await client.request("POST", "/services/Cart/state", body=json.dumps(bad).encode())
    assert seen.json["error_code"] == "HF1271"
    for path, code in (("Nobody", "HF1001"), ("Greeter", "HF1011")):
        seen = await client.request(
            "POST", f"/services/{path}/state", body=json.dumps(body).encode()
        )
        assert seen.json["error_code"] == code
