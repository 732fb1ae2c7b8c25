"""Journal entries as JSON: the shapes that Restate's tools know."""

from __future__ import annotations

import json
from typing import Any

import pytest

from holdfast.admin.secret import without_secrets
from holdfast.admin.sql.entry_json import Callee, entry_json, entry_lite_json
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    KIND_RUN,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
)
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind

DAY = {"secs": 86400, "nanos": 0}
NO_SPAN = {
    "span_context": {
        "trace_id": [0] * 16,
        "span_id": [0] * 8,
        "trace_flags": 0,
        "is_remote": False,
        "trace_state": "",
    },
    "cause": None,
}
CALLEE = Callee(
    "inv_1x", ServiceKind.VIRTUAL_OBJECT, HandlerManifest(name="h", kind=HandlerKind.EXCLUSIVE)
)
FAILURE = {"Failure": {"code": 409, "message": "no"}}

COMMANDS: list[tuple[Entry, dict[str, Any]]] = [
    (
        Input(Value(b'""'), (("a", "b"),)),
        {"Input": {"headers": [{"name": "a", "value": "b"}], "payload": [34, 34], "name": ""}},
    ),
    (Output(Value(b'""')), {"Output": {"result": {"Success": [34, 34]}, "name": ""}}),
    (Output(Failure(409, "no")), {"Output": {"result": FAILURE, "name": ""}}),
    (
        Sleep(1_795_424_193_042, 1),
        {"Sleep": {"wake_up_time": 1_795_424_193_042, "completion_id": 1, "name": ""}},
    ),
    (Run(4, "charge"), {"Run": {"completion_id": 4, "name": "charge"}}),
    (
        Call("S", "h", b"3", None, (), None, 2, 3),
        {
            "Call": {
                "request": {
                    "invocation_id": "inv_1x",
                    "invocation_target": {"Service": {"name": "S", "handler": "h", "scope": None}},
                    "span_context": NO_SPAN,
                    "parameter": [51],
                    "headers": [],
                    "idempotency_key": None,
                    "completion_retention_duration": DAY,
                    "journal_retention_duration": DAY,
                },
                "invocation_id_completion_id": 2,
                "result_completion_id": 3,
                "name": "",
            }
        },
    ),
    (
        OneWayCall("O", "h", b"", "k", (), "once", 5, 2),
        {
            "OneWayCall": {
                "request": {
                    "invocation_id": "inv_1x",
                    "invocation_target": {
                        "VirtualObject": {
                            "name": "O",
                            "key": "k",
                            "handler": "h",
                            "handler_ty": "Exclusive",
                            "scope": None,
                        }
                    },
                    "span_context": NO_SPAN,
                    "parameter": [],
                    "headers": [],
                    "idempotency_key": "once",
                    "completion_retention_duration": DAY,
                    "journal_retention_duration": DAY,
                },
                "invocation_id_completion_id": 2,
                "invoke_time": 5,
                "name": "",
            }
        },
    ),
    (
        SendSignal("inv_1x", Void(), index=1),
        {
            "SendSignal": {
                "target_invocation_id": "inv_1x",
                "signal_id": {"Index": 1},
                "result": "Void",
                "name": "",
            }
        },
    ),
    (
        AttachInvocation("inv_1x", 1),
        {
            "AttachInvocation": {
                "target": {"InvocationId": "inv_1x"}, "completion_id": 1, "name": ""
            }
        },
    ),
    (
        GetInvocationOutput("inv_1x", 1),
        {
            "GetInvocationOutput": {
                "target": {"InvocationId": "inv_1x"}, "completion_id": 1, "name": ""
            }
        },
    ),
    (
        CompleteAwakeable("sign_1x", Failure(409, "no")),
        {"CompleteAwakeable": {"id": "sign_1x", "result": FAILURE, "name": ""}},
    ),
    (GetPromise("p", 1), {"GetPromise": {"key": "p", "completion_id": 1, "name": ""}}),
    (PeekPromise("p", 1), {"PeekPromise": {"key": "p", "completion_id": 1, "name": ""}}),
    (
        CompletePromise("p", Value(b"1"), 1),
        {
            "CompletePromise": {
                "key": "p", "value": {"Success": [49]}, "completion_id": 1, "name": ""
            }
        },
    ),
    (GetLazyState("s", 1), {"GetLazyState": {"key": "s", "completion_id": 1, "name": ""}}),
    (SetState("s", Value(b"1")), {"SetState": {"key": "s", "value": [49], "name": ""}}),
    (ClearState("s"), {"ClearState": {"key": "s", "name": ""}}),
    (ClearAllState(), {"ClearAllState": {"name": ""}}),
    (GetLazyStateKeys(1), {"GetLazyStateKeys": {"completion_id": 1, "name": ""}}),
    (GetEagerState("s", Void()), {"GetEagerState": {"key": "s", "result": "Void", "name": ""}}),
    (GetEagerStateKeys(("a",)), {"GetEagerStateKeys": {"state_keys": ["a"], "name": ""}}),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "expected"), COMMANDS)
