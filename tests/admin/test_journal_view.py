from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from holdfast.admin.journal_view import kind_of
from holdfast.domain.message import (
    Call,
    ChildId,
    Command,
    CompleteAwakeable,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    Input,
    OneWayCall,
    Output,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
    completion_kind,
)
from holdfast.engine.row import JournalRow
from tests.admin.test_app import NOW, row_of
from tests.ingress.fake import INVOCATION_ID, NOW_MS, Client, FakeHandle


async def shown(
    client: Client, handle: FakeHandle, *entries: Entry, query: str = ""
) -> list[dict[str, Any]]:
    handle.rows[INVOCATION_ID] = row_of()
    handle.journals[INVOCATION_ID] = [
        JournalRow(INVOCATION_ID, index, NOW_MS, entry) for index, entry in enumerate(entries)
    ]
    seen = await client.get(f"/holdfast/v1/invocations/{INVOCATION_ID}/journal{query}")
    assert seen.status == 200
    body = seen.json
    assert body["id"] == INVOCATION_ID
    listed: list[dict[str, Any]] = body["entries"]
    for index, entry in enumerate(listed):
        assert (entry.pop("index"), entry.pop("at")) == (index, NOW)
    return listed


def of_json(text: str) -> dict[str, object]:
    return {"encoding": "json", "value": json.loads(text), "size": len(text)}


async def test_a_whole_journal(client: Client, handle: FakeHandle) -> None:
    entries = await shown(
        client,
        handle,
        Input(
            Value(b'{"city":"Ulm"}'),
            (("x-restate-ingress-path", "/W/run"), ("Authorization", "Bearer s3cret")),
        ),
        Run(1, "fetch", "0/run:fetch:0", "app.py:12"),
        Sleep(NOW_MS + 1000, 2, "nap"),
        Completion(completion_kind(Run(1)), 1, Value(b'"rain"'), NOW_MS),
        Output(Failure(500, "no", {"a": "b"})),
    )
    named = {"name": "", "key": "", "site": ""}
    assert entries == [
        {
            "kind": "Command: Input",
            "headers": [
                {"name": "x-restate-ingress-path", "value": "/W/run"},
                {"name": "Authorization", "value": "(hidden)"},
            ],
            **named,
            "payload": of_json('{"city":"Ulm"}'),
        },
        {
            "kind": "Command: Run",
            "completed": True,
            "completion_id": 1,
            "name": "fetch",
            "key": "0/run:fetch:0",
            "site": "app.py:12",
        },
        {
            "kind": "Command: Sleep",
            "wake_up_at": "2026-01-31T12:00:01.000Z",
            "completed": False,
            "completion_id": 2,
            **named,
            "name": "nap",
        },
        {"kind": "Notification: Run", "completion_id": 1, "payload": of_json('"rain"')},
        {
            "kind": "Command: Output",
            **named,
            "failure": {"code": 500, "message": "no", "metadata": {"a": "b"}},
        },
    ]


async def test_calls(client: Client, handle: FakeHandle) -> None:
    call = Call("Cart", "add", b"1", "k", (("a", "b"),), "once", 1, 2)
    one_way = OneWayCall("Cart", "add", b"\xff", None, (), None, 0, 3)
    entries = await shown(
        client,
        handle,
        call,
        one_way,
        Completion(0x800E, 1, ChildId("inv_1child")),
        Completion(0x800D, 2, Failure(409, "killed")),
    )
    assert entries[0]["kind"] == "Command: Call"
    assert entries[0]["payload"] == of_json("1")
    assert entries[0]["completed"] is True
    assert entries[0]["object_key"] == "k"
    assert entries[0]["headers"] == [{"name": "a", "value": "b"}]
    assert entries[0]["idempotency_key"] == "once"
    assert entries[1]["payload"] == {"encoding": "base64", "value": "/w==", "size": 1}
    assert entries[1]["invoke_at"] is None
    assert "completed" not in entries[1]
    assert entries[2] == {
        "kind": "Notification: CallInvocationId",
        "completion_id": 1,
        "invocation_id": "inv_1child",
    }
    assert entries[3] == {
        "kind": "Notification: Call",
        "completion_id": 2,
        "failure": {"code": 409, "message": "killed"},
    }


async def test_state_and_signals(client: Client, handle: FakeHandle) -> None:
    entries = await shown(
        client,
        handle,
        SetState("count", Value(b"1")),
        GetEagerState("count", Void()),
        GetEagerStateKeys(("a", "b")),
        Signal(Value(b"ok"), index=17),
        Signal(Void(), name="go"),
        SendSignal("inv_1other", Value(b""), index=1),
        CompleteAwakeable("sign_1x", Value(b"2")),
        Completion(0x8406, 9, StateKeys(("c",))),
        Completion(0xFFFF, 10, Void()),
    )
    assert entries[0]["payload"] == of_json("1")
    assert entries[0]["state_key"] == "count"
    assert entries[1]["payload"] is None
    assert entries[2]["keys"] == ["a", "b"]
    assert entries[3] == {
        "kind": "Notification: Signal",
        "signal_index": 17,
        "signal_name": None,
        "payload": {"encoding": "text", "value": "ok", "size": 2},
    }
    assert entries[4]["signal_name"] == "go"
    assert entries[5]["signal_index"] == 1
    assert entries[6]["awakeable_id"] == "sign_1x"
    assert entries[7]["keys"] == ["c"]
    assert entries[8]["kind"] == "Notification: 0xFFFF"


async def test_long_payloads_are_cut_unless_asked_for(client: Client, handle: FakeHandle) -> None:
    entry = Output(Value(b'"' + b"a" * 100_000 + b'"'))
    [cut] = await shown(client, handle, entry)
    assert cut["payload"]["is_truncated"] is True
    assert len(cut["payload"]["value"]) == 65_536
    [whole] = await shown(client, handle, entry, query="?payload_size_max=1000000")
    assert whole["payload"] == {"encoding": "json", "value": "a" * 100_000, "size": 100_002}


@pytest.mark.parametrize("command", get_args(Command), ids=lambda c: c.__name__)
def test_every_completion_is_named_after_its_command(command: type[Any]) -> None:
    kind = command.__struct_config__.tag + 0x7C00
    # Calls and sends share the notification of the id of what they called.
    name = "CallInvocationId" if command is OneWayCall else command.__name__
    assert kind_of(Completion(kind, 1, Void())) == f"Notification: {name}"
