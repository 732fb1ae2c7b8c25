"""Approvals: questions of a handler to people, and their rows.

    absent ──asked──▶ OPEN ──decided──▶ APPROVED or REJECTED
                       ├──deadline────▶ EXPIRED
                       └──handler or invocation gives it up──▶ WITHDRAWN

Each change but the last delivers the signal of the approval's awakeable in the same commit, so that
the inbox and the handler never tell two stories. The rows go with their invocation. What needs the
journal or timers is in `on_approval.py`; this file knows rows only.
"""

from __future__ import annotations

from typing import cast

from msgspec.structs import replace

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.message import Signal
from holdfast.engine.row import ApprovalRow, InvocationRow, Key, Table, slot_of_approval
from holdfast.engine.view import Draft


def approval_place(invocation_id: str, index: int) -> Key:
    """Return the key of an approval."""
    return (Table.APPROVAL, invocation_id, index)


def approval_of(draft: Draft, invocation_id: str, index: int) -> ApprovalRow | None:
    """Return an approval."""
    return cast("ApprovalRow | None", draft.fact(approval_place(invocation_id, index)))


def is_of_approval(draft: Draft, row: InvocationRow, signal: Signal) -> bool:
    """Whether a signal from outside would complete the awakeable of an approval."""
    # Most invocations ask nobody, and their awakeables cost no look.
    return (
        row.approval_count > 0
        and signal.index is not None
        and approval_of(draft, row.id, signal.index) is not None
    )


def close_approval(
    draft: Draft,
    row: InvocationRow,
    index: int,
    status: ApprovalStatus,
    *,
    decision_index: int | None = None,
    by: str = "",
    comment: str = "",
) -> None:
    """Give an open approval its final status."""
    approval = approval_of(draft, row.id, index)
    assert approval is not None, f"{row.id} has no approval {index}"
    assert approval.status is ApprovalStatus.OPEN, f"approval {index} of {row.id} is closed"
    row.open_approval_count -= 1
    draft.rows[approval_place(row.id, index)] = replace(
        approval,
        status=status,
        decided_at_ms=draft.at_ms,
        decision_index=decision_index,
        by=by,
        comment=comment,
    )


def drop_deadline(draft: Draft, row: InvocationRow, index: int) -> None:
    """Take back the timer of an approval that has one."""
    approval = approval_of(draft, row.id, index)
    if approval is None or not approval.expires_at_ms:
        return
    timer: Key = (Table.TIMER, approval.expires_at_ms, row.id, slot_of_approval(index))
    draft.rows[timer] = None
    row.timer_count -= 1


def withdraw_approval(draft: Draft, row: InvocationRow, index: int) -> None:
    """Nobody waits for this decision any more. One that was made stays."""
    approval = approval_of(draft, row.id, index)
    if approval is not None and approval.status is ApprovalStatus.OPEN:
        drop_deadline(draft, row, index)
        close_approval(draft, row, index, ApprovalStatus.WITHDRAWN)


def withdraw_approvals(draft: Draft, row: InvocationRow) -> None:
    """Withdraw all that is open of an invocation that ends. Its timers are gone already."""
    if not row.open_approval_count:
        return
    indexes = draft.approvals(row.id, is_open=True)
    draft.require([approval_place(row.id, index) for index in indexes])
    for index in indexes:
        close_approval(draft, row, index, ApprovalStatus.WITHDRAWN)
    assert row.open_approval_count == 0, f"{row.id}: {row.open_approval_count} approvals are left"


def forget_approvals(draft: Draft, row: InvocationRow) -> None:
    """Remove all approvals of an invocation that is removed."""
    if row.approval_count:
        for index in draft.approvals(row.id, is_open=False):
            draft.rows[approval_place(row.id, index)] = None
