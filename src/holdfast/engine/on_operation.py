"""What a person does to an invocation: pause, resume, restart, purge.

    operation  RUNNING  SUSPENDED  BACKING_OFF  PAUSED    COMPLETED  SCHEDULED, PENDING
    pause      paused   paused     paused       (is)      refused    refused: it has not begun
    resume     refused  started    started      started   refused    refused: it has not begun
    restart    refused  refused    refused      refused   a new one  refused
    purge      refused  refused    refused      refused   removed    refused

Pausing ends the running attempt at once: what it has recorded stays, the rest is done again. A
paused invocation keeps its object key and takes in what arrives. Everything here may be asked for
twice; the second time changes nothing, and the answer says so. Only a restart makes another
invocation each time, unless it names the same new one.

Which part of a journal a restart keeps, and why it can be replayed, is in `docs/adr/0012`.
"""

from __future__ import annotations

from typing import assert_never

from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    KIND_CALL,
    SIGNAL_CANCEL,
    AskApproval,
    AttachInvocation,
    Call,
    ChildId,
    Completion,
    Entry,
    GetInvocationOutput,
    Input,
    Output,
    Run,
    Signal,
    Sleep,
    Void,
    WithdrawApproval,
    completion_kind,
)
from holdfast.domain.target import ServiceKind
from holdfast.engine.annex import drop_waiting, open_run
from holdfast.engine.approval import withdraw_approval
from holdfast.engine.decision import Answer, DeleteJournal, DeleteStreams, EndAttempt, Reply
from holdfast.engine.detail import copy_details, forget_details
from holdfast.engine.lifecycle import (
    admit,
    deliver,
    is_inbox_full,
    pause,
    put_timer,
    remove,
    start,
)
from holdfast.engine.limit import RESTART_LENGTH_MAX
from holdfast.engine.on_approval import ask_approval
from holdfast.engine.record import (
    AttachRequested,
    PauseRequested,
    PurgeRequested,
    RestartRequested,
    ResumeRequested,
)
from holdfast.engine.row import (
    SLOT_RETRY,
    InvocationRow,
    Origin,
    OriginKind,
    Restarted,
    Sink,
    Status,
    Table,
    slot_of_completion,
)
from holdfast.engine.timeout import limit_time
from holdfast.engine.view import Draft


def on_pause_requested(draft: Draft, record: PauseRequested) -> None:
    """Start no more attempts, and end the one that runs."""
    known = draft.invocation(record.invocation_id)
    if known is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    match known.status:
        case Status.COMPLETED:
            draft.answer = Answer(Reply.ALREADY_COMPLETED, known.status)
        case Status.PAUSED:
            draft.answer = Answer(Reply.IGNORED, known.status)
        case Status.SCHEDULED | Status.PENDING:
            # It would have to remember when it is due, or its place in an inbox that moves on.
            draft.answer = Answer(Reply.CONFLICT, known.status)
        case Status.RUNNING | Status.SUSPENDED | Status.BACKING_OFF:
            draft.answer = Answer(Reply.ACCEPTED, known.status)
            row = _edit(draft, known)
            if row.status is Status.RUNNING:
                draft.act(EndAttempt(row.id, row.attempt, is_abort=True))
            _leave_wait(draft, row)
            pause(row)
        case _:
            assert_never(known.status)


def on_resume_requested(draft: Draft, record: ResumeRequested) -> None:
    """Start the next attempt now, as if none had failed before."""
    known = draft.invocation(record.invocation_id)
    if known is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    match known.status:
        case Status.COMPLETED:
            draft.answer = Answer(Reply.ALREADY_COMPLETED, known.status)
        case Status.SCHEDULED | Status.PENDING | Status.RUNNING:
            draft.answer = Answer(Reply.CONFLICT, known.status)
        case Status.PAUSED | Status.SUSPENDED | Status.BACKING_OFF:
            draft.answer = Answer(Reply.ACCEPTED, known.status)
            row = _edit(draft, known)
            _leave_wait(draft, row)
            row.retry_count = row.stale_retry_count = 0
            row.step_failures = ()
            if record.deployment_id is not None:
                row.deployment_id = record.deployment_id
            start(draft, row)
        case _:
            assert_never(known.status)


def _edit(draft: Draft, known: InvocationRow) -> InvocationRow:
    row = draft.edit(known.id)
    assert row is not None, f"{known.id} has just been there"
    return row


def _leave_wait(draft: Draft, row: InvocationRow) -> None:
    """Take back what would end a wait: an await set, the timer of a retry."""
    drop_waiting(draft, row)
    if row.status is Status.BACKING_OFF:
        draft.rows[Table.TIMER, row.retry_at_ms, row.id, SLOT_RETRY] = None
        row.timer_count -= 1


# -- purge -----------------------------------------------------------------------------------------


def on_purge_requested(draft: Draft, record: PurgeRequested) -> None:
    """Forget a completed invocation, or its journal but for the outcome."""
    known = draft.invocation(record.invocation_id)
    if known is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    draft.answer = Answer(Reply.ACCEPTED, known.status)
    if known.status is not Status.COMPLETED:
        draft.answer = Answer(Reply.CONFLICT, known.status)
    elif not record.is_journal_only:
        remove(draft, known)
    elif known.journal_length == 1:
        # Every journal begins with an input, so a single entry is what an earlier purge has left.
        draft.answer = Answer(Reply.IGNORED, known.status)
    else:
        assert known.output_index is not None
        output = draft.entry(known.id, known.output_index)
        row = _edit(draft, known)
        draft.delete_range(DeleteJournal(row.id))
        if row.stream_count:
            draft.delete_range(DeleteStreams(row.id))
            row.stream_count = 0
        forget_details(draft, row)
        row.detail_count = 0
        row.journal_length = 0
        row.output_index = draft.append(row, output)


