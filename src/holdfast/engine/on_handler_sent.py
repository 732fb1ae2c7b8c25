"""Messages of a handler: journal entries to record, step results, and the end of an attempt.

Only the current attempt of the current epoch is heard. A message that breaks the rules fails the
attempt; what came before it stands.
"""

from __future__ import annotations

from holdfast.domain.message import (
    KIND_RUN,
    SIGNAL_CANCEL,
    Completion,
    End,
    Error,
    Failure,
    Output,
    ProposeRunCompletion,
    Suspension,
)
from holdfast.engine.annex import close_run, put_waiting, require_open_runs
from holdfast.engine.command import Violation, on_command, require_states
from holdfast.engine.decision import Answer, EndAttempt, Reply
from holdfast.engine.lifecycle import (
    complete,
    count_step_failures,
    deliver,
    fail_attempt,
    has_unseen_cancel,
    pause,
    start,
)
from holdfast.engine.limit import JOURNAL_LENGTH_MAX
from holdfast.engine.record import AttemptLost, HandlerSent
from holdfast.engine.row import (
    AttemptFailure,
    InvocationRow,
    Status,
    Waiting,
    note_of_completion,
    note_of_signal,
)
from holdfast.engine.view import Draft

_BEHAVIOR_PAUSE = 1
_BEHAVIOR_FAIL = 2
_CANCEL_NOTE = note_of_signal(SIGNAL_CANCEL, None)


def is_current(draft: Draft, row: InvocationRow | None, record: HandlerSent | AttemptLost) -> bool:
    """Whether a record comes from the attempt that may write to this journal."""
    return (
        row is not None
        and row.status is Status.RUNNING
        and row.attempt == record.attempt
        and draft.view.epoch == record.epoch
        and record.created_at_ms in (None, row.created_at_ms)
    )


def on_handler_sent(draft: Draft, record: HandlerSent) -> None:
    """Apply messages of an attempt."""
    row = draft.invocation(record.invocation_id)
    if not is_current(draft, row, record):
        draft.answer = Answer(Reply.IGNORED)
        return
    row = draft.edit(record.invocation_id)
    assert row is not None
    if len(record.messages) > 1:
        require_open_runs(draft, row, record.messages)
        require_states(draft, row, record.messages)
    try:
        for message in record.messages:
            match message:
                case ProposeRunCompletion():
                    _on_run_completion(draft, row, message)
                case Suspension():
                    _on_suspension(draft, row, message)
                    return
                case Error():
                    _on_error(draft, row, message)
                    return
                case End():
                    _on_end(draft, row)
                    return
                case _:
                    _pin(row, record.deployment_id)
                    row.stale_retry_count = 0
                    if row.journal_length >= JOURNAL_LENGTH_MAX:
                        raise Violation(
                            f"the journal has reached its limit of {JOURNAL_LENGTH_MAX} entries;"
                            " split the work into invocations of their own [HF2012]",
                            code=500,
                            is_final=True,
                        )
                    on_command(draft, row, message)
    except Violation as violation:
        draft.act(EndAttempt(row.id, record.attempt, is_abort=True))
        failure = AttemptFailure(violation.code, str(violation), draft.at_ms)
        if violation.is_final:
            row.last_failure = failure
            pause(row)
        else:
            fail_attempt(draft, row, failure)


def _pin(row: InvocationRow, deployment_id: str) -> None:
    if row.deployment_id is None:
        row.deployment_id = deployment_id


def _on_run_completion(draft: Draft, row: InvocationRow, message: ProposeRunCompletion) -> None:
    completion_id = message.completion_id
    if not close_run(draft, row, completion_id):
        raise Violation(
            f"a result was proposed for step {completion_id}, which is not open [HF2011]"
        )
    if row.step_failures:
        row.step_failures = tuple(f for f in row.step_failures if f.completion_id != completion_id)
    deliver(draft, row, Completion(KIND_RUN, completion_id, message.result, draft.at_ms))


def _on_suspension(draft: Draft, row: InvocationRow, message: Suspension) -> None:
    notes = suspension_notes(message)
    if not notes and not message.named_signals:
        raise Violation("a suspension without anything to wait for [HF2010]")
    # Handlers always wait for a cancel, also when they had one, and for the next signal of a name.
    # Only one that this attempt may not have seen before it suspended is news; the next attempt
    # certainly sees it.
    is_cancelled = _CANCEL_NOTE in notes and has_unseen_cancel(row)
    is_signalled = bool(message.named_signals) and row.named_signal_index >= row.attempt_base
    if (
        is_cancelled
        or is_signalled
        or any(draft.has_notification(row.id, note) for note in notes if note != _CANCEL_NOTE)
    ):
        start(draft, row)
        return
    row.status = Status.SUSPENDED
    row.retry_count = 0
    waiting = Waiting(message.completions, message.signals, message.named_signals)
    put_waiting(draft, row, waiting)


def suspension_notes(message: Suspension) -> tuple[str, ...]:
    """Return the notes of what a suspension waits for and what comes at most once."""
    return (
        *(note_of_completion(c) for c in message.completions),
        *(note_of_signal(s, None) for s in message.signals),
    )


def _on_error(draft: Draft, row: InvocationRow, message: Error) -> None:
    failure = AttemptFailure(
        message.code,
        message.message,
        draft.at_ms,
        message.stacktrace,
        message.related_command_index,
        message.related_command_name,
        message.related_command_type,
    )
    if message.failed_steps:
        count_step_failures(draft, row, message.failed_steps)
    if message.behavior == _BEHAVIOR_PAUSE and not has_unseen_cancel(row):
        row.last_failure = failure
        pause(row)
    elif message.behavior == _BEHAVIOR_FAIL:
        complete(draft, row, Failure(message.code, message.message))
    else:
        fail_attempt(
            draft,
            row,
            failure,
            delay_ms=message.next_retry_delay_ms,
            delay_rule=message.delay_rule,
        )


def _on_end(draft: Draft, row: InvocationRow) -> None:
    if row.output_index is None:
        raise Violation("the handler ended without an output [HF2013]")
    output = draft.entry(row.id, row.output_index)
    assert isinstance(output, Output)
    complete(draft, row, output.result, row.output_index)
