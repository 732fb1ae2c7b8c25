"""Runs as recordings."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.admin.secret import without_secrets
from holdfast.domain.ids import random_seed
from holdfast.domain.message import Start
from holdfast.domain.recording import Recording
from holdfast.engine.row import InvocationRow, JournalRow


def view_recording(
    row: InvocationRow, journal: Sequence[JournalRow], *, has_secrets: bool = False
) -> Recording:
    """Return all that a replay of an invocation needs.

    Args:
        has_secrets: Whether headers such as `authorization` keep their values.
    """
    entries = tuple(
        entry.entry if has_secrets else without_secrets(entry.entry) for entry in journal
    )
    start = Start(
        invocation_id=row.id,
        service=row.target.service,
        handler=row.target.handler,
        key=row.target.key or "",
        known_entries=len(entries),
        state={},
        is_state_partial=True,
        retry_count=0,
        duration_ms=0,
        random_seed=random_seed(row.id),
        attempt=row.attempt + 1,
        created_at_ms=row.created_at_ms,
    )
    status = row.status.name.lower().replace("_", "-")
    return Recording(status=status, start=start, entries=entries)
