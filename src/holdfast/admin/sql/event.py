"""`sys_journal_events`: how the last attempt of an invocation failed, and that it is paused."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from holdfast.admin.sql.column import Column, Kind, Reader, Table, Wanted
from holdfast.admin.sql.condition import narrow_id
from holdfast.admin.sql.failure import command_type, error_code
from holdfast.admin.sql.invocation import PARTITION_KEY, read_in
from holdfast.domain.ids import invocation_partition_key
from holdfast.engine.row import AttemptFailure, InvocationRow, Status

_encode = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """Something that happened to an invocation. Only the last ones are known."""

    row: InvocationRow
    kind: str
    at_ms: int
    detail: dict[str, object]


def _describe(failure: AttemptFailure) -> dict[str, object]:
    shown: dict[str, object] = {
        "error_code": failure.code,
        "error_message": failure.message,
        "restate_doc_error_code": error_code(failure),
    }
    if failure.stacktrace:
        shown["error_stacktrace"] = failure.stacktrace
    if failure.related_command_index is not None:
        shown["related_command_index"] = failure.related_command_index
    if failure.related_command_name:
        shown["related_command_name"] = failure.related_command_name
    if (kind := command_type(failure)) is not None:
        shown["related_command_type"] = kind
    return shown


def _events(row: InvocationRow) -> list[Event]:
    events: list[Event] = []
    failure = row.last_failure
    described = None if failure is None else _describe(failure)
    if failure is not None and described is not None:
        detail = {"ty": "TransientError", **described}
        events.append(Event(row, "TransientError", failure.at_ms, detail))
    if row.status is Status.PAUSED:
        paused: dict[str, object] = {"ty": "Paused", "last_failure": described}
        events.append(Event(row, "Paused", row.modified_at_ms, paused))
    return events


_read_rows = read_in(Status.RUNNING, Status.BACKING_OFF, Status.SUSPENDED, Status.PAUSED)


async def _read(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[Event]]:
    # An invocation has any number of events: its limits are not theirs.
    rows = _read_rows(reader, Wanted(wanted.columns, wanted.conditions))
    async with aclosing(rows) as pages:
        async for page in pages:
            yield [event for seen in page for event in _events(seen.row)]


EVENT = Table[Event](
    "sys_journal_events",
    "The last failure of an attempt, and that an invocation is paused. Older ones are not kept.",
    (
        Column(
            "partition_key",
            Kind.U64,
            PARTITION_KEY,
            lambda it: invocation_partition_key(it.row.id),
        ),
        Column("id", Kind.TEXT, "invocation id", lambda it: it.row.id),
        Column(
            "after_journal_entry_index",
            Kind.U32,
            "last entry of the journal, as it is now",
            lambda it: max(0, it.row.journal_length - 1),
        ),
        Column("appended_at", Kind.TIME, "when it happened", lambda it: it.at_ms),
        Column("event_type", Kind.TEXT, "`TransientError` or `Paused`", lambda it: it.kind),
        Column("event_json", Kind.TEXT, "what happened", lambda it: _encode(it.detail).decode()),
    ),
    _read,
    {"id": narrow_id},
)
