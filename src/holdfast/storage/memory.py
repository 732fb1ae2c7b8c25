"""A store in memory, for tests and for simulation. Nothing survives the process.

It is the model of the port: whatever another adapter answers, this one answers too. Opening and
closing change nothing, so a simulated server can crash and another one go on with the same store.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from copy import copy
from itertools import chain, islice
from typing import TypeVar, cast

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.message import Output
from holdfast.engine.decision import (
    Batch,
    DeleteAnnex,
    DeleteJournal,
    DeleteLane,
    DeleteStreams,
    DeleteTimers,
    Range,
    Row,
)
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import (
    AnnexRow,
    ApprovalRow,
    DetailRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    Lookup,
    PromiseRow,
    StateRow,
    Status,
    StoredDetail,
    StreamRow,
    Table,
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
from holdfast.storage.memory_detail import Details
from holdfast.storage.rule import child_of, fenced, journal_refused, note_of
from holdfast.storage.scan import (
    PAGE_ROWS,
    Comparison,
    Condition,
    KeyedRow,
    Order,
    Scan,
    Scanned,
    ScannedInvocation,
    Source,
    is_met,
)

_Item = TypeVar("_Item", Timer, int, str, tuple[int, str], tuple[int, str, str, str])


def _discard(items: list[_Item], item: _Item) -> None:
    index = bisect_left(items, item)
    assert items[index] == item
    del items[index]


class _Partition:
    """The tables of one partition: rows by key, and sorted lists for what is read in order."""

    def __init__(self) -> None:
        self.epoch = 0
        self.owner = ""
        self.rows: dict[Key, Row] = {}
        self.journals: dict[str, dict[int, JournalRow]] = {}
        self.notes: dict[str, dict[str, int]] = {}
        """By invocation: the notes of its journal, with the first index of each."""
        self.states: dict[tuple[str, str], dict[str, StateRow]] = {}
        self.state_expiries: list[tuple[int, str, str, str]] = []
        self.annexes: dict[str, dict[str, AnnexRow]] = {}
        self.promises: dict[tuple[str, str], list[str]] = {}
        self.approvals: dict[str, dict[int, ApprovalRow]] = {}
        """By invocation and signal index."""
        self.streams: dict[str, dict[str, list[int]]] = {}
        """By invocation and stream: the ids under which its rows are kept, sorted."""
        self.details = Details(self.rows)
        self.timers: list[Timer] = []
        self.timers_of: dict[str, list[Timer]] = {}
        self.outbox: list[int] = []
        self.ids: dict[Status, list[str]] = {status: [] for status in Status}
        self.expiries: list[tuple[int, str]] = []

    def check(self, batch: Batch) -> None:
        """Refuse journal entries that exist already or whose invocation will have no row.

        Raises:
            CorruptState: HF4112.
        """
        emptied = {range_.invocation_id for range_ in batch.ranges if type(range_) is DeleteJournal}
        seen: set[tuple[str, int]] = set()
        for entry in batch.journal:
            place = (entry.invocation_id, entry.index)
            key: Key = (Table.INVOCATION, entry.invocation_id)
            row = batch.rows[key] if key in batch.rows else self.rows.get(key)
            is_stored = entry.invocation_id not in emptied and entry.index in self.journals.get(
                entry.invocation_id, ()
            )
            if row is None or is_stored or place in seen:
                raise journal_refused(batch.partition)
            seen.add(place)

    def write(self, batch: Batch) -> None:
        """Apply the parts of a batch in the order that the port promises."""
        for range_ in batch.ranges:
            self._delete_range(range_)
        for key, row in batch.rows.items():
            self._delete(key, is_replaced=row is not None)
            if row is not None:
                self._put(key, row)
        for entry in batch.journal:
            self.journals.setdefault(entry.invocation_id, {})[entry.index] = entry
            note = note_of(entry.entry)
            if note is not None:
                notes = self.notes.setdefault(entry.invocation_id, {})
                notes[note] = min(entry.index, notes.get(note, entry.index))

    def _delete_range(self, range_: Range) -> None:
        if isinstance(range_, DeleteTimers):
            for timer in tuple(self.timers_of.get(range_.invocation_id, ())):
                self._delete((Table.TIMER, *timer))
        elif isinstance(range_, DeleteJournal):
            self._drop_journal(range_.invocation_id)
        elif isinstance(range_, DeleteStreams):
            for stream, ids in self.streams.pop(range_.invocation_id, {}).items():
                for first_id in ids:
                    del self.rows[Table.STREAM, range_.invocation_id, stream, first_id]
        elif isinstance(range_, DeleteLane):
            self._delete_lane(range_)
        elif isinstance(range_, DeleteAnnex):
            for slot in tuple(self.annexes.get(range_.invocation_id, ())):
                self._delete((Table.ANNEX, range_.invocation_id, slot))
        else:
            for name in tuple(self.states.get((range_.service, range_.key), ())):
                self._delete((Table.STATE, range_.service, range_.key, name))

    def _delete_lane(self, lane: DeleteLane) -> None:
        ids = self.streams.get(lane.invocation_id, {}).get(lane.stream, [])
        for first_id in ids[bisect_left(ids, lane.first_id) :]:
            key: Key = (Table.STREAM, lane.invocation_id, lane.stream, first_id)
            if cast("StreamRow", self.rows[key]).lane == lane.lane:
                del self.rows[key]
                ids.remove(first_id)

    def _drop_journal(self, invocation_id: str) -> None:
        self.journals.pop(invocation_id, None)
        self.notes.pop(invocation_id, None)

    def _delete(self, key: Key, *, is_replaced: bool = False) -> None:
        row = self.rows.pop(key, None)
        if row is None:
            return
        if isinstance(row, InvocationRow):
            _discard(self.ids[row.status], row.id)
            if row.status == Status.COMPLETED and row.expires_at_ms:
                _discard(self.expiries, (row.expires_at_ms, row.id))
            if not is_replaced:
                self._drop_journal(row.id)
        elif key[0] == Table.TIMER:
            timer = Timer(*cast("tuple[int, str, str]", key[1:]))
            _discard(self.timers, timer)
            self.timers_of[timer.invocation_id].remove(timer)
        elif isinstance(row, StateRow):
            self._delete_state(key, row)
        else:
            self._unlist(key, row)

    def _unlist(self, key: Key, row: Row) -> None:
        if key[0] == Table.ANNEX:
            _, invocation_id, slot = cast("tuple[Table, str, str]", key)
            del self.annexes[invocation_id][slot]
        elif key[0] == Table.PROMISE:
            _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
            _discard(self.promises[service, object_key], name)
        elif key[0] == Table.STREAM:
            _, invocation_id, stream, first_id = cast("tuple[Table, str, str, int]", key)
            _discard(self.streams[invocation_id][stream], first_id)
        elif isinstance(row, ApprovalRow):
            del self.approvals[cast("str", key[1])][cast("int", key[2])]
        elif key[0] == Table.DETAIL:
            self.details.delete(key)
        elif key[0] == Table.OUTBOX:
            _discard(self.outbox, cast("int", key[1]))

    def _delete_state(self, key: Key, row: StateRow) -> None:
        _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
        del self.states[service, object_key][name]
        if row.expires_at_ms:
            _discard(self.state_expiries, (row.expires_at_ms, service, object_key, name))

    def _put(self, key: Key, row: Row) -> None:
        # By value: this kind of row is mutable, and its writer may go on with its own.
        self.rows[key] = row = copy(row) if isinstance(row, InvocationRow) else row
        if isinstance(row, InvocationRow):
            insort(self.ids[row.status], row.id)
            if row.status == Status.COMPLETED and row.expires_at_ms:
                insort(self.expiries, (row.expires_at_ms, row.id))
        elif isinstance(row, StateRow):
            _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
            self.states.setdefault((service, object_key), {})[name] = row
            if row.expires_at_ms:
                insort(self.state_expiries, (row.expires_at_ms, service, object_key, name))
        elif isinstance(row, AnnexRow):
            _, invocation_id, slot = cast("tuple[Table, str, str]", key)
            self.annexes.setdefault(invocation_id, {})[slot] = row
        elif isinstance(row, StreamRow):
            _, invocation_id, stream, first_id = cast("tuple[Table, str, str, int]", key)
            insort(self.streams.setdefault(invocation_id, {}).setdefault(stream, []), first_id)
        elif isinstance(row, PromiseRow):
            _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
            insort(self.promises.setdefault((service, object_key), []), name)
        elif isinstance(row, ApprovalRow):
            self.approvals.setdefault(cast("str", key[1]), {})[cast("int", key[2])] = row
        elif isinstance(row, DetailRow):
            self.details.put(key)
        elif isinstance(row, OutboxRow):
            insort(self.outbox, cast("int", key[1]))
        elif key[0] == Table.TIMER:
            timer = Timer(*cast("tuple[int, str, str]", key[1:]))
            insort(self.timers, timer)
            self.timers_of.setdefault(timer.invocation_id, []).append(timer)

    def answer(self, key: Key) -> Loaded:
        """Return the row of a key, or the answer to a lookup."""
        if isinstance(key[0], Table):
            return self.rows.get(key)
        if key[0] == Lookup.STATE_NAMES:
            _, service, object_key, at_ms = cast("tuple[Lookup, str, str, int]", key)
            rows = self.states.get((service, object_key), {})
            return tuple(sorted(name for name, row in rows.items() if row.is_live(at_ms)))
        if key[0] == Lookup.PROMISE_NAMES:
            return tuple(self.promises.get(cast("tuple[str, str]", key[1:]), ()))
        if key[0] == Lookup.NOTIFICATION:
            return self.notes.get(cast("str", key[1]), {}).get(cast("str", key[2]))
        if key[0] == Lookup.ANNEX_SINKS:
            annex = self.annexes.get(cast("str", key[1]), {})
            return tuple(row.sink for _, row in sorted(annex.items()) if row.sink is not None)
        if key[0] == Lookup.APPROVALS:
            approvals = sorted(self.approvals.get(cast("str", key[1]), {}).items())
            return tuple(
                index for index, row in approvals if not key[2] or row.status == ApprovalStatus.OPEN
            )
        found = self.details.answer(key)
        if found is not None:
            return found
        journal = self.journals.get(cast("str", key[1]), {})
        if key[0] == Lookup.CHILDREN:
            children = (child_of(journal[index].entry) for index in sorted(journal))
            return tuple(child for child in children if child is not None)
        assert key[0] == Lookup.ENTRY, f"a store cannot answer {key}"
        item = journal.get(cast("int", key[2]))
        return None if item is None else item.entry

    def scan(self, scan: Scan) -> Iterator[Scanned]:
        """Iterate over rows that meet the conditions of a scan, in any order."""
        for id_ in self._ids(scan.conditions) if scan.source is Source.JOURNAL else ():
            journal = self.journals.get(id_, {})
            yield from (journal[index] for index in sorted(journal))
        if scan.source is Source.DETAIL:
            yield from self.details.scan(scan.conditions)
        elif scan.source is Source.INVOCATION:
            for id_ in self._ids(scan.conditions):
                row = self.rows[Table.INVOCATION, id_]
                if isinstance(row, InvocationRow) and _is_scanned(row, scan.conditions):
                    yield ScannedInvocation(row, self._output(row) if scan.has_outputs else None)
        elif scan.source is not Source.JOURNAL:
            for key, row in self.rows.items():
                if isinstance(row, _SCANNED_ROWS[scan.source]):
                    service, object_key, *name = cast("tuple[str, ...]", key[1:])
                    found = KeyedRow(service, object_key, name[0] if name else "", row)
                    fields = {"service": service, "key": object_key, "name": found.name}
                    if all(is_met(c, fields[c.column]) for c in scan.conditions):
                        yield found

    def _ids(self, conditions: Sequence[Condition]) -> Iterator[str]:
        """Iterate over ids of invocations that meet the conditions on ids, without reading all."""
        on_id = [c for c in conditions if c.column == "id"]
        wanted = next((c.values for c in on_id if c.comparison is Comparison.IN), None)
        for id_ in sorted(chain(*self.ids.values()) if wanted is None else set(wanted)):
            assert isinstance(id_, str)
            if (Table.INVOCATION, id_) in self.rows and all(is_met(c, id_) for c in on_id):
                yield id_

    def _output(self, row: InvocationRow) -> Output | None:
        if not row.has_failed or row.output_index is None:
            return None
        stored = self.journals.get(row.id, {}).get(row.output_index)
        return stored.entry if stored is not None and isinstance(stored.entry, Output) else None


class MemoryStore:
    """Implements `holdfast.storage.base.Store` in memory.

    For simulation, override `commit` and call `apply` when, and if, the write shall happen.
    """

    def __init__(self, partition_count: int = 4) -> None:
        self.partition_count = partition_count
        self._partitions = [_Partition() for _ in range(partition_count)]
        self._deployments: dict[str, StoredDeployment] = {}
        self._secrets: dict[str, bytes] = {}

    async def open(self) -> None:
        """Do nothing: the rows of an earlier opening are still there."""

    async def close(self) -> None:
        """Do nothing."""

    async def acquire(self, partition: int, owner: str, at_ms: int) -> int:
        """Raise the epoch of a partition and return it."""
        held = self._partitions[partition]
        held.epoch += 1
        held.owner = owner
        return held.epoch

    def epoch(self, partition: int) -> int:
        """Return the current epoch of a partition; 0 when nobody ever led it."""
        return self._partitions[partition].epoch

    def apply(self, batch: Batch) -> None:
        """Write a batch at once, all of it or nothing.

        Raises:
            Fenced: The batch is not of the current epoch.
            CorruptState: HF4112, see `Store.commit`.
        """
        partition = self._partitions[batch.partition]
        if batch.epoch != partition.epoch:
            raise fenced(batch, partition.epoch)
        partition.check(batch)
        partition.write(batch)

    async def commit(self, batch: Batch) -> None:
        """Write a batch at once; see `apply`."""
        self.apply(batch)

    async def load(self, partition: int, keys: Iterable[Key]) -> dict[Key, Loaded]:
        """Read rows by key and answer lookups."""
        rows = self._partitions[partition]
        return {key: rows.answer(key) for key in keys}

    async def journal(self, partition: int, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""
        journal = self._partitions[partition].journals.get(invocation_id, {})
        return [journal[index] for index in sorted(journal)]

    async def stream(
        self, partition: int, invocation_id: str, name: str, after: int, size_bytes_max: int
    ) -> list[tuple[int, StreamRow]]:
        """Return rows of a stream, in order, from the last that may reach beyond `after`."""
        held = self._partitions[partition]
        ids = held.streams.get(invocation_id, {}).get(name, [])
        found: list[tuple[int, StreamRow]] = []
        size = 0
        for first_id in ids[max(0, bisect_right(ids, after + 1) - 1) :]:
            row = cast("StreamRow", held.rows[Table.STREAM, invocation_id, name, first_id])
            size += sum(map(len, row.chunks))
            if len(found) > 1 and size > size_bytes_max:
                break
            found.append((first_id, row))
        return found

    async def state(
        self, partition: int, service: str, key: str, at_ms: int, size_bytes_max: int | None = None
    ) -> StoredState:
        """Return the state of an object key, sorted by name, as much as fits."""
        entries: dict[str, StateRow] = {}
        size = 0
        for name, row in sorted(self._partitions[partition].states.get((service, key), {}).items()):
            if not row.is_live(at_ms):
                continue
            size += len(name) + len(row.value)
            if size_bytes_max is not None and size > size_bytes_max:
                return StoredState(entries, is_complete=False)
            entries[name] = row
        return StoredState(entries, is_complete=True)

    async def state_keys(
        self, partition: int, service: str, at_ms: int, after: str, limit: int
    ) -> list[str]:
        """Return the keys of a service that have state, sorted, greater than `after`."""
        keys = sorted(
            key
            for (of, key), rows in self._partitions[partition].states.items()
            if of == service and key > after and any(row.is_live(at_ms) for row in rows.values())
        )
        return keys[:limit]

    async def expired_state(
        self, partition: int, at_ms: int, limit: int
    ) -> list[tuple[str, str, str]]:
        """Return (service, key, name) of state entries that have expired, oldest first."""
        expiries = self._partitions[partition].state_expiries
        count = bisect_left(expiries, (at_ms + 1, "", "", ""))
        return [place[1:] for place in expiries[: min(count, limit)]]

    async def timers(self, partition: int, after: Timer | None, limit: int) -> list[Timer]:
        """Return the next timers after one of them."""
        timers = self._partitions[partition].timers
        start = 0 if after is None else bisect_right(timers, after)
        return timers[start : start + limit]

    async def outbox(self, partition: int, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """Return waiting messages by sequence, greater than `after`."""
        held = self._partitions[partition]
        start = bisect_right(held.outbox, after)
        return [
            (sequence, cast("OutboxRow", held.rows[Table.OUTBOX, sequence]))
            for sequence in held.outbox[start : start + limit]
        ]

    async def with_status(
        self, partition: int, status: Status, after: str, limit: int
    ) -> list[InvocationRow]:
        """Return invocations in a status, by id, greater than `after`."""
        held = self._partitions[partition]
        ids = held.ids[status]
        start = bisect_right(ids, after)
        return [
            cast("InvocationRow", held.rows[Table.INVOCATION, invocation_id])
            for invocation_id in ids[start : start + limit]
        ]

    async def expired(self, partition: int, at_ms: int, limit: int) -> list[str]:
        """Return ids of completed invocations whose retention has passed, oldest first."""
        expiries = self._partitions[partition].expiries
        count = bisect_left(expiries, (at_ms + 1, ""))
        return [invocation_id for _, invocation_id in expiries[: min(count, limit)]]

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations of all partitions, newest first by (created_at_ms, id)."""
        found = [
            row
            for partition in self._partitions
            for row in partition.rows.values()
            if isinstance(row, InvocationRow) and _is_match(row, query, before)
        ]
        found.sort(key=lambda row: (row.created_at_ms, row.id), reverse=True)
        return found[:limit]

    async def approvals(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        """Return approvals of all partitions, newest first by (asked_at_ms, id, index)."""
        found = [
            StoredApproval(invocation_id, index, row)
            for partition in self._partitions
            for invocation_id, rows in partition.approvals.items()
            for index, row in rows.items()
            if (query.statuses is None or row.status in query.statuses)
            and (query.service is None or row.target.service == query.service)
            and (query.assignee is None or query.assignee in row.assignees)
        ]
        found.sort(key=lambda it: it.place, reverse=True)
        return [it for it in found if before is None or it.place < before][:limit]

    async def keep_secret(self, name: str, secret: bytes) -> bytes:
        """Keep a secret unless there is one of this name; return the one that is there."""
        return self._secrets.setdefault(name, secret)

    async def scan(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over rows of all partitions, in pages. Takes its time on the event loop."""
        found = [row for partition in self._partitions for row in partition.scan(scan)]
        if scan.order is not None:
            found.sort(key=_identity)
            found.sort(key=_age, reverse=scan.order is Order.NEWEST)
        rest = islice(found, scan.limit)
        while page := list(islice(rest, PAGE_ROWS)):
            yield page

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Write a deployment."""
        self._deployments[deployment.id] = deployment

    async def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment, if it exists."""
        self._deployments.pop(deployment_id, None)

    async def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        return sorted(self._deployments.values(), key=lambda it: (it.created_at_ms, it.id))

    def is_durable(self) -> bool:
        """Return False: nothing survives the process."""
        return False


_SCANNED_ROWS = {Source.STATE: StateRow, Source.LOCK: LockRow, Source.PROMISE: PromiseRow}


def _identity(scanned: Scanned) -> tuple[str, int, int]:
    if isinstance(scanned, StoredDetail):
        return scanned[:3]
    assert isinstance(scanned, ScannedInvocation), f"{scanned} has no order"
    return scanned.row.id, 0, 0


def _age(scanned: Scanned) -> int:
    if isinstance(scanned, StoredDetail):
        return scanned.row.at_ms
    assert isinstance(scanned, ScannedInvocation), f"{scanned} has no order"
    return scanned.row.created_at_ms


def _is_scanned(row: InvocationRow, conditions: Sequence[Condition]) -> bool:
    target = row.target
    fields: dict[str, str | int | None] = {
        "id": row.id,
        "status": row.status,
        "service": target.service,
        "handler": target.handler,
        "key": target.key,
        "created_at_ms": row.created_at_ms,
    }
    return all(is_met(condition, fields[condition.column]) for condition in conditions)


def _is_match(row: InvocationRow, query: InvocationFilter, before: tuple[int, str] | None) -> bool:
    return (
        (query.service is None or row.target.service == query.service)
        and (query.handler is None or row.target.handler == query.handler)
        and (query.key is None or row.target.key == query.key)
        and (query.statuses is None or row.status in query.statuses)
        and (before is None or (row.created_at_ms, row.id) < before)
    )
