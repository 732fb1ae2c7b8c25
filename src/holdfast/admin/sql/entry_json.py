"""Journal entries as JSON, in the shapes of Restate's `entry_json` and `entry_lite_json`.

Bytes are lists of numbers. Headers that carry secrets are hidden.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from holdfast.domain.message import (
    AskApproval,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    Command,
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
    Result,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    WithdrawApproval,
)
from holdfast.domain.target import HandlerManifest, ServiceKind

_encode = msgspec.json.Encoder().encode

Json = dict[str, Any]

_NO_SPAN: Json = {
    "span_context": {
        "trace_id": [0] * 16,
        "span_id": [0] * 8,
        "trace_flags": 0,
        "is_remote": False,
        "trace_state": "",
    },
    "cause": None,
}
"""Where a call belongs in a trace: nowhere. The `restate` command line shows no call without it."""


class Callee(NamedTuple):
    """What is known about the target of a call."""

    invocation_id: str | None
    """None until the server has recorded it."""
    kind: ServiceKind | None
    """None when no such service is registered."""
    handler: HandlerManifest | None


def entry_json(entry: Entry, callee: Callee | None, completion_name: str) -> str:
    """Return an entry whole.

    Args:
        entry: Without secrets.
        callee: Of a call.
        completion_name: Of a completion, the name of the command that it completes.
    """
    if isinstance(entry, Completion):
        body: Json = {"completion_id": entry.completion_id}
        if isinstance(entry.result, ChildId):
            body["invocation_id"] = entry.result.invocation_id
        elif isinstance(entry.result, StateKeys):
            body["state_keys"] = entry.result.keys
        elif completion_name != "Sleep":
            body["result"] = _result(entry.result)
        return _text({"Notification": {"Completion": {completion_name: body}}})
    if isinstance(entry, Signal):
        return _text(
            {"Notification": {"Signal": {"id": _signal_id(entry), "result": _result(entry.result)}}}
        )
    fields = _fields(entry, callee)
    return _text({"Command": {type(entry).__name__: {**fields, "name": entry.name}}})


def entry_lite_json(entry: Entry, completion_name: str) -> str:
    """Return an entry without its payloads."""
    if isinstance(entry, Completion):
        shown: Json = {
            "ty": {"Completion": completion_name},
            "id": {"CompletionId": entry.completion_id},
            "result": _result_name(entry.result),
        }
        return _text({"Notification": shown})
    if isinstance(entry, Signal):
        id_ = {"SignalIndex": entry.index} if entry.name is None else {"SignalName": entry.name}
        return _text(
            {"Notification": {"ty": "Signal", "id": id_, "result": _result_name(entry.result)}}
        )
    fields = {"result": _result_name(entry.result)} if isinstance(entry, Output) else {}
    return _text({"Command": {type(entry).__name__: fields}})


def _text(value: Json) -> str:
    return _encode(value).decode()


def _bytes(content: bytes) -> list[int]:
    return list(content)


def _result(result: Result) -> object:
    match result:
        case Value(content):
            return {"Success": _bytes(content)}
        case Failure(code, message):
            return {"Failure": {"code": code, "message": message}}
        case _:
            return "Void"


def _result_name(result: Result) -> str:
    match result:
        case Failure():
            return "Failure"
        case Value() | ChildId() | StateKeys():
            return "Success"
        case _:
            return "Void"


def _signal_id(signal: Signal | SendSignal) -> Json:
    if signal.index is not None:
        return {"Index": signal.index}
    return {"Name": signal.name if isinstance(signal, Signal) else signal.signal_name}


def _fields(entry: Command, callee: Callee | None) -> Json:
    """Return the members of a command, but for its name."""
    match entry:
        case Input(Value(content), headers):
            return {"headers": _headers(headers), "payload": _bytes(content)}
        case Output(result):
            return {"result": _result(result)}
        case Run(completion_id):
            return {"completion_id": completion_id}
        case Sleep(wake_up_at_ms, completion_id):
            return {"wake_up_time": wake_up_at_ms, "completion_id": completion_id}
        case Call() | OneWayCall():
            return _call_fields(entry, callee)
        case SendSignal(target, result):
            id_ = _signal_id(entry)
            return {
                "target_invocation_id": target, "signal_id": id_, "result": _result(result)
            }  # fmt: skip
        case AttachInvocation(target, completion_id) | GetInvocationOutput(target, completion_id):
            return {"target": {"InvocationId": target}, "completion_id": completion_id}
        case CompleteAwakeable(awakeable_id, result):
            return {"id": awakeable_id, "result": _result(result)}
        case GetPromise() | PeekPromise() | CompletePromise():
            return _promise_fields(entry)
        case AskApproval(index, title):
            return {"index": index, "title": title, "payload": _bytes(entry.payload)}
        case WithdrawApproval(index):
            return {"index": index}
        case _:
            return _state_fields(entry)


def _promise_fields(entry: GetPromise | PeekPromise | CompletePromise) -> Json:
    value = {"value": _result(entry.result)} if isinstance(entry, CompletePromise) else {}
    return {"key": entry.promise_name, **value, "completion_id": entry.completion_id}


def _state_fields(
    entry: GetLazyState
    | SetState
    | ClearState
    | ClearAllState
    | GetLazyStateKeys
    | GetEagerState
    | GetEagerStateKeys,
) -> Json:
    match entry:
        case GetLazyState():
            return {"key": entry.state_key, "completion_id": entry.completion_id}
        case SetState():
            return {"key": entry.state_key, "value": _bytes(entry.value.content)}
        case ClearState():
            return {"key": entry.state_key}
        case ClearAllState():
            return {}
        case GetLazyStateKeys():
            return {"completion_id": entry.completion_id}
        case GetEagerState():
            return {"key": entry.state_key, "result": _result(entry.result)}
        case GetEagerStateKeys():
            return {"state_keys": entry.keys}


def _headers(headers: tuple[tuple[str, str], ...]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in headers]


def _call_fields(entry: Call | OneWayCall, callee: Callee | None) -> Json:
    handler = None if callee is None else callee.handler
    retention_ms = 0 if handler is None else handler.retention_ms(entry.idempotency_key)
    request = {
        "invocation_id": None if callee is None else callee.invocation_id,
        "invocation_target": _target(entry, callee),
        "span_context": _NO_SPAN,
        "parameter": _bytes(entry.parameter),
        "headers": _headers(entry.headers),
        "idempotency_key": entry.idempotency_key,
        "completion_retention_duration": _duration(retention_ms),
        "journal_retention_duration": _duration(retention_ms),
    }
    fields: Json = {
        "request": request,
        "invocation_id_completion_id": entry.invocation_id_completion_id,
    }
    if isinstance(entry, Call):
        fields["result_completion_id"] = entry.completion_id
    else:
        fields["invoke_time"] = entry.invoke_at_ms
    return fields


def _target(entry: Call | OneWayCall, callee: Callee | None) -> Json:
    target: Json = {"name": entry.service}
    kind = callee.kind if callee is not None else None
    if entry.object_key is None:
        target |= {"handler": entry.handler, "scope": None}
        return {"Service": target}
    target |= {"key": entry.object_key, "handler": entry.handler}
    if callee is not None and callee.handler is not None:
        target["handler_ty"] = callee.handler.kind.name.capitalize()
    target["scope"] = None
    return {"Workflow" if kind is ServiceKind.WORKFLOW else "VirtualObject": target}


def _duration(ms: int) -> Json:
    return {"secs": ms // 1000, "nanos": ms % 1000 * 1_000_000}
