"""Invocations in short, for lists: no payload, and times as numbers."""

from __future__ import annotations

from typing import Any

from holdfast.admin.invocation_view import STATUS_NAMES
from holdfast.engine.row import InvocationRow, Status

_ERROR_LENGTH_MAX = 300


def summary(row: InvocationRow) -> dict[str, Any]:
    """Show an invocation in a line. Times are milliseconds since the epoch, 0: there is none.

    `state` is the status, with completed ones told apart: `succeeded` and `failed`.
    """
    failure = row.last_failure
    return {
        "id": row.id,
        "service": row.target.service,
        "handler": row.target.handler,
        "key": row.target.key,
        "kind": row.service_kind.name.lower(),
        "state": state_of(row),
        "created": row.created_at_ms,
        "modified": row.modified_at_ms,
        "completed": row.completed_at_ms,
        "scheduled": row.execute_at_ms,
        "retry_at": row.retry_at_ms,
        "attempts": row.attempt,
        "entries": row.journal_length,
        "deployment": row.deployment_id,
        "parent": row.origin.invocation_id,
        "origin": row.origin.kind.name.lower(),
        "error": None if failure is None else failure.message[:_ERROR_LENGTH_MAX],
    }


def state_of(row: InvocationRow) -> str:
    """Return the status as lists show it."""
    if row.status is Status.COMPLETED:
        return "failed" if row.has_failed else "succeeded"
    return STATUS_NAMES[row.status]
