"""What happens to approvals: they are asked for, decided, and expire. See `approval.py`."""

from __future__ import annotations

from holdfast.domain.approval import (
    ApprovalStatus,
    DecisionContent,
    encode_decision,
    raw_json,
)
from holdfast.domain.message import TIME_MS_MAX, AskApproval, Signal, Value
from holdfast.engine.approval import (
    approval_of,
    approval_place,
    close_approval,
    drop_deadline,
)
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.lifecycle import deliver, put_timer
from holdfast.engine.record import ApprovalDecided
from holdfast.engine.row import (
    ApprovalRow,
    InvocationRow,
    Status,
    note_of_signal,
    slot_of_approval,
)
from holdfast.engine.view import Draft


def ask_approval(draft: Draft, row: InvocationRow, command: AskApproval, entry_index: int) -> None:
    """Open an approval. One whose deadline has passed, as in a restarted journal, expires at once.

    Args:
        entry_index: Journal index of the command.
    """
    index = command.index
    if approval_of(draft, row.id, index) is not None:
        return
    if draft.has_notification(row.id, note_of_signal(index, None)):
        # Somebody had its id before this was recorded, and completed the awakeable.
        return
    expires_at_ms = min(command.expires_at_ms, TIME_MS_MAX)
    draft.rows[approval_place(row.id, index)] = ApprovalRow(
        row.target,
        command.title,
        draft.at_ms,
        entry_index,
        command.assignees,
        expires_at_ms,
        command.on_timeout,
    )
    row.approval_count += 1
    row.open_approval_count += 1
    if not expires_at_ms:
        return
    if expires_at_ms <= draft.at_ms:
        expire_approval(draft, row, index)
    else:
        put_timer(draft, row, expires_at_ms, slot_of_approval(index))


def expire_approval(draft: Draft, row: InvocationRow, index: int) -> None:
    """Nobody has decided in time: tell the handler, which knows what happens then.

    The timer is gone already.
    """
    approval = approval_of(draft, row.id, index)
    if approval is None or approval.status is not ApprovalStatus.OPEN:
        return
    content = DecisionContent(
        approved=approval.on_timeout == "approve", at_ms=draft.at_ms, timed_out=True
    )
    decision_index = row.journal_length
    close_approval(draft, row, index, ApprovalStatus.EXPIRED, decision_index=decision_index)
    _deliver(draft, row, index, content)


def on_approval_decided(draft: Draft, record: ApprovalDecided) -> None:
    """Take the first decision; later ones are told that there is one."""
    invocation_id, index = record.invocation_id, record.index
    row = draft.invocation(invocation_id)
    approval = None if row is None else approval_of(draft, invocation_id, index)
    if row is None or approval is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    draft.answer = Answer(Reply.CONFLICT, row.status)
    if approval.status is not ApprovalStatus.OPEN:
        return
    assert row.status is not Status.COMPLETED, f"{row.id} has ended with an open approval"
    row = draft.edit(invocation_id)
    assert row is not None
    drop_deadline(draft, row, index)
    if 0 < approval.expires_at_ms <= draft.at_ms:
        # Its timer is late, not the deadline.
        expire_approval(draft, row, index)
        return
    draft.answer = Answer(Reply.ACCEPTED, row.status)
    close_approval(
        draft,
        row,
        index,
        ApprovalStatus.APPROVED if record.is_approved else ApprovalStatus.REJECTED,
        decision_index=row.journal_length,
        by=record.by,
        comment=record.comment,
    )
    content = DecisionContent(
        approved=record.is_approved,
        value=raw_json(record.value),
        arguments=raw_json(record.arguments),
        by=record.by,
        comment=record.comment,
        at_ms=draft.at_ms,
    )
    _deliver(draft, row, index, content)


def _deliver(draft: Draft, row: InvocationRow, index: int, content: DecisionContent) -> None:
    deliver(draft, row, Signal(Value(encode_decision(content)), index=index, at_ms=draft.at_ms))