# -- restart ---------------------------------------------------------------------------------------


def on_restart_requested(draft: Draft, record: RestartRequested) -> None:
    """Make a new invocation of a completed one."""
    made = draft.invocation(record.new_invocation_id)
    if made is not None:
        draft.answer = Answer(Reply.PREVIOUSLY_ACCEPTED, made.status)
        return
    source = draft.invocation(record.invocation_id)
    if source is None:
        draft.answer = Answer(Reply.NOT_FOUND)
        return
    if source.service_kind is ServiceKind.WORKFLOW:
        # It runs once per key, and promises and state of that key go on without the journal.
        draft.answer = Answer(Reply.UNSUPPORTED, source.status)
        return
    if source.status is not Status.COMPLETED:
        draft.answer = Answer(Reply.CONFLICT, source.status)
        return
    if not isinstance(draft.entry(source.id, 0), Input):
        draft.answer = Answer(Reply.GONE, source.status)
        return
    entries = _kept(draft, source, record.from_index)
    if entries is None:
        draft.answer = Answer(Reply.OUT_OF_RANGE, source.status)
        return
    row = _new_row(draft, record, source, len(entries))
    if is_inbox_full(draft, row):
        draft.answer = Answer(Reply.OVERLOADED)
        return
    draft.rows[Table.INVOCATION, row.id] = row
    for entry in entries:
        index = draft.append(row, entry)
        if isinstance(entry, Signal) and entry.index == SIGNAL_CANCEL:
            row.cancel_index = index
    copy_details(draft, source, row, entries)
    limit_time(draft, row)
    _reopen(draft, row, entries)
    admit(draft, row)
    draft.answer = Answer(Reply.ACCEPTED, row.status)


def _new_row(
    draft: Draft, record: RestartRequested, source: InvocationRow, entry_count: int
) -> InvocationRow:
    restarted = None
    if entry_count > 1:
        first = source.restarted
        restarted = Restarted(
            record.from_index,
            entry_count,
            random_seed(source.id) if first is None else first.random_seed,
            source.due_at_ms if first is None else first.began_at_ms,
        )
    return InvocationRow(
        id=record.new_invocation_id,
        target=source.target,
        service_kind=source.service_kind,
        handler_kind=source.handler_kind,
        status=Status.SCHEDULED,
        created_at_ms=draft.at_ms,
        modified_at_ms=draft.at_ms,
        origin=Origin(OriginKind.RESTART, source.id, str(source.target)),
        retention_ms=source.retention_ms,
        deployment_id=record.deployment_id,
        timeout_ms=source.timeout_ms,
        retry=source.retry,
        restarted=restarted,
    )


def _kept(draft: Draft, source: InvocationRow, from_index: int) -> list[Entry] | None:
    """Return the entries that the new journal begins with; None when `from_index` is no such end.

    That are all up to `from_index`, and the completions that their commands got later.
    """
    if from_index == 0:
        return [draft.entry(source.id, 0)]
    if not 0 < from_index < source.journal_length or source.journal_length > RESTART_LENGTH_MAX:
        return None
    entries = draft.entries(source)
    kept, later = entries[: from_index + 1], entries[from_index + 1 :]
    if any(isinstance(entry, Output) for entry in kept):
        # Nothing is left to do behind an output.
        return None
    made = {number for entry in kept for number in completion_ids_of(entry)}
    kept += [e for e in later if isinstance(e, Completion) and e.completion_id in made]
    return kept


def completion_ids_of(entry: Entry) -> tuple[int, ...]:
    """Return the ids under which a command gets its results; none for notifications."""
    if isinstance(entry, Completion):
        return ()
    names = ("completion_id", "invocation_id_completion_id")
    return tuple(getattr(entry, name) for name in names if hasattr(entry, name))


def _reopen(draft: Draft, row: InvocationRow, entries: list[Entry]) -> None:
    """See to it that commands without a result get theirs in the new invocation."""
    results = {e.completion_id: e.result for e in entries if isinstance(e, Completion)}
    signalled = {e.index for e in entries if isinstance(e, Signal)}
    for place, entry in enumerate(entries):
        match entry:
            case Run(completion_id=number) if number not in results:
                open_run(draft, row, number)
            case Sleep(completion_id=number) if number not in results:
                if entry.wake_up_at_ms <= draft.at_ms:
                    kind = completion_kind(entry)
                    deliver(draft, row, Completion(kind, number, Void(), draft.at_ms))
                else:
                    put_timer(draft, row, entry.wake_up_at_ms, slot_of_completion(number))
            case Call(completion_id=number) if number not in results:
                made = results[entry.invocation_id_completion_id]
                assert isinstance(made, ChildId), f"{row.id}: {entry} has made {made}"
                _attach(draft, row, made.invocation_id, number, KIND_CALL)
            case AttachInvocation(completion_id=number) if number not in results:
                _attach(draft, row, entry.target_invocation_id, number, completion_kind(entry))
            case GetInvocationOutput(completion_id=number) if number not in results:
                target_id = entry.target_invocation_id
                _attach(draft, row, target_id, number, completion_kind(entry), is_waiting=False)
            case AskApproval(index=index) if index not in signalled:
                ask_approval(draft, row, entry, place)
            case WithdrawApproval(index=index):
                withdraw_approval(draft, row, index)
            case _:
                # The others have no result, or get it with their command.
                pass


def _attach(
    draft: Draft,
    row: InvocationRow,
    target_id: str,
    completion_id: int,
    kind: int,
    *,
    is_waiting: bool = True,
) -> None:
    sink = Sink(row.id, completion_id, kind, row.created_at_ms)
    draft.send(AttachRequested(target_id, sink, is_waiting), target_id)
