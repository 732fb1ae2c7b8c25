"""Approvals in SQLite: how a row is written, and how the inbox is asked for."""

from __future__ import annotations

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.engine.row import ApprovalRow, Key
from holdfast.storage.base import ApprovalFilter, ApprovalPlace, StoredApproval
from holdfast.storage.sqlite.driver import Bindings, Found, Value
from holdfast.storage.sqlite.query import QUERIES

_decode = msgspec.msgpack.Decoder(ApprovalRow).decode
_encode = msgspec.msgpack.Encoder().encode
_LAST = ApprovalPlace(2**63 - 1, "", 0)


def bindings_of(partition: int, key: Key, row: ApprovalRow) -> Bindings:
    """Return the columns of an approval."""
    assignees = "".join(f"{name}\n" for name in row.assignees)
    return (
        partition,
        *key[1:],
        row.status,
        row.target.service,
        f"\n{assignees}",
        row.asked_at_ms,
        _encode(row),
    )


def inbox_question(
    query: ApprovalFilter, before: ApprovalPlace | None, limit: int
) -> tuple[str, Bindings]:
    """Return the statement and its bindings for a page of approvals, newest first."""
    bindings: list[Value] = [*(before or _LAST), limit]
    conditions: list[str] = []
    if query.statuses is not None:
        # As literals: the index of the open ones is used only where the condition says so.
        numbers = [int(status) for status in query.statuses]
        is_inbox = query.statuses == (ApprovalStatus.OPEN,)
        conditions.append(
            "status = 0" if is_inbox else f"status IN ({', '.join(map(str, numbers))})"
        )
    if query.service is not None:
        bindings.append(query.service)
        conditions.append(f"service = ?{len(bindings)}")
    if query.assignee is not None:
        bindings.append(f"\n{query.assignee}\n")
        conditions.append(f"instr(assignees, ?{len(bindings)}) > 0")
    narrowed = "".join(f"AND {condition} " for condition in conditions)
    return QUERIES["approvals"].format(filter=narrowed), tuple(bindings)


def read_inbox(found: Found) -> list[StoredApproval]:
    """Return the rows of a page."""
    return [
        StoredApproval(invocation_id, index, _decode(data)) for invocation_id, index, data in found
    ]
