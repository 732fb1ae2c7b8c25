"""The life of an invocation: the transitions that several records share.

    SCHEDULED ──due──▶ PENDING ──key free──▶ RUNNING ──output, end──▶ COMPLETED ──retention──▶ gone
                                             │  ▲ ▲
               nothing to do until something │  │ └─ retry time ── BACKING_OFF ◀─ attempt failed
               arrives it waits for          ▼  │                      │
                                          SUSPENDED                    └─ attempts used up ─▶ PAUSED

A person may pause what is RUNNING, SUSPENDED or BACKING_OFF, and resume what is PAUSED, SUSPENDED
or BACKING_OFF (`on_operation.py`). Kill leads from every state to COMPLETED. An exclusive
invocation holds its object key from RUNNING to COMPLETED, whatever lies between.
"""

from __future__ import annotations

from copy import copy
from hashlib import blake2b

from msgspec.structs import replace

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    TIME_MS_MAX,
    AwaitTree,
    Completion,
    DelayRule,
    Entry,
    Failure,
    Notification,
    Outcome,
    Output,
    Signal,
    StepFailures,
    Void,
)
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.target import HandlerKind
from holdfast.engine.annex import (
    add_sink,
    drop,
    drop_waiting,
    put_waiting,
    take_sinks,
    waiting_of,
)
from holdfast.engine.approval import forget_approvals, withdraw_approvals
from holdfast.engine.await_tree import settle
from holdfast.engine.decision import (
    DeleteJournal,
    DeleteStreams,
    DeleteTimers,
    EndAttempt,
    Forward,
    RegisterTimer,
    Respond,
    StartAttempt,
)
from holdfast.engine.detail import forget_details
from holdfast.engine.limit import INBOX_LENGTH_MAX, STEP_FAILURES_MAX
from holdfast.engine.on_state import apply_edit
from holdfast.engine.promise import forget_promises, leave_promises
from holdfast.engine.record import CompletionSent
from holdfast.engine.row import (
    SLOT_RETRY,
    AttemptFailure,
    InboxRow,
    InvocationRow,
    LockRow,
    Sink,
    Status,
    Table,
    TimerRow,
    Waiting,
)
from holdfast.engine.view import Draft

RETRY_DEFAULT = RetrySchedule()
_JITTER_SHARE = 0.3
_INBOX_PAGE_ROWS = 256
"""Places of an inbox that are loaded together, once there was a gap."""


def admit(draft: Draft, row: InvocationRow, entries: tuple[Entry, ...] | None = None) -> None:
    """Start an invocation, or queue it behind the holder of its object key."""
    key = row.target.key
    if row.handler_kind is not HandlerKind.EXCLUSIVE or key is None:
        # With a key there is state to read, which a batch before this one may be about to commit.
        start(draft, row, entries if key is None else None)
        return
    service = row.target.service
    lock = draft.lock(service, key)
    if lock is None:
        draft.rows[Table.LOCK, service, key] = LockRow(row.id)
        start(draft, row)
        return
    row.status = Status.PENDING
    row.inbox_sequence = lock.tail
    draft.rows[Table.INBOX, service, key, lock.tail] = InboxRow(row.id)
    draft.rows[Table.LOCK, service, key] = LockRow(lock.holder, lock.head, lock.tail + 1)


def start(draft: Draft, row: InvocationRow, entries: tuple[Entry, ...] | None = None) -> None:
    """Begin the next attempt."""
    row.status = Status.RUNNING
    row.attempt += 1
    row.attempt_base = row.journal_length
    drop_waiting(draft, row)
    row.retry_at_ms = 0
    draft.act(StartAttempt(copy(row), entries))


def deliver(draft: Draft, row: InvocationRow, notification: Notification) -> None:
    """Record a notification and let the handler know."""
    index = draft.append(row, notification)
    if isinstance(notification, Signal):
        if notification.index == SIGNAL_CANCEL:
            row.cancel_index = index
        elif notification.index is None:
            row.named_signal_index = index
    if row.status is Status.RUNNING:
        draft.act(Forward(row.id, row.attempt, notification))
    elif row.status is Status.SUSPENDED:
        _wake(draft, row, notification)


def _wake(draft: Draft, row: InvocationRow, notification: Notification) -> None:
    """Begin the next attempt, if this is what a suspended invocation still waits for."""
    waiting = waiting_of(draft, row)
    if not _is_awaited(waiting, notification):
        return
    if waiting.tree is not None:
        left = settle(waiting.tree, notification)
        if isinstance(left, AwaitTree):
            put_waiting(draft, row, replace(waiting, tree=left))
            return
    row.retry_count = 0
    start(draft, row)


def _is_awaited(waiting: Waiting, notification: Notification) -> bool:
    match notification:
        case Completion(completion_id=completion_id):
            return completion_id in waiting.completions
        case Signal(index=None, name=name):
            return name in waiting.named_signals
        case Signal(index=index):
            return index in waiting.signals


