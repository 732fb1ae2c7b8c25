"""Durable promises: named values of a workflow key that are completed once.

    absent ──somebody waits──▶ pending ──completed──▶ complete ──the workflow is removed──▶ absent
       ▲                          │
       └─ nobody waits any more ──┘

All invocations of a key live in its partition, and so do its promises. They do not need the main
handler: a promise may be completed before it begins and read after it has ended. The promises of a
key are removed with its main invocation; who still waits for one is told. One that is completed
while there is no main invocation, before the first or by a straggler behind the last, gets a timer:
if there is none then, it goes.
"""

from __future__ import annotations

from typing import cast

from holdfast.domain.identity import workflow_id
from holdfast.domain.message import Failure, Outcome, Void
from holdfast.engine.decision import RegisterTimer
from holdfast.engine.limit import PROMISE_RETENTION_MS, PROMISE_WAITERS_MAX
from holdfast.engine.record import CompletionSent
from holdfast.engine.row import (
    InvocationRow,
    Key,
    PromiseRow,
    Sink,
    Table,
    TimerRow,
    slot_of_promises,
)
from holdfast.engine.view import Draft

PROMISE_COMPLETED = Failure(409, "promise already completed", {"error_code": "HF2022"})
"""The answer to a second completion."""


def is_crowded(draft: Draft, row: InvocationRow, name: str) -> bool:
    """Whether no more may wait for a promise."""
    return len(_promise(draft, _place(row, name)).sinks) >= PROMISE_WAITERS_MAX


def await_promise(draft: Draft, row: InvocationRow, name: str, sink: Sink) -> Outcome | None:
    """Return the outcome of a promise; None: `sink` gets it when there is one."""
    place = _place(row, name)
    promise = _promise(draft, place)
    if promise.outcome is None:
        draft.rows[place] = PromiseRow(None, (*promise.sinks, sink))
        row.has_awaited_promise = True
    return promise.outcome


def peek_promise(draft: Draft, row: InvocationRow, name: str) -> Outcome | Void:
    """Return the outcome of a promise, or Void while it has none."""
    outcome = _promise(draft, _place(row, name)).outcome
    return Void() if outcome is None else outcome


def complete_promise(
    draft: Draft, row: InvocationRow, name: str, outcome: Outcome
) -> Void | Failure:
    """Complete a promise and tell who waits for it, unless it is complete: the first one counts."""
    place = _place(row, name)
    promise = _promise(draft, place)
    if promise.outcome is not None:
        return PROMISE_COMPLETED
    draft.rows[place] = PromiseRow(outcome, (), _keep(draft, row))
    for sink in promise.sinks:
        draft.send(CompletionSent(sink, outcome), sink.invocation_id)
    return Void()


def _keep(draft: Draft, row: InvocationRow) -> int:
    """See to it that a promise of this key is removed some day; return when, 0: with its main."""
    workflow, key = row.target.service, row.target.key
    assert key is not None, f"{row.target} has no key"
    main_id = workflow_id(workflow, key)
    if draft.invocation(main_id) is not None:
        return 0
    at_ms, slot = draft.at_ms + PROMISE_RETENTION_MS, slot_of_promises(workflow, key)
    draft.rows[Table.TIMER, at_ms, main_id, slot] = TimerRow()
    draft.act(RegisterTimer(at_ms, main_id, slot))
    return at_ms


def expire_promises(draft: Draft, workflow: str, key: str) -> None:
    """Remove the promises of a key whose retention has passed, unless a main invocation has them.

    Those that somebody waits for go when nobody does.
    """
    if draft.invocation(workflow_id(workflow, key)) is not None:
        return
    for place in _places(draft, workflow, key):
        if 0 < _promise(draft, place).expires_at_ms <= draft.at_ms:
            draft.rows[place] = None


def leave_promises(draft: Draft, row: InvocationRow) -> None:
    """Take an invocation that ends out of the sinks of its promises."""
    if not row.has_awaited_promise:
        return
    row.has_awaited_promise = False
    for place in _places_of(draft, row):
        promise = _promise(draft, place)
        sinks = tuple(sink for sink in promise.sinks if sink.invocation_id != row.id)
        if len(sinks) < len(promise.sinks):
            draft.rows[place] = PromiseRow(None, sinks) if sinks else None


def forget_promises(draft: Draft, row: InvocationRow) -> None:
    """Remove all promises of the key of a main invocation; who waits for one gets failure 410."""
    gone = Failure(
        410,
        f"workflow {row.target.service}/{row.target.key} was removed before this promise was"
        " completed",
        {"error_code": "HF2023"},
    )
    for place in _places_of(draft, row):
        for sink in _promise(draft, place).sinks:
            draft.send(CompletionSent(sink, gone), sink.invocation_id)
        draft.rows[place] = None


def _place(row: InvocationRow, name: str) -> Key:
    assert row.target.key is not None, f"{row.target} has no key"
    return (Table.PROMISE, row.target.service, row.target.key, name)


def _promise(draft: Draft, place: Key) -> PromiseRow:
    return cast("PromiseRow | None", draft.fact(place)) or PromiseRow()


def _places_of(draft: Draft, row: InvocationRow) -> list[Key]:
    assert row.target.key is not None, f"{row.target} has no key"
    return _places(draft, row.target.service, row.target.key)


def _places(draft: Draft, workflow: str, key: str) -> list[Key]:
    names = draft.promise_names(workflow, key)
    places: list[Key] = [(Table.PROMISE, workflow, key, name) for name in names]
    draft.require(places)
    return places
