"""A request to invoke, from a client or from another invocation.

The id is the identity: requests with an idempotency key carry an id derived from it, so the second
one finds the row of the first. So does a second request for the main handler of a workflow key: who
calls it then is refused, and may attach instead.
"""

from __future__ import annotations

from holdfast.domain.message import Failure, Input, Value
from holdfast.domain.target import HandlerKind
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.lifecycle import admit, answer_sink, is_inbox_full, put_timer
from holdfast.engine.record import INVOKED, CompletionSent, Invoke
from holdfast.engine.row import SLOT_START, InvocationRow, OriginKind, Status, Table
from holdfast.engine.timeout import limit_time
from holdfast.engine.view import Draft


def on_invoke(draft: Draft, record: Invoke) -> None:
    """Make the invocation, or join the one that exists."""
    existing = draft.edit(record.invocation_id)
    if existing is not None:
        if record.sink is not None:
            if record.handler_kind is HandlerKind.WORKFLOW:
                draft.send(CompletionSent(record.sink, INVOKED), record.sink.invocation_id)
            else:
                answer_sink(draft, existing, record.sink, is_waiting=True)
        draft.answer = Answer(Reply.PREVIOUSLY_ACCEPTED, existing.status)
        return
    row = InvocationRow(
        id=record.invocation_id,
        target=record.target,
        service_kind=record.service_kind,
        handler_kind=record.handler_kind,
        status=Status.SCHEDULED,
        created_at_ms=draft.at_ms,
        modified_at_ms=draft.at_ms,
        origin=record.origin,
        idempotency_key=record.idempotency_key,
        execute_at_ms=record.execute_at_ms,
        sinks=() if record.sink is None else (record.sink,),
        retention_ms=record.retention_ms,
        timeout_ms=record.timeout_ms,
        retry=record.retry,
    )
    if is_inbox_full(draft, row) and not _must_accept(record):
        if record.sink is not None:
            failure = Failure(429, f"the inbox of {record.target} is full [HF1429]")
            draft.send(CompletionSent(record.sink, failure), record.sink.invocation_id)
        draft.answer = Answer(Reply.OVERLOADED)
        return
    draft.rows[Table.INVOCATION, row.id] = row
    entry = Input(Value(record.parameter), record.headers)
    draft.append(row, entry)
    limit_time(draft, row)
    if record.execute_at_ms > draft.at_ms:
        put_timer(draft, row, record.execute_at_ms, SLOT_START)
    else:
        admit(draft, row, (entry,) if _may_start_early(record) else None)
    draft.answer = Answer(Reply.ACCEPTED, row.status)


def _may_start_early(record: Invoke) -> bool:
    # A crash may take back what has made this invocation. A client then asks again, or it never
    # knew. A handler is replayed and makes it again, and unless a key names it, under another id:
    # its steps would run twice under two identities.
    return record.origin.kind is OriginKind.INGRESS or record.idempotency_key is not None


def _must_accept(record: Invoke) -> bool:
    # A one-way call was recorded in its caller's journal as made; nobody could be told otherwise.
    return record.origin.kind is OriginKind.SERVICE and record.sink is None
