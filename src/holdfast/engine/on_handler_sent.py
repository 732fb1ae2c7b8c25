"""Messages of a handler: journal entries to record, step results, and the end of an attempt.

Only the current attempt of the current epoch is heard. A message that breaks the rules fails the
attempt; what came before it stands.
"""

from __future__ import annotations

from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    Emit,
    End,
    Error,
    Failure,
    Output,
    ProposeRunCompletion,
    Suspension,
)
from holdfast.engine.annex import close_run, require_open_runs
from holdfast.engine.command import Violation, on_command, require_states
from holdfast.engine.decision import Answer, EndAttempt, Reply
from holdfast.engine.detail import keep_detail, keep_failed
from holdfast.engine.lifecycle import (
    complete,
    count_step_failures,
    deliver,
    fail_attempt,
    has_unseen_cancel,
    pause,
)
from holdfast.engine.limit import JOURNAL_LENGTH_MAX
from holdfast.engine.on_emit import on_emit
from holdfast.engine.record import AttemptLost, HandlerSent
from holdfast.engine.row import (
    AttemptFailure,
    InvocationRow,
    Status,
)
from holdfast.engine.suspension import on_suspension
from holdfast.engine.view import Draft

_BEHAVIOR_PAUSE = 1
_BEHAVIOR_FAIL = 2


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
                    on_suspension(draft, row, message)
                    return
                case Error():
                    _on_error(draft, row, message)
                    return
                case End():
                    _on_end(draft, row)
                    return
                case Emit():
                    _pin(row, record)
                    on_emit(draft, row, message)
                case _:
                    if row.journal_length >= JOURNAL_LENGTH_MAX:
                        raise Violation(
                            f"the journal has reached its limit of {JOURNAL_LENGTH_MAX} entries;"
                            " split the work into invocations of their own [HF2012]",
                            code=500,
                            is_final=True,
                        )
                    on_command(draft, row, message, is_key_told=not record.protocol_version)
                    _pin(row, record)
                    row.stale_retry_count = 0
    except Violation as violation:
        draft.act(EndAttempt(row.id, record.attempt, is_abort=True))
        failure = AttemptFailure(violation.code, str(violation), draft.at_ms)
        if violation.is_final:
            row.last_failure = failure
            pause(row)
        else:
            fail_attempt(draft, row, failure)


def _pin(row: InvocationRow, record: HandlerSent) -> None:
    """Keep to the deployment, and to its version of the protocol: something of it is recorded."""
    if row.deployment_id is None:
        row.deployment_id = record.deployment_id
    if not row.protocol_version:
        row.protocol_version = record.protocol_version


def _on_run_completion(draft: Draft, row: InvocationRow, message: ProposeRunCompletion) -> None:
    completion_id = message.completion_id
    if not close_run(draft, row, completion_id):
        raise Violation(
            f"a result was proposed for step {completion_id}, which is not open [HF2011]"
        )
    if row.step_failures:
        row.step_failures = tuple(f for f in row.step_failures if f.completion_id != completion_id)
    if message.detail is not None:
        keep_detail(draft, row, completion_id, message.detail)
    deliver(draft, row, Completion(KIND_RUN, completion_id, message.result, draft.at_ms))


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
        keep_failed(draft, row, message)
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
