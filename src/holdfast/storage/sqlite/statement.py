"""From a batch to statements. Encoding comes first and cannot half happen; running comes later."""

from __future__ import annotations

from typing import NamedTuple

import apsw
import msgspec

from holdfast.engine.decision import (
    Batch,
    DeleteAnnex,
    DeleteJournal,
    DeleteLane,
    DeleteStreams,
    DeleteTimers,
    Range,
)
from holdfast.engine.row import (
    ApprovalRow,
    ContentRow,
    InvocationRow,
    JournalRow,
    StateRow,
    Status,
    StreamRow,
    Table,
)
from holdfast.storage.rule import child_of, fenced, journal_refused, note_of
from holdfast.storage.sqlite.approval import bindings_of as approval_bindings
from holdfast.storage.sqlite.chunk import PIECE_BYTES_MIN, Cut, Tally, cut, cut_entry
from holdfast.storage.sqlite.detail import TABLES, columns_of
from holdfast.storage.sqlite.driver import Bindings, Connection, Cursor
from holdfast.storage.sqlite.query import QUERIES

_EPOCH = QUERIES["epoch"]
_TOUCH_INVOCATION = QUERIES["touch_invocation"]
_PUT_INVOCATION = QUERIES["put_invocation"]
_REMAKE_INVOCATION = QUERIES["remake_invocation"]
_DELETE_INVOCATION = QUERIES["delete_invocation"]
_PUT_ENTRY = QUERIES["put_entry"]
_DELETE_JOURNAL = QUERIES["delete_journal"]
_DELETE_TIMERS = QUERIES["delete_timers"]
_CLEAR_STATE = QUERIES["clear_state"]
_CLEAR_ANNEX = QUERIES["clear_annex"]
_PUT_STREAM = QUERIES["put_stream"]
_DELETE_STREAMS = QUERIES["delete_streams"]
_DELETE_LANE = QUERIES["delete_lane"]

_TABLES: dict[Table, str] = {
    Table.LOCK: "lock",
    Table.INBOX: "inbox",
    Table.TIMER: "timer",
    Table.STATE: "state",
    Table.OUTBOX: "outbox",
    Table.DEDUP: "dedup",
    Table.PARTITION: "counter",
    Table.PROMISE: "promise",
    Table.ANNEX: "annex",
    **TABLES,
    Table.APPROVAL: "approval",
}
_PUT = {table: QUERIES[f"put_{name}"] for table, name in _TABLES.items()}
_DELETE = {table: QUERIES[f"delete_{name}"] for table, name in _TABLES.items()}
_TAKES: dict[str, tuple[str, int]] = {
    _DELETE_JOURNAL: (QUERIES["journal_chunks"], 1),
    _CLEAR_STATE: (QUERIES["all_state_chunks"], 3),
    _PUT[Table.STATE]: (QUERIES["state_chunks"], 4),
    _DELETE[Table.STATE]: (QUERIES["state_chunks"], 4),
    _PUT[Table.CONTENT]: (QUERIES["content_chunks"], 2),
    _DELETE[Table.CONTENT]: (QUERIES["content_chunks"], 2),
}
"""Statements that delete or replace rows with parts: the question for these, and how many of the
bindings it has."""

encode = msgspec.msgpack.Encoder().encode


class EncodedBatch(NamedTuple):
    """A batch as bindings of statements. Lists are run in the order of the fields."""

    batch: Batch
    writes: dict[str, list[Bindings]]
    """By statement, in the order of first use."""
    invocations: list[tuple[bool, Bindings]]
    """Whether only `data` is likely to have changed, and the row."""
    entries: list[Bindings]
    cuts: list[Cut]
    """Large values of entries and state."""
    streams: list[Bindings]
    """Rows of streams, which find their invocation's row."""