def test_commands(entry: Entry, expected: dict[str, Any]) -> None:
    callee = CALLEE if isinstance(entry, Call | OneWayCall) else None
    assert json.loads(entry_json(entry, callee, "")) == {"Command": expected}
    lite = json.loads(entry_lite_json(entry, ""))["Command"]
    [[name, fields]] = lite.items()
    assert [name] == list(expected)
    assert fields.keys() <= {"result"}


NOTIFICATIONS: list[tuple[Entry, str, Any, Any]] = [
    (
        Completion(0x800C, 1, Void()),
        "Sleep",
        {"Completion": {"Sleep": {"completion_id": 1}}},
        {"ty": {"Completion": "Sleep"}, "id": {"CompletionId": 1}, "result": "Void"},
    ),
    (
        Completion(KIND_CALL, 3, Value(b'""')),
        "Call",
        {"Completion": {"Call": {"completion_id": 3, "result": {"Success": [34, 34]}}}},
        {"ty": {"Completion": "Call"}, "id": {"CompletionId": 3}, "result": "Success"},
    ),
    (
        Completion(KIND_RUN, 3, Failure(409, "no")),
        "Run",
        {"Completion": {"Run": {"completion_id": 3, "result": FAILURE}}},
        {"ty": {"Completion": "Run"}, "id": {"CompletionId": 3}, "result": "Failure"},
    ),
    (
        Completion(KIND_CHILD_ID, 2, ChildId("inv_1x")),
        "CallInvocationId",
        {"Completion": {"CallInvocationId": {"completion_id": 2, "invocation_id": "inv_1x"}}},
        {"ty": {"Completion": "CallInvocationId"}, "id": {"CompletionId": 2}, "result": "Success"},
    ),
    (
        Completion(0x8006, 2, StateKeys(("a",))),
        "GetLazyStateKeys",
        {"Completion": {"GetLazyStateKeys": {"completion_id": 2, "state_keys": ["a"]}}},
        {"ty": {"Completion": "GetLazyStateKeys"}, "id": {"CompletionId": 2}, "result": "Success"},
    ),
    (
        Signal(Value(b'""'), index=17),
        "Signal",
        {"Signal": {"id": {"Index": 17}, "result": {"Success": [34, 34]}}},
        {"ty": "Signal", "id": {"SignalIndex": 17}, "result": "Success"},
    ),
    (
        Signal(Void(), name="go"),
        "Signal",
        {"Signal": {"id": {"Name": "go"}, "result": "Void"}},
        {"ty": "Signal", "id": {"SignalName": "go"}, "result": "Void"},
    ),
]


@pytest.mark.parametrize(("entry", "name", "whole", "lite"), NOTIFICATIONS)
def test_notifications(entry: Entry, name: str, whole: Any, lite: Any) -> None:
    assert json.loads(entry_json(entry, None, name)) == {"Notification": whole}
    assert json.loads(entry_lite_json(entry, name)) == {"Notification": lite}


def test_a_call_whose_target_is_not_known() -> None:
    call = Call("S", "h", b"", "k", (), None, 2, 3)
    shown = json.loads(entry_json(call, Callee(None, None, None), ""))["Command"]["Call"]["request"]
    assert shown["invocation_id"] is None
    assert shown["invocation_target"] == {
        "VirtualObject": {"name": "S", "key": "k", "handler": "h", "scope": None}
    }
    callee = Callee(None, ServiceKind.WORKFLOW, None)
    shown = json.loads(entry_json(call, callee, ""))["Command"]["Call"]["request"]
    assert list(shown["invocation_target"]) == ["Workflow"]


def test_secrets_are_hidden() -> None:
    entry = Input(Value(b""), (("Authorization", "Bearer x"), ("a", "b")))
    assert without_secrets(entry) == Input(Value(b""), (("Authorization", "(hidden)"), ("a", "b")))
    assert without_secrets(Run(1)) == Run(1)
