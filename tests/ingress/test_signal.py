"""The routes for named signals."""

from __future__ import annotations

import pytest

from holdfast.domain.message import Failure, Signal, Value
from holdfast.engine.decision import Answer, Reply
from tests.ingress.fake import INVOCATION_ID, Client, FakeHandle

ROUTE = f"/holdfast/v1/invocations/{INVOCATION_ID}/signals"


async def test_sends_values_and_rejections_unchanged(client: Client, handle: FakeHandle) -> None:
    seen = await client.post(f"{ROUTE}/new%20message%2F1", b"\x00raw")
    assert (seen.status, seen.body) == (202, b"")
    seen = await client.post(f"{ROUTE}/stop/reject", "nö".encode())
    assert (seen.status, seen.body) == (202, b"")
    assert handle.signals == [
        (INVOCATION_ID, Signal(Value(b"\x00raw"), name="new message/1")),
        (INVOCATION_ID, Signal(Failure(500, "nö"), name="stop")),
    ]


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (Reply.NOT_FOUND, 404, "HF1004"),
        (Reply.ALREADY_COMPLETED, 409, "HF0524"),
        (Reply.OVERLOADED, 429, "HF1429"),
    ],
)
async def test_says_when_nobody_takes_it(
    client: Client, handle: FakeHandle, reply: Reply, status: int, code: str
) -> None:
    handle.answer = Answer(reply)
    seen = await client.post(f"{ROUTE}/go")
    assert (seen.status, seen.json["error_code"]) == (status, code)
    assert INVOCATION_ID in seen.json["message"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/holdfast/v1/invocations/inv_1x/signals/go", "HF1003"),
        (f"{ROUTE}/{'x' * 257}", "HF0520"),
        (f"{ROUTE}/%00", "HF0520"),
        (f"{ROUTE}/go/accept", "HF1005"),
        (f"/holdfast/v1/invocations/{INVOCATION_ID}/signals", "HF1005"),
    ],
)
async def test_refuses_what_is_no_signal(client: Client, path: str, code: str) -> None:
    seen = await client.post(path)
    assert (seen.status, seen.json["error_code"]) == (400, code)


async def test_refuses_methods(client: Client) -> None:
    seen = await client.get(f"{ROUTE}/go")
    assert (seen.status, seen.json["error_code"]) == (405, "HF1007")
    assert seen.headers["allow"] == "POST, OPTIONS"
