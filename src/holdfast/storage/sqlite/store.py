"""`SqliteStore`: the port on one SQLite file. Questions here, writing in `writer`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import apsw
import msgspec

from holdfast.domain.deployment import Endpoint
from holdfast.domain.message import Entry
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import Manifest
from holdfast.engine.decision import Batch
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import (
    AnnexRow,
    ApprovalRow,
    DedupRow,
    InboxRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    Lookup,
    PartitionRow,
    PromiseRow,
    Sink,
    StateRow,
    Status,
    StreamRow,
    Table,
    TimerRow,
)
from holdfast.storage.base import (
    ApprovalFilter,
    ApprovalPlace,
    InvocationFilter,
    Loaded,
    StoredApproval,
    StoredDeployment,
    StoredState,
    Timer,
)
from holdfast.storage.scan import Scan, Scanned
from holdfast.storage.sqlite.approval import inbox_question, read_inbox
from holdfast.storage.sqlite.detail import ANSWERS
from holdfast.storage.sqlite.driver import Bindings, Connection, Cursor, Found, Value
from holdfast.storage.sqlite.failure import (
    VALUE_ERRORS,
    not_open,
    not_storable,
    open_failed,
    read_failed,
    undecodable,
)
from holdfast.storage.sqlite.file import DatabaseFile, close_all, open_reader, open_writer
from holdfast.storage.sqlite.query import QUERIES
from holdfast.storage.sqlite.scan import Scanner
from holdfast.storage.sqlite.statement import encode, encode_batch, run_batch
from holdfast.storage.sqlite.writer import INLINE_SECONDS_MAX, Writer

_T = TypeVar("_T")
_DECODE_INVOCATION = msgspec.msgpack.Decoder(InvocationRow).decode
_DECODE_ENTRY = cast("Callable[[bytes], Entry]", msgspec.msgpack.Decoder(Entry).decode)
_DECODE_ANNEX = msgspec.msgpack.Decoder(AnnexRow).decode
_DECODE_STREAM = msgspec.msgpack.Decoder(StreamRow).decode
_DECODE_STATE = msgspec.msgpack.Decoder(StateRow).decode
_DECODE_OUTBOX = msgspec.msgpack.Decoder(OutboxRow).decode
_DECODE_MANIFEST = msgspec.msgpack.Decoder(Manifest).decode
_DECODE_ENDPOINT = msgspec.msgpack.Decoder(Endpoint).decode
_DECODE_REVISIONS = msgspec.msgpack.Decoder(dict[str, int]).decode
_DECODE_SETTINGS = msgspec.msgpack.Decoder(dict[str, ServiceSettings]).decode

_EPOCH_RAISE = QUERIES["raise_epoch"]
_PUT_DEPLOYMENT = QUERIES["put_deployment"]
_DELETE_DEPLOYMENT = QUERIES["delete_deployment"]


class _Question(NamedTuple):
    """How a key is loaded."""

    statement: str
    has_partition: bool
    """Whether the partition is the first binding, before the parts of the key."""
    answer: Callable[[Found], Loaded]


def _row_by(decode: Callable[[bytes], Loaded]) -> Callable[[Found], Loaded]:
    return lambda found: decode(found[0][0]) if found else None


def _numbers(found: Found) -> tuple[int, ...]:
    return tuple(row[0] for row in found)


def _firsts(found: Found) -> tuple[str, ...]:
    return tuple(row[0] for row in found)


def _sinks(found: Found) -> tuple[Sink, ...]:
    sinks = (_DECODE_ANNEX(row[0]).sink for row in found)
    return tuple(sink for sink in sinks if sink is not None)


def _first(found: Found) -> int | None:
    return found[0][0] if found else None


def _timer(found: Found) -> TimerRow | None:
    return TimerRow() if found else None


def _row_of(name: str, row_type: type[Any]) -> _Question:
    decode = msgspec.msgpack.Decoder(row_type).decode
    return _Question(QUERIES[f"load_{name}"], name != "invocation", _row_by(decode))


_QUESTIONS: dict[Table | Lookup, _Question] = {
    Table.INVOCATION: _row_of("invocation", InvocationRow),
    Table.LOCK: _row_of("lock", LockRow),
    Table.INBOX: _row_of("inbox", InboxRow),
    Table.TIMER: _Question(QUERIES["load_timer"], True, _timer),
    Table.STATE: _row_of("state", StateRow),
    Table.OUTBOX: _row_of("outbox", OutboxRow),
    Table.DEDUP: _row_of("dedup", DedupRow),
    Table.PARTITION: _row_of("counter", PartitionRow),
    Table.PROMISE: _row_of("promise", PromiseRow),
    Table.ANNEX: _row_of("annex", AnnexRow),
    Table.APPROVAL: _row_of("approval", ApprovalRow),
    Lookup.NOTIFICATION: _Question(QUERIES["notification"], False, _first),
    Lookup.CHILDREN: _Question(QUERIES["children"], False, _firsts),
    Lookup.ENTRY: _Question(QUERIES["entry"], False, _row_by(_DECODE_ENTRY)),
    Lookup.STATE_NAMES: _Question(QUERIES["state_names"], True, _firsts),
    Lookup.PROMISE_NAMES: _Question(QUERIES["promise_names"], True, _firsts),
    Lookup.ANNEX_SINKS: _Question(QUERIES["annex_sinks"], True, _sinks),
    **{key: _Question(QUERIES[name], True, answer) for key, (name, answer) in ANSWERS.items()},
    Lookup.APPROVALS: _Question(QUERIES["approval_indexes"], True, _numbers),
}


class _Opened(NamedTuple):
    """What is there between `open` and `close`."""

    writer: Writer
    writing: Connection
    writing_cursor: Cursor
    reading: Connection
    reading_cursor: Cursor
    listing: Connection
    listing_thread: ThreadPoolExecutor
    scanner: Scanner


class SqliteStore:
    """Implements `holdfast.storage.base.Store` on one SQLite file, for one process.

    Args:
        path: The database file. Its directory is made when it is missing. SQLite keeps
            `<path>-wal` and `<path>-shm` beside it, we `<path>.lock`: they belong together.
        partition_count: Of a new database. For an old one the stored count holds, and is the
            value of the attribute once it is open.
        durability: `full`: a commit is on the disk before it is answered. `relaxed`: after a
            loss of power the latest commits may be missing; a crash of the process loses nothing.
        inline_seconds_max: See `Writer`.
        file: How the file is reached; tests pass one that breaks.
    """

    def __init__(
        self,
        path: str | Path,
        partition_count: int = 4,
        durability: str = "full",
        *,
        inline_seconds_max: float = INLINE_SECONDS_MAX,
        file: DatabaseFile | None = None,
    ) -> None:
        self.path = Path(path).absolute()
        self.partition_count = partition_count
        assert durability in ("full", "relaxed"), durability
        self._is_durable = durability == "full"
        self._inline_seconds_max = inline_seconds_max
        self._file = file or DatabaseFile(self.path)
        self._opened: _Opened | None = None

    # -- life --------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Create or open the database. Blocks the loop: about 1 ms per megabyte up to 64 MB.

        Raises:
            StorageError: HF4101..HF4107, see `failure`.
        """
        assert self._opened is None, "the store is open"
        writing: Connection | None = None
        try:
            self._file.claim()
            writing, self.partition_count = open_writer(
                self._file, self._is_durable, self.partition_count
            )
            reading = open_reader(self._file)
            listing = open_reader(self._file)
        except (apsw.Error, OSError) as error:
            close_all(writing)
            self._file.release()
            raise open_failed(self.path, error) from error
        except BaseException:
            self._file.release()
            raise
        self._opened = _Opened(
            Writer(writing, self.path, self._inline_seconds_max),
            writing,
            writing.cursor(),
            reading,
            reading.cursor(),
            listing,
            ThreadPoolExecutor(1, "holdfast-list"),
            Scanner(self._file, self.path),
        )

    async def close(self) -> None:
        """Finish the commits under way, move all into the main file, release it. Idempotent."""
        opened = self._opened
        if opened is None:
            return
        await opened.writer.close()
        if self._opened is None:  # closed by two callers at once
            return
        self._opened = None
        opened.listing.interrupt()
        opened.listing_thread.shutdown()
        opened.scanner.close()
        close_all(opened.listing, opened.reading, opened.writing)
        self._file.release()

    def is_durable(self) -> bool:
        """Whether commits are synced before they are answered."""
        return self._is_durable

    def _open_or_raise(self) -> _Opened:
        if self._opened is None:
            raise not_open(self.path)
        self._opened.writer.check()
        return self._opened

    # -- writing -----------------------------------------------------------------------------------

    async def acquire(self, partition: int, owner: str, at_ms: int) -> int:
        """Raise the epoch of a partition durably and return it."""
        assert 0 <= partition < self.partition_count
        opened = self._open_or_raise()
        cursor, bindings = opened.writing_cursor, (partition, owner, at_ms)

        def raise_epoch() -> int:
            return cast("int", cursor.execute(_EPOCH_RAISE, bindings).fetchall()[0][0])

        return await opened.writer.submit(raise_epoch)

    async def commit(self, batch: Batch) -> None:
        """Write a batch atomically and durably; see the port."""
        assert 0 <= batch.partition < self.partition_count
        opened = self._open_or_raise()
        try:
            encoded = encode_batch(batch)
        except VALUE_ERRORS as error:
            raise not_storable(error) from error
        await opened.writer.submit(
            partial(run_batch, opened.writing, opened.writing_cursor, encoded)
        )

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Write a deployment durably."""
        opened = self._open_or_raise()
        manifest = encode(deployment.manifest)
        bindings = (
            deployment.id,
            deployment.name,
            deployment.created_at_ms,
            deployment.revision,
            manifest,
            None if deployment.endpoint is None else encode(deployment.endpoint),
            None if deployment.revisions is None else encode(deployment.revisions),
            None if deployment.settings is None else encode(deployment.settings),
        )

        def put() -> None:
            opened.writing_cursor.execute(_PUT_DEPLOYMENT, bindings)

        await opened.writer.submit(put)

    async def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment durably, if it exists."""
        opened = self._open_or_raise()

        def delete() -> None:
            opened.writing_cursor.execute(_DELETE_DEPLOYMENT, (deployment_id,))

        await opened.writer.submit(delete)

    async def keep_secret(self, name: str, secret: bytes) -> bytes:
        """Write a secret durably unless there is one of this name; return the one that is there."""
        opened = self._open_or_raise()
        cursor = opened.writing_cursor

        def keep() -> bytes:
            cursor.execute(QUERIES["keep_secret"], (f"secret {name}", secret))
            found = cursor.execute(QUERIES["meta"], (f"secret {name}",)).fetchall()
            return cast("bytes", found[0][0])

        return await opened.writer.submit(keep)

    # -- reading -----------------------------------------------------------------------------------

    def _read(self, questions: Sequence[tuple[str, Bindings]]) -> list[Found]:
        """Answer questions from one snapshot of what is durable."""
        opened = self._open_or_raise()
        # Between transactions the writer's connection sees the same and has the pages in memory:
        # the other one forgets all it knows at every commit.
        cursor = opened.reading_cursor if opened.writer.is_busy else opened.writing_cursor
        try:
            return _answer(cursor, questions)
        except apsw.Error as error:
            raise read_failed(self.path, error) from error
        except VALUE_ERRORS as error:
            raise not_storable(error) from error

    def _ask(self, name: str, *bindings: Value) -> Found:
        return self._read([(QUERIES[name], bindings)])[0]

    async def _ask_aside(self, question: tuple[str, Bindings]) -> Found:
        """Answer a question that may read much, in a thread and on its own connection."""
        opened = self._open_or_raise()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(
                opened.listing_thread, partial(_answer, opened.listing.cursor(), [question])
            )
        except apsw.Error as error:
            raise read_failed(self.path, error) from error
        except VALUE_ERRORS as error:
            raise not_storable(error) from error
        return found[0]

    def _read_until(
        self, statement: str, bindings: Bindings, size_bytes_max: int | None, least: int = 0
    ) -> tuple[Found, bool]:
        """Read rows as long as they fit, `least` of them in any case; say whether that is all."""
        opened = self._open_or_raise()
        connection = opened.reading if opened.writer.is_busy else opened.writing
        # A cursor of its own, because it may be left before its end.
        cursor = connection.cursor()
        found: Found = []
        size = 0
        try:
            for row in cursor.execute(statement, bindings):
                size += len(row[-1]) + (len(row[0]) if isinstance(row[0], str) else 0)
                if size_bytes_max is not None and size > size_bytes_max and len(found) >= least:
                    return found, False
                found.append(row)
        except apsw.Error as error:
            raise read_failed(self.path, error) from error
        except VALUE_ERRORS as error:
            raise not_storable(error) from error
        finally:
            cursor.close(force=True)
        return found, True

    def _decode(self, where: str, decode: Callable[[Found], _T], found: Found) -> _T:
        try:
            return decode(found)
        except msgspec.MsgspecError as error:
            raise undecodable(self.path, where, error) from error

    async def load(self, partition: int, keys: Iterable[Key]) -> dict[Key, Loaded]:
        """Read rows by key and answer lookups, all from one snapshot."""
        asked = list(keys)
        # HANDLER is not in the table: the catalog of deployments answers it.
        questions = [_QUESTIONS[cast("Table | Lookup", key[0])] for key in asked]
        found = self._read(
            [
                (question.statement, (partition, *key[1:]) if question.has_partition else key[1:])
                for key, question in zip(asked, questions, strict=True)
            ]
        )
        return {
            key: self._decode(str(key), question.answer, rows)
            for key, question, rows in zip(asked, questions, found, strict=True)
        }

    async def journal(self, partition: int, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""

        def decode(found: Found) -> list[JournalRow]:
            return [
                JournalRow(invocation_id, index, at_ms, _DECODE_ENTRY(data))
                for index, at_ms, data in found
            ]

        found = self._ask("journal", invocation_id)
        return self._decode(f"journal of {invocation_id}", decode, found)

    async def stream(
        self, partition: int, invocation_id: str, name: str, after: int, size_bytes_max: int
    ) -> list[tuple[int, StreamRow]]:
        """Return rows of a stream, in order, from the last that may reach beyond `after`."""

        def decode(found: Found) -> list[tuple[int, StreamRow]]:
            return [(first_id, _DECODE_STREAM(data)) for first_id, data in found]

        bindings = (invocation_id, name, after)
        found, _ = self._read_until(QUERIES["stream"], bindings, size_bytes_max, 2)
        return self._decode(f"stream {name} of {invocation_id}", decode, found)

    async def state(
        self, partition: int, service: str, key: str, at_ms: int, size_bytes_max: int | None = None
    ) -> StoredState:
        """Return the state of an object key, sorted by name, as much as fits."""
        bindings = (partition, service, key, at_ms)
        found, is_complete = self._read_until(QUERIES["state"], bindings, size_bytes_max)

        def decode(found: Found) -> dict[str, StateRow]:
            return {name: _DECODE_STATE(data) for name, data in found}

        entries = self._decode(f"state of {service}/{key}", decode, found)
        return StoredState(entries, is_complete)

    async def state_keys(
        self, partition: int, service: str, at_ms: int, after: str, limit: int
    ) -> list[str]:
        """Return the keys of a service that have state, sorted, greater than `after`."""
        bindings = (partition, service, after, at_ms, limit)
        return list(_firsts(await self._ask_aside((QUERIES["state_keys"], bindings))))

    async def expired_state(
        self, partition: int, at_ms: int, limit: int
    ) -> list[tuple[str, str, str]]:
        """Return (service, key, name) of state entries that have expired, oldest first."""
        found = self._ask("expired_state", partition, at_ms, limit)
        return [(service, key, name) for service, key, name in found]

    async def timers(self, partition: int, after: Timer | None, limit: int) -> list[Timer]:
        """Return the next timers after one of them."""
        start = Timer(-1, "", "") if after is None else after
        return [Timer(*row) for row in self._ask("timers", partition, *start, limit)]

    async def outbox(self, partition: int, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """Return waiting messages by sequence, greater than `after`."""

        def decode(found: Found) -> list[tuple[int, OutboxRow]]:
            return [(sequence, _DECODE_OUTBOX(data)) for sequence, data in found]

        found = self._ask("outbox", partition, after, limit)
        return self._decode(f"outbox of partition {partition}", decode, found)

    async def with_status(
        self, partition: int, status: Status, after: str, limit: int
    ) -> list[InvocationRow]:
        """Return invocations in a status, by id, greater than `after`.

        Slow for COMPLETED, which has no index: reads all ids.
        """
        if status is Status.COMPLETED:
            found = self._ask("completed", partition, after, limit)
        else:
            found = self._ask("live_with_status", partition, status, after, limit)
        return self._decode("invocation", _decode_invocations, found)

    async def expired(self, partition: int, at_ms: int, limit: int) -> list[str]:
        """Return ids of completed invocations whose retention has passed, oldest first."""
        return list(_firsts(self._ask("expired", partition, at_ms, limit)))

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations of all partitions, newest first by (created_at_ms, id).

        A filter that few rows pass reads many; so this runs in a thread, on its own connection.
        """
        found = await self._ask_aside(list_question(query, before, limit))
        return self._decode("invocation", _decode_invocations, found)

    async def approvals(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        """Return approvals of all partitions, newest first. Runs aside, as `invocations` does."""
        found = await self._ask_aside(inbox_question(query, before, limit))
        return self._decode("approval", read_inbox, found)

    def scan(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over rows of all partitions, aside from everything else."""
        return self._open_or_raise().scanner.pages(scan)

    async def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""

        def decode(found: Found) -> list[StoredDeployment]:
            return [
                StoredDeployment(
                    id_,
                    name,
                    _DECODE_MANIFEST(manifest),
                    created_at_ms,
                    revision,
                    None if endpoint is None else _DECODE_ENDPOINT(endpoint),
                    None if revisions is None else _DECODE_REVISIONS(revisions),
                    None if settings is None else _DECODE_SETTINGS(settings),
                )
                for (
                    id_,
                    name,
                    created_at_ms,
                    revision,
                    manifest,
                    endpoint,
                    revisions,
                    settings,
                ) in found
            ]

        return self._decode("deployment", decode, self._ask("deployments"))


def _decode_invocations(found: Found) -> list[InvocationRow]:
    return [_DECODE_INVOCATION(row[0]) for row in found]


def _answer(cursor: Cursor, questions: Sequence[tuple[str, Bindings]]) -> list[Found]:
    if len(questions) == 1:
        return [cursor.execute(*questions[0]).fetchall()]
    cursor.execute(QUERIES["begin_read"])
    try:
        return [cursor.execute(*question).fetchall() for question in questions]
    finally:
        cursor.execute(QUERIES["commit"])


def list_question(
    query: InvocationFilter, before: tuple[int, str] | None, limit: int
) -> tuple[str, Bindings]:
    """Return the statement and its bindings for a list of invocations."""
    created_at_ms, invocation_id = before or (2**63 - 1, "")
    bindings: list[Value] = [created_at_ms, invocation_id, limit]
    conditions: list[str] = []

    def add(condition: str, value: Value) -> None:
        bindings.append(value)
        conditions.append(condition.format(len(bindings)))

    if query.service is not None:
        add("service = ?{}", query.service)
    if query.handler is not None:
        add("handler = ?{}", query.handler)
    if query.key is not None:
        add("object_key = ?{}", query.key)
    if query.statuses is not None:
        numbers = ", ".join(str(int(status)) for status in query.statuses)
        conditions.append(f"status IN ({numbers})")
    statuses = query.statuses or (Status.COMPLETED,)
    template = QUERIES["invocations" if Status.COMPLETED in statuses else "live_invocations"]
    condition = "".join(f"AND {condition} " for condition in conditions)
    return template.format(filter=condition), tuple(bindings)
