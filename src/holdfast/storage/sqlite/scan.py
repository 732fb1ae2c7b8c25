"""Scans: each in a thread and on a connection of its own, page by page."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw
import msgspec

from holdfast.domain.message import Entry, Output
from holdfast.engine.row import (
    InvocationRow,
    JournalRow,
    LockRow,
    PromiseRow,
    StateRow,
    Status,
)
from holdfast.storage.scan import (
    PAGE_ROWS,
    Comparison,
    Condition,
    KeyedRow,
    Scan,
    Scanned,
    ScannedInvocation,
    Source,
)
from holdfast.storage.sqlite.detail import stored_details
from holdfast.storage.sqlite.driver import Bindings, Connection, Cursor, Value
from holdfast.storage.sqlite.failure import (
    VALUE_ERRORS,
    not_open,
    not_storable,
    read_failed,
    undecodable,
)
from holdfast.storage.sqlite.file import DatabaseFile, close_all, open_reader
from holdfast.storage.sqlite.query import QUERIES

_T = TypeVar("_T")
_SCANS_MAX = 4
"""Scans that read at the same time. Others wait."""

_DECODE_INVOCATION = msgspec.msgpack.Decoder(InvocationRow).decode
_DECODE_ENTRY = cast("Callable[[bytes], Entry]", msgspec.msgpack.Decoder(Entry).decode)
_DECODE_KEYED: dict[Source, Callable[[bytes], Any]] = {
    Source.STATE: msgspec.msgpack.Decoder(StateRow).decode,
    Source.LOCK: msgspec.msgpack.Decoder(LockRow).decode,
    Source.PROMISE: msgspec.msgpack.Decoder(PromiseRow).decode,
}
_LIVE = QUERIES["scan_live"]
_TEMPLATES = {
    Source.INVOCATION: QUERIES["scan_invocation"],
    Source.JOURNAL: QUERIES["scan_journal"],
    Source.STATE: QUERIES["scan_state"],
    Source.LOCK: QUERIES["scan_lock"],
    Source.PROMISE: QUERIES["scan_promise"],
    Source.DETAIL: QUERIES["scan_detail"],
}
_COLUMNS = {"key": "object_key"}
_BY_ID = {"id": "invocation.id"}
_NAMES = {Source.JOURNAL: _BY_ID, Source.DETAIL: {"id": "invocation_id"}}
_AGES = {Source.DETAIL: "at_ms {}, invocation_id ASC, completion_id ASC, attempt ASC "}
_encode = msgspec.json.Encoder().encode


class Statement(NamedTuple):
    """A scan as SQL."""

    sql: str
    bindings: Bindings


def statement_of(scan: Scan) -> Statement:
    """Return the statement of a scan."""
    bindings: list[Value] = []
    parts = [_sql_of(condition, scan.source, bindings) for condition in scan.conditions]
    is_live = scan.source is Source.INVOCATION and not _may_be_completed(scan.conditions)
    if is_live:
        # Literally so: it is the condition of the index.
        parts.append("status != 6")
    order = ""
    if scan.order is not None:
        columns = _AGES.get(scan.source, "created_at_ms {}, id ASC ")
        order = f"ORDER BY {columns.format(scan.order.value)}"
    bindings.append(-1 if scan.limit is None else scan.limit)
    is_by_id = any(c.column == "id" and c.comparison is Comparison.IN for c in scan.conditions)
    template = _LIVE if is_live and not is_by_id else _TEMPLATES[scan.source]
    filled = template.format(
        filter=" AND ".join(parts) or "TRUE", order=order, limit=f"?{len(bindings)}"
    )
    return Statement(filled, tuple(bindings))


def _sql_of(condition: Condition, source: Source, bindings: list[Value]) -> str:
    names = _NAMES.get(source, _COLUMNS)
    column = names.get(condition.column, condition.column)
    if condition.comparison in (Comparison.IN, Comparison.NOT_IN):
        # One binding for any number of values, and one statement to prepare.
        bindings.append(_encode(condition.values).decode())
        negation = "NOT " if condition.comparison is Comparison.NOT_IN else ""
        return f"{column} {negation}IN (SELECT value FROM json_each(?{len(bindings)}))"
    bindings.append(condition.values[0])
    return f"{column} {condition.comparison.value} ?{len(bindings)}"


def _may_be_completed(conditions: tuple[Condition, ...]) -> bool:
    for column, comparison, values in conditions:
        is_named = Status.COMPLETED in values
        if column == "status" and comparison is Comparison.IN and not is_named:
            return False
        if column == "status" and comparison is Comparison.NOT_IN and is_named:
            return False
    return True


class Scanner:
    """The scans of one store, between its opening and its closing."""

    def __init__(self, file: DatabaseFile, path: Path) -> None:
        self._file = file
        self._path = path
        self._threads = ThreadPoolExecutor(_SCANS_MAX, "holdfast-scan")
        self._connections: list[Connection] = []
        self._is_closed = False

    async def pages(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over the rows of a scan, in pages."""
        try:
            connection = open_reader(self._file)
        except apsw.Error as error:
            raise read_failed(self._path, error) from error
        self._connections.append(connection)
        try:
            cursor, outputs = connection.cursor(), connection.cursor()
            statement = statement_of(scan)
            page = await self._run(connection, lambda: _begin(cursor, statement, scan, outputs))
            while page:
                yield page
                page = await self._run(connection, lambda: _page(cursor, scan, outputs))
        finally:
            if connection in self._connections:
                self._connections.remove(connection)
                close_all(connection)

    async def _run(self, connection: Connection, read: Callable[[], _T]) -> _T:
        def read_while_open() -> _T:
            if self._is_closed:
                raise not_open(self._path)
            return read()

        if self._is_closed:
            raise not_open(self._path)
        reading = asyncio.get_running_loop().run_in_executor(self._threads, read_while_open)
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            # The thread must be done with the connection before anybody closes it.
            with contextlib.suppress(apsw.ConnectionClosedError):
                connection.interrupt()
            await asyncio.wait([reading])
            reading.exception()
            raise
        except apsw.Error as error:
            raise read_failed(self._path, error) from error
        except msgspec.MsgspecError as error:
            raise undecodable(self._path, "scan", error) from error
        except VALUE_ERRORS as error:
            raise not_storable(error) from error

    def close(self) -> None:
        """End all scans, and wait for their threads."""
        self._is_closed = True
        for connection in self._connections:
            connection.interrupt()
        self._threads.shutdown()
        close_all(*self._connections)
        self._connections.clear()


