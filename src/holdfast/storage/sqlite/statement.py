"""From a batch to statements. Encoding comes first and cannot half happen; running comes later."""

from __future__ import annotations

from typing import NamedTuple

import apsw
import msgspec

from holdfast.engine.decision import Batch, DeleteAnnex, DeleteJournal, DeleteTimers, Range
from holdfast.engine.row import InvocationRow, JournalRow, StateRow, Status, Table
from holdfast.storage.rule import child_of, fenced, journal_refused, note_of
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
}
_PUT = {table: QUERIES[f"put_{name}"] for table, name in _TABLES.items()}
_DELETE = {table: QUERIES[f"delete_{name}"] for table, name in _TABLES.items()}

encode = msgspec.msgpack.Encoder().encode


class EncodedBatch(NamedTuple):
    """A batch as bindings of statements. Lists are run in the order of the fields."""

    batch: Batch
    writes: dict[str, list[Bindings]]
    """By statement, in the order of first use."""
    invocations: list[tuple[bool, Bindings]]
    """Whether only `data` is likely to have changed, and the row."""
    entries: list[Bindings]


def encode_batch(batch: Batch) -> EncodedBatch:
    """Encode everything that a batch writes.

    Raises:
        TypeError, ValueError, OverflowError: A value has no msgpack form.
    """
    partition = batch.partition
    writes: dict[str, list[Bindings]] = {}
    invocations: list[tuple[bool, Bindings]] = []
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
        elif row is None:
            writes.setdefault(_DELETE[table], []).append((partition, *key[1:]))
        elif isinstance(row, StateRow):
            expires_at_ms = row.expires_at_ms or None
            bindings = (partition, *key[1:], encode(row), expires_at_ms)
            writes.setdefault(_PUT[table], []).append(bindings)
        elif table is Table.TIMER:
            writes.setdefault(_PUT[table], []).append((partition, *key[1:]))
        else:
            writes.setdefault(_PUT[table], []).append((partition, *key[1:], encode(row)))
    return EncodedBatch(batch, writes, invocations, [_encode_entry(row) for row in batch.journal])


def _encode_range(partition: int, range_: Range) -> tuple[str, Bindings]:
    if isinstance(range_, DeleteTimers):
        return _DELETE_TIMERS, (range_.invocation_id,)
    if isinstance(range_, DeleteJournal):
        return _DELETE_JOURNAL, (range_.invocation_id,)
    if isinstance(range_, DeleteAnnex):
        return _CLEAR_ANNEX, (partition, range_.invocation_id)
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


def _encode_entry(row: JournalRow) -> Bindings:
    entry = row.entry
    return (
        row.invocation_id,
        row.index,
        row.at_ms,
        note_of(entry),
        child_of(entry),
        encode(entry),
    )


def run_batch(connection: Connection, cursor: Cursor, encoded: EncodedBatch) -> None:
    """Write an encoded batch inside the transaction that is open.

    Raises:
        Fenced: The batch is not of the current epoch; nothing was written.
        CorruptState: HF4112; some of the batch was written, roll back.
        apsw.Error: Some of the batch was written, roll back.
    """
    batch, writes, invocations, entries = encoded
    found = cursor.execute(_EPOCH, (batch.partition,)).fetchall()
    epoch: int = found[0][0] if found else 0
    if epoch != batch.epoch:
        raise fenced(batch, epoch)
    for statement, rows in writes.items():
        cursor.executemany(statement, rows)
    for is_touch, row in invocations:
        if is_touch:
            cursor.execute(_TOUCH_INVOCATION, row)
            if connection.changes():
                continue
        cursor.execute(_PUT_INVOCATION, row)
        if not connection.changes():
            cursor.execute(_REMAKE_INVOCATION, row)
    if entries:
        count = connection.total_changes()
        try:
            cursor.executemany(_PUT_ENTRY, entries)
        except apsw.ConstraintError as error:
            raise journal_refused(batch.partition) from error
        if connection.total_changes() - count != len(entries):
            raise journal_refused(batch.partition)
