"""The time limit of an invocation.

    due ──timeout──▶ cancelled ──abort timeout──▶ killed, with all that it called

It is *due* when it is made, or at the time to which it was delayed. One that has not begun, because
it waits for its object key, ends at once. The cancellation says why, and a handler may compensate.
"""

from __future__ import annotations

from holdfast.domain.message import SIGNAL_CANCEL, Failure, Signal
from holdfast.domain.target import ABORT_TIMEOUT_MS
from holdfast.engine.lifecycle import complete, deliver, put_timer, start
from holdfast.engine.record import KillRequested
from holdfast.engine.row import SLOT_ABORT, SLOT_TIMEOUT, InvocationRow, Status
from holdfast.engine.view import Draft

_CODE = 409


def limit_time(draft: Draft, row: InvocationRow) -> None:
    """Write the timer of a new invocation, if it has a limit."""
    if row.timeout_ms:
        put_timer(draft, row, row.due_at_ms + row.timeout_ms, SLOT_TIMEOUT)


def on_timeout(draft: Draft, row: InvocationRow, slot: str) -> None:
    """The time of an open invocation has passed: cancel it, and the next time kill it."""
    limit = f"not done {row.timeout_ms / 1000:g} s after it was due"
    if slot == SLOT_ABORT:
        children = draft.children(row.id)
        complete(draft, row, Failure(_CODE, f"killed: {limit} and cancelled for that [HF2030]"))
        for child_id in children:
            draft.send(KillRequested(child_id, row.id), child_id)
        return
    cancelled = Failure(_CODE, f"cancelled: {limit} [HF2030]")
    if row.status in (Status.SCHEDULED, Status.PENDING):
        complete(draft, row, cancelled)
        return
    has_no_attempt = row.status in (Status.PAUSED, Status.BACKING_OFF)
    deliver(draft, row, Signal(cancelled, index=SIGNAL_CANCEL, at_ms=draft.at_ms))
    handler = draft.handler(row.target.service, row.target.handler)
    abort_ms = ABORT_TIMEOUT_MS if handler is None else handler.manifest.abort_timeout_ms
    put_timer(draft, row, draft.at_ms + abort_ms, SLOT_ABORT)
    if has_no_attempt:
        # There is little time left to compensate in.
        start(draft, row)