def encode_batch(batch: Batch) -> EncodedBatch:
    """Encode everything that a batch writes.

    Raises:
        TypeError, ValueError, OverflowError: A value has no msgpack form.
    """
    partition = batch.partition
    writes: dict[str, list[Bindings]] = {}
    invocations: list[tuple[bool, Bindings]] = []
    cuts: list[Cut] = []
    streams: list[Bindings] = []
    for range_ in batch.ranges:
        statement, bindings = _encode_range(partition, range_)
        writes.setdefault(statement, []).append(bindings)
    for key, row in batch.rows.items():
        table = key[0]
        if isinstance(row, InvocationRow):
            assert key == (Table.INVOCATION, row.id)
            invocations.append(_encode_invocation(partition, row))
            continue
        assert isinstance(table, Table), f"{key} is no key of a row"
        if table is Table.INVOCATION:
            assert row is None
            # The journal goes with its row: without it, nothing would ever find the entries again.
            writes.setdefault(_DELETE_JOURNAL, []).append(key[1:])
            writes.setdefault(_DELETE_INVOCATION, []).append(key[1:])
        elif isinstance(row, StreamRow):
            _, invocation_id, name, first_id = key
            streams.append((invocation_id, name, first_id, row.lane, encode(row)))
        elif row is None:
            writes.setdefault(_DELETE[table], []).append((partition, *key[1:]))
        elif isinstance(row, StateRow):
            cuts.append(whole := cut(encode(row), row.value))
            expires_at_ms = row.expires_at_ms or None
            bindings = (partition, *key[1:], whole.data, expires_at_ms, whole.chunks)
            writes.setdefault(_PUT[table], []).append(bindings)
        elif isinstance(row, ContentRow):
            cuts.append(whole := cut(row.data, row.data))
            bindings = (partition, *key[1:], whole.data, whole.chunks)
            writes.setdefault(_PUT[table], []).append(bindings)
        elif isinstance(row, ApprovalRow):
            bindings = approval_bindings(partition, key, row)
            writes.setdefault(_PUT[table], []).append(bindings)
        elif table is Table.TIMER:
            writes.setdefault(_PUT[table], []).append((partition, *key[1:]))
        else:
            columns = columns_of(row) or (encode(row),)
            writes.setdefault(_PUT[table], []).append((partition, *key[1:], *columns))
    entries = [_encode_entry(row, cuts) for row in batch.journal]
    return EncodedBatch(batch, writes, invocations, entries, cuts, streams)


def _encode_range(partition: int, range_: Range) -> tuple[str, Bindings]:
    if isinstance(range_, DeleteTimers):
        return _DELETE_TIMERS, (range_.invocation_id,)
    if isinstance(range_, DeleteJournal):
        return _DELETE_JOURNAL, (range_.invocation_id,)
    if isinstance(range_, DeleteAnnex):
        return _CLEAR_ANNEX, (partition, range_.invocation_id)
    if isinstance(range_, DeleteStreams):
        return _DELETE_STREAMS, (range_.invocation_id,)
    if isinstance(range_, DeleteLane):
        return _DELETE_LANE, tuple(range_)
    return _CLEAR_STATE, (partition, range_.service, range_.key)


def _encode_invocation(partition: int, row: InvocationRow) -> tuple[bool, Bindings]:
    target = row.target
    is_completed = row.status is Status.COMPLETED
    return not is_completed and row.modified_at_ms != row.created_at_ms, (
        row.id,
        partition,
        row.status,
        target.service,
        target.handler,
        target.key,
        row.created_at_ms,
        (row.expires_at_ms or None) if is_completed else None,
        encode(row),
    )


def _encode_entry(row: JournalRow, cuts: list[Cut]) -> Bindings:
    entry = row.entry
    data, chunks = encode(entry), None
    if len(data) >= PIECE_BYTES_MIN:
        whole = cut_entry(entry, data)
        data, chunks = whole.data, whole.chunks
        cuts.append(whole)
    return (
        row.invocation_id,
        row.index,
        row.at_ms,
        note_of(entry),
        child_of(entry),
        data,
        chunks,
    )


def _write(cursor: Cursor, writes: dict[str, list[Bindings]], cuts: list[Cut]) -> None:
    tally = Tally()
    for statement, rows in writes.items():
        taken = _TAKES.get(statement)
        if taken is None:
            cursor.executemany(statement, rows)
            continue
        question, size = taken
        for row in rows:
            tally.take(cursor, question, row[:size])
            cursor.execute(statement, row)
    for whole in cuts:
        tally.put(whole)
    tally.write(cursor)


def run_batch(connection: Connection, cursor: Cursor, encoded: EncodedBatch) -> None:
    """Write an encoded batch inside the transaction that is open.

    Raises:
        Fenced: The batch is not of the current epoch; nothing was written.
        CorruptState: HF4112; some of the batch was written, roll back.
        apsw.Error: Some of the batch was written, roll back.
    """
    batch, writes, invocations, entries, cuts, streams = encoded
    found = cursor.execute(_EPOCH, (batch.partition,)).fetchall()
    epoch: int = found[0][0] if found else 0
    if epoch != batch.epoch:
        raise fenced(batch, epoch)
    _write(cursor, writes, cuts)
    for is_touch, row in invocations:
        if is_touch:
            cursor.execute(_TOUCH_INVOCATION, row)
            if connection.changes():
                continue
        cursor.execute(_PUT_INVOCATION, row)
        if not connection.changes():
            cursor.execute(_REMAKE_INVOCATION, row)
    if streams:
        cursor.executemany(_PUT_STREAM, streams)
    if entries:
        count = connection.total_changes()
        try:
            cursor.executemany(_PUT_ENTRY, entries)
        except apsw.ConstraintError as error:
            raise journal_refused(batch.partition) from error
        if connection.total_changes() - count != len(entries):
            raise journal_refused(batch.partition)
