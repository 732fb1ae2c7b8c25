"""What an invocation's row has no room for: many open steps, many sinks, a long await set.

The row is written with every record of its invocation, so it must not grow with what the invocation
has open. A few of each are in the row itself, which costs nothing more; the rest are rows of their
own (`Table.ANNEX`), each written once and deleted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from holdfast.domain.message import FromHandler, ProposeRunCompletion
from holdfast.engine.await_tree import size_of
from holdfast.engine.decision import DeleteAnnex
from holdfast.engine.row import (
    SLOT_WAITING,
    AnnexRow,
    InvocationRow,
    Key,
    Lookup,
    Sink,
    Table,
    Waiting,
    slot_of_run,
    slot_of_sink,
)
from holdfast.engine.view import Draft

RUNS_INLINE_MAX = 32
SINKS_INLINE_MAX = 8
WAITING_INLINE_MAX = 32


# -- open steps ------------------------------------------------------------------------------------


def open_run_count(row: InvocationRow) -> int:
    """Return the number of steps whose result is not recorded."""
    return len(row.open_runs) + row.annex_run_count


def open_run(draft: Draft, row: InvocationRow, completion_id: int) -> None:
    """Note that a step has begun."""
    if len(row.open_runs) < RUNS_INLINE_MAX:
        row.open_runs = (*row.open_runs, completion_id)
        return
    row.annex_run_count += 1
    draft.rows[Table.ANNEX, row.id, slot_of_run(completion_id)] = AnnexRow()


def close_run(draft: Draft, row: InvocationRow, completion_id: int) -> bool:
    """Note that a step has its result. Returns whether it was open."""
    if completion_id in row.open_runs:
        row.open_runs = tuple(c for c in row.open_runs if c != completion_id)
        return True
    if not row.annex_run_count:
        return False
    key: Key = (Table.ANNEX, row.id, slot_of_run(completion_id))
    if draft.fact(key) is None:
        return False
    row.annex_run_count -= 1
    _delete(draft, key)
    return True


def require_open_runs(draft: Draft, row: InvocationRow, messages: Iterable[FromHandler]) -> None:
    """Ask at once for all rows that results of steps will need, instead of one by one."""
    if row.annex_run_count:
        draft.require(
            [
                (Table.ANNEX, row.id, slot_of_run(message.completion_id))
                for message in messages
                if isinstance(message, ProposeRunCompletion)
                and message.completion_id not in row.open_runs
            ]
        )


# -- sinks -----------------------------------------------------------------------------------------


def add_sink(draft: Draft, row: InvocationRow, sink: Sink) -> None:
    """Connect a sink, once."""
    if sink in row.sinks:
        return
    if len(row.sinks) < SINKS_INLINE_MAX:
        row.sinks = (*row.sinks, sink)
        return
    key: Key = (Table.ANNEX, row.id, slot_of_sink(sink))
    if draft.fact(key) is None:
        row.annex_sink_count += 1
        draft.rows[key] = AnnexRow(sink)


def take_sinks(draft: Draft, row: InvocationRow) -> tuple[Sink, ...]:
    """Return all sinks. Call `drop` next: those in the annex are still there."""
    sinks, row.sinks = row.sinks, ()
    if not row.annex_sink_count:
        return sinks
    stored: tuple[Sink, ...] = ()
    if not draft.view.has_ended(row.id):
        stored = cast("tuple[Sink, ...]", draft.view.fact((Lookup.ANNEX_SINKS, row.id)))
    recent = (
        known.sink
        for rows in (draft.view.rows, draft.rows)
        for key, known in rows.items()
        if key[0] is Table.ANNEX
        and key[1] == row.id
        and isinstance(known, AnnexRow)
        and known.sink is not None
    )
    return tuple(dict.fromkeys((*sinks, *stored, *recent)))


# -- the await set ---------------------------------------------------------------------------------


def put_waiting(draft: Draft, row: InvocationRow, waiting: Waiting) -> None:
    """Keep what a suspended invocation waits for."""
    size = len(waiting.completions) + len(waiting.signals) + len(waiting.named_signals)
    if waiting.tree is not None:
        size += size_of(waiting.tree)
    # One that shrinks while it is waited for stays where it is.
    if size <= WAITING_INLINE_MAX and not row.is_waiting_in_annex:
        row.waiting = waiting
        return
    row.waiting = None
    row.is_waiting_in_annex = True
    draft.rows[Table.ANNEX, row.id, SLOT_WAITING] = AnnexRow(waiting=waiting)


def waiting_of(draft: Draft, row: InvocationRow) -> Waiting:
    """Return what a suspended invocation waits for."""
    if row.waiting is not None:
        return row.waiting
    found = draft.fact((Table.ANNEX, row.id, SLOT_WAITING))
    assert isinstance(found, AnnexRow), f"{row.id} is suspended without an await set"
    assert found.waiting is not None, f"{row.id} is suspended without an await set"
    return found.waiting


def drop_waiting(draft: Draft, row: InvocationRow) -> None:
    """It waits no more."""
    row.waiting = None
    if row.is_waiting_in_annex:
        row.is_waiting_in_annex = False
        # Unlike the others it is written again as it shrinks, so it may be stored and in the draft.
        draft.rows[Table.ANNEX, row.id, SLOT_WAITING] = None


def drop(draft: Draft, row: InvocationRow) -> None:
    """The invocation has ended: nothing of it is open."""
    row.open_runs = ()
    row.sinks = ()
    row.waiting = None
    is_used = row.annex_run_count or row.annex_sink_count or row.stream_count
    if is_used or row.is_waiting_in_annex:
        row.annex_run_count = row.annex_sink_count = 0
        row.is_waiting_in_annex = False
        draft.delete_range(DeleteAnnex(row.id))


def _delete(draft: Draft, key: Key) -> None:
    if draft.rows.get(key) is not None:
        # These rows are written once, so nothing else knows the one that this draft has made.
        del draft.rows[key]
    else:
        draft.rows[key] = None
