"""A store in memory, for tests and for simulation. Nothing survives the process.

It is the model of the port: whatever another adapter answers, this one answers too. Opening and
closing change nothing, so a simulated server can crash and another one go on with the same store.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from copy import copy
from typing import TypeVar, cast

from holdfast.engine.decision import Batch, DeleteJournal, DeleteTimers, Range, Row
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import InvocationRow, JournalRow, Key, Lookup, StateRow, Status, Table
from holdfast.storage.base import InvocationFilter, Loaded, StoredDeployment, Timer
from holdfast.storage.rule import child_of, fenced, journal_refused, note_of

_Item = TypeVar("_Item", Timer, int, str, tuple[int, str])


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
        self.states: dict[tuple[str, str], dict[str, bytes]] = {}
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

    def _delete_range(self, range_: Range) -> None:
        if isinstance(range_, DeleteTimers):
            for timer in tuple(self.timers_of.get(range_.invocation_id, ())):
                self._delete((Table.TIMER, *timer))
        elif isinstance(range_, DeleteJournal):
            self.journals.pop(range_.invocation_id, None)
        else:
            for name in tuple(self.states.get((range_.service, range_.key), ())):
                self._delete((Table.STATE, range_.service, range_.key, name))

    def _delete(self, key: Key, *, is_replaced: bool = False) -> None:
        row = self.rows.pop(key, None)
        if row is None:
            return
        if isinstance(row, InvocationRow):
            _discard(self.ids[row.status], row.id)
            if row.status == Status.COMPLETED and row.expires_at_ms:
                _discard(self.expiries, (row.expires_at_ms, row.id))
            if not is_replaced:
                self.journals.pop(row.id, None)
        elif key[0] == Table.TIMER:
            timer = Timer(*cast("tuple[int, str, str]", key[1:]))
            _discard(self.timers, timer)
            self.timers_of[timer.invocation_id].remove(timer)
        elif key[0] == Table.STATE:
            _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
            del self.states[service, object_key][name]
        elif key[0] == Table.OUTBOX:
            _discard(self.outbox, cast("int", key[1]))

    def _put(self, key: Key, row: Row) -> None:
        # By value: this kind of row is mutable, and its writer may go on with its own.
        self.rows[key] = row = copy(row) if isinstance(row, InvocationRow) else row
        if isinstance(row, InvocationRow):
            insort(self.ids[row.status], row.id)
            if row.status == Status.COMPLETED and row.expires_at_ms:
                insort(self.expiries, (row.expires_at_ms, row.id))
        elif isinstance(row, StateRow):
            _, service, object_key, name = cast("tuple[Table, str, str, str]", key)
            self.states.setdefault((service, object_key), {})[name] = row.value
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
            return tuple(sorted(self.states.get(cast("tuple[str, str]", key[1:]), ())))
        journal = self.journals.get(cast("str", key[1]), {})
        if key[0] == Lookup.HAS_NOTIFICATION:
            return any(note_of(item.entry) == key[2] for item in journal.values())
        if key[0] == Lookup.CHILDREN:
            children = (child_of(journal[index].entry) for index in sorted(journal))
            return tuple(child for child in children if child is not None)
        assert key[0] == Lookup.ENTRY, f"a store cannot answer {key}"
        item = journal.get(cast("int", key[2]))
        return None if item is None else item.entry


class MemoryStore:
    """Implements `holdfast.storage.base.Store` in memory.

    For simulation, override `commit` and call `apply` when, and if, the write shall happen.
    """

    def __init__(self, partition_count: int = 4) -> None:
        self.partition_count = partition_count
        self._partitions = [_Partition() for _ in range(partition_count)]
        self._deployments: dict[str, StoredDeployment] = {}

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

    async def state(self, partition: int, service: str, key: str) -> dict[str, bytes]:
        """Return the whole state of an object key, sorted by name."""
        return dict(sorted(self._partitions[partition].states.get((service, key), {}).items()))

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

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Write a deployment."""
        self._deployments[deployment.id] = deployment

    async def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        return sorted(self._deployments.values(), key=lambda it: (it.created_at_ms, it.id))

    def is_durable(self) -> bool:
        """Return False: nothing survives the process."""
        return False


def _is_match(row: InvocationRow, query: InvocationFilter, before: tuple[int, str] | None) -> bool:
    return (
        (query.service is None or row.target.service == query.service)
        and (query.handler is None or row.target.handler == query.handler)
        and (query.key is None or row.target.key == query.key)
        and (query.statuses is None or row.status in query.statuses)
        and (before is None or (row.created_at_ms, row.id) < before)
    )
