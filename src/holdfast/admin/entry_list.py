"""A journal as a list of operations without payloads: what the timeline of the UI is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from holdfast.admin.detail_view import view_model_call
from holdfast.admin.journal_view import kind_of
from holdfast.domain.detail import ModelCall
from holdfast.domain.message import (
    SIGNAL_CANCEL,
    AskApproval,
    Call,
    ChildId,
    Completion,
    Entry,
    Failure,
    OneWayCall,
    Output,
    Result,
    Signal,
    Value,
)
from holdfast.engine.row import JournalRow, StoredDetail


def view_operations(
    rows: Sequence[JournalRow], details: Sequence[StoredDetail]
) -> list[dict[str, Any]]:
    """Show each operation once, with its end beside its beginning. Times are milliseconds.

    `index` is that of the command, `end_index` that of its result, where there is one. `state` is
    `open`, `ok` or `failed`. Signals, which no command asked for, are operations of their own.
    """
    by_completion = _ends(rows)
    decided = {row.entry.index: row for row in rows if isinstance(row.entry, Signal)}
    calls = {each.completion_id: each for each in details}
    return [
        _view(row, by_completion, decided, calls)
        for row in rows
        if not isinstance(row.entry, Completion)
    ]


def _ends(rows: Sequence[JournalRow]) -> dict[int, JournalRow]:
    return {row.entry.completion_id: row for row in rows if isinstance(row.entry, Completion)}


def _view(
    row: JournalRow,
    ends: dict[int, JournalRow],
    decided: dict[int | None, JournalRow],
    calls: dict[int, StoredDetail],
) -> dict[str, Any]:
    entry = row.entry
    if isinstance(entry, Signal):
        name = "cancel" if entry.index == SIGNAL_CANCEL else entry.name or f"signal {entry.index}"
        return {"index": row.index, "kind": "Signal", "name": name, "at": row.at_ms,
                "end": row.at_ms, "state": _state(entry.result)}  # fmt: skip
    assert not isinstance(entry, Completion)
    shown: dict[str, Any] = {
        "index": row.index,
        "kind": kind_of(entry).removeprefix("Command: "),
        "name": _name(entry),
        "key": entry.key,
        "site": entry.site,
        "at": row.at_ms,
        "end": row.at_ms,
        "state": _state(entry.result) if isinstance(entry, Output) else "ok",
    }
    number: int | None = getattr(entry, "completion_id", None)
    if number is not None:
        shown["completion_id"] = number
        end = ends.get(number)
        if end is None:
            shown["end"], shown["state"] = None, "open"
        else:
            assert isinstance(end.entry, Completion)
            shown["end"], shown["end_index"] = end.at_ms, end.index
            shown["state"] = _state(end.entry.result)
            shown["size"] = _size(end.entry.result)
        if (detail := calls.get(number)) is not None:
            shown["detail"] = _view_detail(detail)
    if isinstance(entry, AskApproval):
        # What completes it is a signal, as with every awakeable.
        answer = decided.get(entry.index)
        shown["name"] = entry.title
        shown["state"] = "open" if answer is None else "ok"
        shown["end"] = None if answer is None else answer.at_ms
        if answer is not None:
            shown["end_index"] = answer.index
    if isinstance(entry, Call | OneWayCall):
        child = ends.get(entry.invocation_id_completion_id)
        if child is not None and isinstance(child.entry, Completion):
            result = child.entry.result
            shown["child"] = result.invocation_id if isinstance(result, ChildId) else None
    return shown


def _name(entry: Entry) -> str:
    if isinstance(entry, Call | OneWayCall):
        return f"{entry.service}/{entry.handler}"
    for field in ("name", "state_key", "promise_name"):
        if name := getattr(entry, field, ""):
            return str(name)
    return ""


def _state(result: Result) -> str:
    return "failed" if isinstance(result, Failure) else "ok"


def _size(result: Result) -> int:
    return len(result.content) if isinstance(result, Value) else 0


def _view_detail(detail: StoredDetail) -> dict[str, Any]:
    call = detail.row.call
    if isinstance(call, ModelCall):
        return {"kind": "model", **view_model_call(detail)}
    return {"kind": "tool", "name": call.name, "call_id": call.call_id, "agent": call.agent_name}