def _begin(cursor: Cursor, statement: Statement, scan: Scan, outputs: Cursor) -> list[Scanned]:
    cursor.execute(*statement)
    return _page(cursor, scan, outputs)


def _page(cursor: Cursor, scan: Scan, outputs: Cursor) -> list[Scanned]:
    """Read and decode the next rows; none at the end."""
    # The cursor goes on where it was: leaving `for` does not end it.
    found: list[tuple[Any, ...]] = []
    for row in cursor:
        found.append(row)
        if len(found) == PAGE_ROWS:
            break
    if scan.source is Source.INVOCATION:
        return [_invocation(row[0], outputs if scan.has_outputs else None) for row in found]
    if scan.source is Source.JOURNAL:
        return [JournalRow(id_, index, at, _DECODE_ENTRY(data)) for id_, index, at, data in found]
    if scan.source is Source.DETAIL:
        return [*stored_details(found)]
    decode = _DECODE_KEYED[scan.source]
    return [KeyedRow(service, key, name, decode(data)) for service, key, name, data in found]


def _invocation(data: bytes, outputs: Cursor | None) -> ScannedInvocation:
    row = _DECODE_INVOCATION(data)
    output = None
    if outputs is not None and row.has_failed and row.output_index is not None:
        stored = outputs.execute(QUERIES["entry"], (row.id, row.output_index)).fetchall()
        entry = _DECODE_ENTRY(stored[0][0]) if stored else None
        output = entry if isinstance(entry, Output) else None
    return ScannedInvocation(row, output)
