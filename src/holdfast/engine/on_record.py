"""The smaller records: timers, signals, completions, kills, attachments, losses, retention."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    Completion,
    DelayRule,
    Signal,
    Void,
)
from holdfast.domain.target import HandlerKind
from holdfast.engine.approval import is_of_approval
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.lifecycle import (
    admit,
    answer_sink,
    complete,
    deliver,
    fail_attempt,
    has_unseen_cancel,
    remove,
    start,
)
from holdfast.engine.limit import JOURNAL_LENGTH_MAX
from holdfast.engine.on_approval import expire_approval
from holdfast.engine.on_handler_sent import is_current
from holdfast.engine.promise import expire_promises
from holdfast.engine.record import (
    CANCELED,
    KILLED,
    NOT_FOUND,
    AttachRequested,
    AttemptLost,
    AttemptResumed,
    CompletionSent,
    Expired,
    KillRequested,
    SignalSent,
    TimerFired,
)
from holdfast.engine.row import (
    SLOT_ABORT,
    SLOT_RETRY,
    SLOT_START,
    SLOT_TIMEOUT,
    AttemptFailure,
    InvocationRow,
    Status,
    Table,
    approval_of_slot,
    note_of_signal,
    promises_of_slot,
)
from holdfast.engine.timeout import on_timeout
from holdfast.engine.view import Draft

_KIND_SLEEP = 0x800C


def on_timer_fired(draft: Draft, record: TimerFired) -> None:
    """Do what the timer is for. A second firing finds no row and does nothing."""
    key = (Table.TIMER, record.timer_at_ms, record.invocation_id, record.slot)
    if draft.fact(key) is None:
        draft.answer = Answer(Reply.IGNORED)
        return
    assert record.timer_at_ms <= draft.at_ms, f"timer {key} fired early, at {draft.at_ms}"
    draft.rows[key] = None
    promises = promises_of_slot(record.slot)
    if promises is not None:
        expire_promises(draft, *promises)
        return
    row = draft.edit(record.invocation_id)
    if row is None or row.status is Status.COMPLETED:
        return
    row.timer_count -= 1
    approval = approval_of_slot(record.slot)
    if approval is not None:
        expire_approval(draft, row, approval)
    elif record.slot in (SLOT_TIMEOUT, SLOT_ABORT):
        on_timeout(draft, row, record.slot)
    elif record.slot == SLOT_START:
        assert row.status is Status.SCHEDULED
        admit(draft, row)
    elif record.slot == SLOT_RETRY:
        if row.status is Status.BACKING_OFF and row.retry_at_ms == record.timer_at_ms:
            start(draft, row)
    else:
        completion_id = int(record.slot[1:])
        deliver(draft, row, Completion(_KIND_SLEEP, completion_id, Void(), draft.at_ms))


def on_signal_sent(draft: Draft, record: SignalSent) -> None:
    """Record a signal. Finished invocations ignore it; a cancel ends those that wait to begin."""
    known = draft.invocation(record.invocation_id)
    if known is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    if _is_of_another(known, record.parent_id):
        draft.answer = Answer(Reply.IGNORED, known.status)
        return
    row = draft.edit(record.invocation_id)
    assert row is not None
    draft.answer = Answer(Reply.ACCEPTED, row.status)
    is_cancel = record.signal.index == SIGNAL_CANCEL
    match row.status:
        case Status.COMPLETED:
            draft.answer = Answer(Reply.ALREADY_COMPLETED, row.status)
        case Status.SCHEDULED | Status.PENDING if not record.signal.name and row.restarted is None:
            # It has made no awakeable yet, so only a cancel can be meant for it. One that goes on
            # with the journal of another may have something to clean up, and is told when it runs.
            if is_cancel:
                complete(draft, row, CANCELED)
        case _ if is_of_approval(draft, row, record.signal):
            # Only a decision completes it: it fits the form, and says who has decided.
            draft.answer = Answer(Reply.UNSUPPORTED, row.status)
        case _ if _is_told(draft, row, record.signal):
            pass
        case _ if row.journal_length >= JOURNAL_LENGTH_MAX and not (
            is_cancel and row.cancel_index < JOURNAL_LENGTH_MAX
        ):
            # Anybody may send these, and nobody need take them. One cancel more always fits.
            draft.answer = Answer(Reply.OVERLOADED, row.status)
        case _:
            is_idle = row.status in (Status.PAUSED, Status.BACKING_OFF)
            deliver(draft, row, replace(record.signal, at_ms=draft.at_ms))
            if is_cancel and is_idle:
                start(draft, row)


def _is_told(draft: Draft, row: InvocationRow, signal: Signal) -> bool:
    """Whether recording a signal once more would tell the handler nothing.

    Of an awakeable the first completion counts. A cancel right behind another one, to an attempt
    that has begun before both and has said nothing since, is the same cancel.
    """
    if signal.index == SIGNAL_CANCEL:
        is_last = row.cancel_index == row.journal_length - 1
        return row.status is Status.RUNNING and is_last and has_unseen_cancel(row)
    if signal.index is None:
        return False
    return draft.has_notification(row.id, note_of_signal(signal.index, None))


def _is_of_another(row: InvocationRow, parent_id: str) -> bool:
    """Whether who called an invocation, and now ends it, has found it there, made by another.

    Only those whose id follows from the request can be found. The others have one caller, or go on
    with its journal after a restart.
    """
    is_shared = row.handler_kind is HandlerKind.WORKFLOW or row.idempotency_key is not None
    return is_shared and parent_id not in ("", row.origin.invocation_id)


def on_completion_sent(draft: Draft, record: CompletionSent) -> None:
    """Record the result of a call or an attach."""
    sink = record.sink
    row = draft.edit(sink.invocation_id)
    if row is None or row.status is Status.COMPLETED or row.created_at_ms != sink.created_at_ms:
        draft.answer = Answer(Reply.IGNORED)
        return
    deliver(draft, row, Completion(sink.kind, sink.completion_id, record.result, draft.at_ms))


def on_kill_requested(draft: Draft, record: KillRequested) -> None:
    """End an invocation now, and all that it called."""
    row = draft.invocation(record.invocation_id)
    if row is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    if _is_of_another(row, record.parent_id):
        draft.answer = Answer(Reply.IGNORED, row.status)
        return
    row = draft.edit(record.invocation_id)
    assert row is not None
    draft.answer = Answer(Reply.ACCEPTED, row.status)
    if row.status is Status.COMPLETED:
        draft.answer = Answer(Reply.ALREADY_COMPLETED, row.status)
        return
    children = draft.children(row.id)
    complete(draft, row, KILLED)
    for child_id in children:
        draft.send(KillRequested(child_id, row.id), child_id)


def on_attach_requested(draft: Draft, record: AttachRequested) -> None:
    """Connect a sink to the outcome of an invocation."""
    row = draft.edit(record.invocation_id)
    if row is None:
        draft.send(CompletionSent(record.sink, NOT_FOUND), record.sink.invocation_id)
        return
    answer_sink(draft, row, record.sink, is_waiting=record.is_waiting)


def on_attempt_lost(draft: Draft, record: AttemptLost) -> None:
    """Try again: at once the first time, later, or where it was refused, by the retry policy."""
    row = draft.invocation(record.invocation_id)
    if not is_current(draft, row, record):
        draft.answer = Answer(Reply.IGNORED)
        return
    row = draft.edit(record.invocation_id)
    assert row is not None
    failure = AttemptFailure(record.code, record.reason, draft.at_ms)
    if record.is_refused:
        stale_retry_count = row.stale_retry_count
        least_ms = record.retry_after_ms
        fail_attempt(draft, row, failure, delay_ms=least_ms, delay_rule=DelayRule.LEAST)
        if not record.is_counted:
            row.stale_retry_count = stale_retry_count
    elif row.stale_retry_count == 0:
        # Workers come and go, with each deployment too. That it made progress shows that it is not
        # this invocation that takes them down, so the loss does not use up its attempts.
        fail_attempt(draft, row, failure, delay_ms=0)
    else:
        fail_attempt(draft, row, failure)


def on_attempt_resumed(draft: Draft, record: AttemptResumed) -> None:
    """Start the attempt that the leader before this one may have lost."""
    row = draft.edit(record.invocation_id)
    if row is not None and row.status is Status.RUNNING:
        start(draft, row)


def on_expired(draft: Draft, record: Expired) -> None:
    """Remove a completed invocation whose retention has passed, with all that belongs to it."""
    row = draft.invocation(record.invocation_id)
    if row is None or row.status is not Status.COMPLETED or row.expires_at_ms > draft.at_ms:
        draft.answer = Answer(Reply.IGNORED)
        return
    remove(draft, row)