def put_timer(draft: Draft, row: InvocationRow, at_ms: int, slot: str) -> None:
    """Write a timer of an invocation, at the latest for the last time that can be stored."""
    at_ms = min(at_ms, TIME_MS_MAX)
    draft.rows[Table.TIMER, at_ms, row.id, slot] = TimerRow()
    row.timer_count += 1
    draft.act(RegisterTimer(at_ms, row.id, slot))


def fail_attempt(
    draft: Draft,
    row: InvocationRow,
    failure: AttemptFailure,
    *,
    delay_ms: int | None = None,
    delay_rule: DelayRule = DelayRule.UNCOUNTED,
) -> None:
    """Record a failed attempt and decide what comes next.

    Args:
        delay_ms: Wait that the handler asks for; None: that of the policy, which counts.
        delay_rule: What it means to the policy.
    """
    row.last_failure = failure
    row.stale_retry_count += 1
    if has_unseen_cancel(row):
        start(draft, row)
        return
    if delay_ms is not None and delay_rule is DelayRule.UNCOUNTED:
        back_off(draft, row, delay_ms)
        return
    if row.retry_count == 0:
        row.retry_since_ms = draft.at_ms
    row.retry_count += 1
    schedule = _schedule(draft, row)
    elapsed_ms = draft.at_ms - row.retry_since_ms
    is_least = delay_rule is DelayRule.LEAST
    wait_ms = schedule.delay_ms(
        row.retry_count,
        elapsed_ms,
        chosen_ms=None if is_least else delay_ms,
        least_ms=delay_ms or 0 if is_least else 0,
    )
    if wait_ms is None:
        if schedule.on_max_attempts is OnMaxAttempts.KILL:
            complete(draft, row, Failure(failure.code, failure.message))
        else:
            pause(row)
        return
    if delay_ms is None or is_least:
        wait_ms += _jitter_ms(row, wait_ms)
        if schedule.max_duration_ms is not None:
            wait_ms = min(wait_ms, schedule.max_duration_ms - elapsed_ms)
    back_off(draft, row, wait_ms)


def has_unseen_cancel(row: InvocationRow) -> bool:
    """Whether the attempt that has ended may not have seen the last cancellation.

    The next one certainly does, and begins at once: who cancels does not want to wait.
    """
    return row.cancel_index >= row.attempt_base


def _schedule(draft: Draft, row: InvocationRow) -> RetrySchedule:
    if row.retry is not None:
        return row.retry
    handler = draft.handler(row.target.service, row.target.handler)
    return (handler.manifest.retry if handler is not None else None) or RETRY_DEFAULT


def back_off(draft: Draft, row: InvocationRow, delay_ms: int) -> None:
    """Start the next attempt after a while."""
    if delay_ms <= 0:
        start(draft, row)
        return
    row.status = Status.BACKING_OFF
    row.retry_at_ms = min(draft.at_ms + delay_ms, TIME_MS_MAX)
    put_timer(draft, row, row.retry_at_ms, SLOT_RETRY)


def pause(row: InvocationRow) -> None:
    """Start no more attempts until a person says so."""
    row.status = Status.PAUSED
    row.retry_at_ms = 0


def count_step_failures(draft: Draft, row: InvocationRow, completion_ids: tuple[int, ...]) -> None:
    """Remember that steps failed once more.

    Those that are counted stay until they have a result, which a policy brings about some day: then
    others take their places. If newcomers took them, no step would ever use up its attempts.
    """
    failures = {f.completion_id: f for f in row.step_failures}
    for completion_id in completion_ids:
        known = failures.get(completion_id)
        if known is None and len(failures) >= STEP_FAILURES_MAX:
            continue
        failures[completion_id] = (
            StepFailures(completion_id, 1, draft.at_ms)
            if known is None
            else StepFailures(completion_id, known.count + 1, known.since_ms)
        )
    row.step_failures = tuple(failures.values())


def _jitter_ms(row: InvocationRow, delay_ms: int) -> int:
    # Derived from the id, so that applying twice decides the same, and spread over invocations, so
    # that those that failed together do not come back together.
    digest = blake2b(f"{row.id}{row.retry_count}".encode(), digest_size=2).digest()
    share = int.from_bytes(digest, "big") / 0xFFFF
    return int(delay_ms * _JITTER_SHARE * share)


