"""Journals as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from holdfast.admin.payload import view_payload
from holdfast.admin.secret import masked
from holdfast.domain.message import (
    KIND_CHILD_ID,
    AskApproval,
    ChildId,
    Command,
    Completion,
    Entry,
    Failure,
    Result,
    Signal,
    StateKeys,
    Value,
    Void,
)
from holdfast.engine.row import JournalRow
from holdfast.web.instant import iso_time

_COMPLETION_NAMES = {
    kind.__struct_config__.tag + 0x7C00: kind.__name__ for kind in get_args(Command)
} | {KIND_CHILD_ID: "CallInvocationId"}

_RENAMED = {"index": "signal_index", "name": "signal_name"}
"""Fields of signals whose names already say something else about an entry."""


def view_journal(rows: Sequence[JournalRow], payload_size_max: int) -> list[dict[str, object]]:
    """Show a journal in order.

    Each entry has `index`, `kind` (`Command: Run`, `Notification: Signal`) and `at`. Commands also
    have `name`, `key` and `site`, and `completed` when they are of a kind that completes. The other
    members are the fields of the entry; a result shows as `payload`, `failure`, `invocation_id` or
    `keys`.

    Args:
        rows: The whole journal: whether a command is completed is found in its notifications.
        payload_size_max: Bytes shown of each payload.
    """
    completed = {row.entry.completion_id for row in rows if isinstance(row.entry, Completion)}
    return [_view_entry(row, completed, payload_size_max) for row in rows]


def _view_entry(row: JournalRow, completed: set[int], size_max: int) -> dict[str, object]:
    entry = row.entry
    shown: dict[str, object] = {"index": row.index, "kind": kind_of(entry)}
    shown["at"] = iso_time(row.at_ms)
    is_signal = isinstance(entry, Signal)
    for name in entry.__struct_fields__:
        value: object = getattr(entry, name)
        if name == "at_ms" or (name == "kind" and isinstance(entry, Completion)):
            continue
        if name == "completion_id" and not isinstance(entry, Completion):
            shown["completed"] = value in completed
        if is_signal or name == "index":
            shown[_RENAMED.get(name, name)] = value
        elif name == "headers":
            shown[name] = _view_headers(cast("tuple[tuple[str, str], ...]", value))
        elif name.endswith("_at_ms"):
            assert isinstance(value, int), f"{name} is a time"
            shown[name.removesuffix("_ms")] = iso_time(value) if value else None
        elif isinstance(value, bytes):
            # Others have one, under various names.
            place = name if isinstance(entry, AskApproval) else "payload"
            shown[place] = view_payload(value, size_max)
        else:
            shown[name] = value
    # Results last: they are the long part, and people read from the top.
    result = shown.pop("result", None) or shown.pop("value", None)
    if isinstance(result, Result):
        shown.update(_view_result(result, size_max))
    return shown


def kind_of(entry: Entry) -> str:
    """Return the kind of an entry as it is printed, such as `Command: Run`."""
    if isinstance(entry, Signal):
        return "Notification: Signal"
    if isinstance(entry, Completion):
        return f"Notification: {_COMPLETION_NAMES.get(entry.kind, f'0x{entry.kind:04X}')}"
    return f"Command: {type(entry).__name__}"


def _view_result(result: Result, size_max: int) -> dict[str, object]:
    match result:
        case Void():
            return {"payload": None}
        case Value(content):
            return {"payload": view_payload(content, size_max)}
        case Failure(code, message, metadata):
            failure: dict[str, object] = {"code": code, "message": message}
            if metadata:
                failure["metadata"] = metadata
            return {"failure": failure}
        case ChildId(invocation_id):
            return {"invocation_id": invocation_id}
        case StateKeys(keys):
            return {"keys": keys}


def _view_headers(headers: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "value": masked(name, value)} for name, value in headers]
