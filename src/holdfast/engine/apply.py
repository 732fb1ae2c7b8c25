"""The two functions of the core: `footprint` and `apply`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never, get_args

from holdfast.domain.message import SIGNAL_CANCEL, Emit, Suspension
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.detail import detail_keys
from holdfast.engine.on_approval import on_approval_decided
from holdfast.engine.on_emit import emit_keys
from holdfast.engine.on_handler_sent import on_handler_sent
from holdfast.engine.on_invoke import on_invoke
from holdfast.engine.on_operation import (
    on_pause_requested,
    on_purge_requested,
    on_restart_requested,
    on_resume_requested,
)
from holdfast.engine.on_record import (
    on_attach_requested,
    on_attempt_lost,
    on_attempt_resumed,
    on_completion_sent,
    on_expired,
    on_kill_requested,
    on_signal_sent,
    on_timer_fired,
)
from holdfast.engine.on_state import on_state_edited, on_state_expired
from holdfast.engine.record import (
    ApprovalDecided,
    AttachRequested,
    AttemptLost,
    AttemptResumed,
    CompletionSent,
    Expired,
    HandlerSent,
    Inbound,
    Invoke,
    KillRequested,
    OutboxSent,
    PauseRequested,
    PurgeRequested,
    Record,
    RestartRequested,
    ResumeRequested,
    SignalSent,
    StateEdited,
    StateExpired,
    TimerFired,
)
from holdfast.engine.row import DedupRow, Key, Lookup, Table, note_of_signal
from holdfast.engine.suspension import suspension_notes
from holdfast.engine.view import Draft, Stamp, View


def footprint(record: Record) -> list[Key]:
    """Return the keys that `apply` will probably need. A best guess: it may ask for more."""
    match record:
        case Inbound(from_partition=sender, message=message):
            return [(Table.DEDUP, sender), *footprint(message)]
        case Invoke(invocation_id=invocation_id, target=target):
            if target.key is None:
                return [(Table.INVOCATION, invocation_id)]
            return [
                (Table.INVOCATION, invocation_id),
                (Table.LOCK, target.service, target.key),
            ]
        case HandlerSent():
            return _handler_keys(record)
        case TimerFired():
            return [
                (Table.TIMER, record.timer_at_ms, record.invocation_id, record.slot),
                (Table.INVOCATION, record.invocation_id),
            ]
        case KillRequested(invocation_id=invocation_id):
            return [(Table.INVOCATION, invocation_id), (Lookup.CHILDREN, invocation_id)]
        case CompletionSent(sink=sink):
            return [(Table.INVOCATION, sink.invocation_id)]
        case ApprovalDecided(invocation_id=invocation_id, index=index):
            return [(Table.INVOCATION, invocation_id), (Table.APPROVAL, invocation_id, index)]
        case OutboxSent() | StateEdited() | StateExpired():
            return []
        case SignalSent() | AttachRequested() | AttemptLost() | AttemptResumed() | Expired():
            return [(Table.INVOCATION, record.invocation_id), *_notes(record)]
        case PauseRequested() | ResumeRequested() | RestartRequested() | PurgeRequested():
            return [(Table.INVOCATION, record.invocation_id)]
        case _:
            assert_never(record)


def _handler_keys(record: HandlerSent) -> list[Key]:
    invocation_id, messages = record.invocation_id, record.messages
    keys: list[Key] = [
        (Table.INVOCATION, invocation_id),
        *detail_keys(invocation_id, record.attempt, messages),
    ]
    if type(messages[0]) is Emit:
        keys += emit_keys(invocation_id, messages)
    last = messages[-1]
    if isinstance(last, Suspension):
        keys += [(Lookup.NOTIFICATION, invocation_id, note) for note in suspension_notes(last)]
    return keys


def _notes(record: Record) -> list[Key]:
    """Return where to look for an earlier completion of the same awakeable, if this is one."""
    if not isinstance(record, SignalSent) or record.signal.index in (None, SIGNAL_CANCEL):
        return []
    note = note_of_signal(record.signal.index, None)
    return [(Lookup.NOTIFICATION, record.invocation_id, note)]


def apply(view: View, record: Record, stamp: Stamp) -> Draft:
    """Decide what one record changes. Pure: same view, record and stamp, same decision.

    The decision is not yet part of the view; `View.merge` makes it so.

    Args:
        view: Rows loaded for this batch, overlaid with earlier decisions of the batch.
        record: What has happened.
        stamp: Time and entropy from the leader.

    Raises:
        Missing: A row outside the loaded ones is needed. Load it and call again.
    """
    draft = Draft(view, stamp)
    _dispatch(draft, record)
    answer = draft.answer
    while draft.follow_ups:
        messages, draft.follow_ups = draft.follow_ups, []
        if len(messages) > 1:
            # All at once: each row that is missing alone would have the record applied once more.
            draft.require([key for message in messages for key in footprint(message)])
        for message in messages:
            _dispatch(draft, message)
    draft.answer = answer
    return draft


def _dispatch(draft: Draft, record: Record) -> None:
    _HANDLERS[type(record)](draft, record)


def _on_inbound(draft: Draft, record: Inbound) -> None:
    """Take in a message of another partition, unless it was taken in before.

    Senders keep order and never skip, so one number per sender tells. If the message before it was
    refused, that number must not pass it, or it would be taken for one that is known.
    """
    key: Key = (Table.DEDUP, record.from_partition)
    row = draft.fact(key)
    seen = row.sequence if isinstance(row, DedupRow) else 0
    if record.sequence <= seen:
        draft.answer = Answer(Reply.IGNORED)
        return
    if record.after_sequence > seen:
        draft.answer = Answer(Reply.CONFLICT)
        return
    draft.rows[key] = DedupRow(record.sequence)
    _dispatch(draft, record.message)


def _on_outbox_sent(draft: Draft, record: OutboxSent) -> None:
    for sequence in record.sequences:
        draft.rows[Table.OUTBOX, sequence] = None


_HANDLERS: dict[type[Record], Callable[[Draft, Any], None]] = {
    HandlerSent: on_handler_sent,
    Invoke: on_invoke,
    TimerFired: on_timer_fired,
    CompletionSent: on_completion_sent,
    SignalSent: on_signal_sent,
    Inbound: _on_inbound,
    OutboxSent: _on_outbox_sent,
    AttemptLost: on_attempt_lost,
    AttemptResumed: on_attempt_resumed,
    StateEdited: on_state_edited,
    StateExpired: on_state_expired,
    ApprovalDecided: on_approval_decided,
    KillRequested: on_kill_requested,
    AttachRequested: on_attach_requested,
    Expired: on_expired,
    PauseRequested: on_pause_requested,
    ResumeRequested: on_resume_requested,
    RestartRequested: on_restart_requested,
    PurgeRequested: on_purge_requested,
}
assert set(_HANDLERS) == set(get_args(Record)), "every record has a handler"