def complete(
    draft: Draft, row: InvocationRow, outcome: Outcome, output_index: int | None = None
) -> None:
    """End an invocation and tell everybody who waits for its outcome.

    Args:
        output_index: Journal index of the Output that holds the outcome; None appends one.
    """
    if row.status is Status.PENDING:
        _leave_inbox(draft, row)
        holds_key = False
    else:
        holds_key = row.status is not Status.SCHEDULED and is_exclusive(row)
    if row.status is Status.RUNNING:
        draft.act(EndAttempt(row.id, row.attempt, is_abort=output_index is None))
    if output_index is None:
        output_index = draft.append(row, Output(outcome))
    row.status = Status.COMPLETED
    row.output_index = output_index
    row.has_failed = isinstance(outcome, Failure)
    row.completed_at_ms = draft.at_ms
    row.expires_at_ms = draft.at_ms + row.retention_ms
    row.step_failures = ()
    if row.timer_count:
        row.timer_count = 0
        draft.delete_range(DeleteTimers(row.id))
    leave_promises(draft, row)
    withdraw_approvals(draft, row)
    sinks = take_sinks(draft, row)
    drop(draft, row)
    for sink in sinks:
        draft.send(CompletionSent(sink, outcome), sink.invocation_id)
    draft.act(Respond(row.id, outcome))
    if holds_key:
        _release(draft, row)


def remove(draft: Draft, row: InvocationRow) -> None:
    """Remove a completed invocation with its journal, and all that belongs to a workflow key."""
    assert row.status is Status.COMPLETED, f"{row.id} is {row.status!r}"
    draft.rows[Table.INVOCATION, row.id] = None
    draft.delete_range(DeleteJournal(row.id))
    forget_details(draft, row)
    forget_approvals(draft, row)
    if row.stream_count:
        draft.delete_range(DeleteStreams(row.id))
    if row.handler_kind is HandlerKind.WORKFLOW:
        assert row.target.key is not None
        draft.clear_state(row.target.service, row.target.key)
        forget_promises(draft, row)
        # Those of promises that were completed before it began.
        draft.delete_range(DeleteTimers(row.id))


def is_exclusive(row: InvocationRow) -> bool:
    """Whether an invocation needs its object key for itself."""
    return row.handler_kind is HandlerKind.EXCLUSIVE and row.target.key is not None


def is_inbox_full(draft: Draft, row: InvocationRow) -> bool:
    """Whether one more invocation may not wait for an object key."""
    if not is_exclusive(row) or row.target.key is None:
        return False
    lock = draft.lock(row.target.service, row.target.key)
    return lock is not None and lock.tail - lock.head >= INBOX_LENGTH_MAX


def _leave_inbox(draft: Draft, row: InvocationRow) -> None:
    service, key, sequence = row.target.service, row.target.key, row.inbox_sequence
    assert key is not None
    draft.rows[Table.INBOX, service, key, sequence] = None
    lock = draft.lock(service, key)
    assert lock is not None, f"{row.id} waits for a key that nobody holds"
    # At the ends the queue shrinks. A gap inside stays: whoever releases the key skips it.
    if sequence == lock.head:
        draft.rows[Table.LOCK, service, key] = LockRow(lock.holder, sequence + 1, lock.tail)
    elif sequence == lock.tail - 1:
        draft.rows[Table.LOCK, service, key] = LockRow(lock.holder, lock.head, sequence)


def _release(draft: Draft, row: InvocationRow) -> None:
    """Give the object key to the next in its inbox."""
    service, key = row.target.service, row.target.key
    assert key is not None
    lock = draft.lock(service, key)
    assert lock is not None, f"{row.id}: nobody holds its key"
    assert lock.holder == row.id, f"{row.id} does not hold its key: {lock}"
    for sequence in range(lock.head, lock.tail):
        if (sequence - lock.head) % _INBOX_PAGE_ROWS == 1:
            page = range(sequence, min(sequence + _INBOX_PAGE_ROWS, lock.tail))
            draft.require([(Table.INBOX, service, key, s) for s in page])
        waiting = draft.inbox(service, key, sequence)
        if waiting is None:
            continue
        draft.rows[Table.INBOX, service, key, sequence] = None
        if waiting.edit is not None:
            apply_edit(draft, service, key, waiting.edit)
            continue
        draft.rows[Table.LOCK, service, key] = LockRow(
            waiting.invocation_id, sequence + 1, lock.tail
        )
        following = draft.edit(waiting.invocation_id)
        assert following is not None, f"{waiting.invocation_id} waits and does not exist"
        assert following.status is Status.PENDING, f"{following.id} is {following.status!r}"
        start(draft, following)
        return
    draft.rows[Table.LOCK, service, key] = None


def outcome_of(draft: Draft, row: InvocationRow) -> Outcome:
    """Return the outcome of a completed invocation."""
    assert row.output_index is not None
    entry = draft.entry(row.id, row.output_index)
    assert isinstance(entry, Output), f"{row.id}: entry {row.output_index} is not its output"
    return entry.result


def answer_sink(draft: Draft, row: InvocationRow, sink: Sink, *, is_waiting: bool) -> None:
    """Give the outcome to a sink, now or when there is one."""
    if row.status is Status.COMPLETED:
        draft.send(CompletionSent(sink, outcome_of(draft, row)), sink.invocation_id)
    elif not is_waiting:
        draft.send(CompletionSent(sink, Void()), sink.invocation_id)
    else:
        add_sink(draft, row, sink)
