"""The same random commits on memory and SQLite: every answer must be the same."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from holdfast.domain.errors import StorageError
from holdfast.domain.message import Entry, Output, Value
from holdfast.domain.target import Target
from holdfast.engine.decision import Batch, ClearState, DeleteJournal, DeleteTimers, Range, Row
from holdfast.engine.record import KillRequested, OutboxRow
from holdfast.engine.row import (
    DedupRow,
    InboxRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    Lookup,
    PartitionRow,
    PromiseRow,
    StateRow,
    Status,
    Table,
    TimerRow,
)
from holdfast.storage.base import InvocationFilter, Store
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore
from tests.storage.builder import (
    batch,
    child_completion,
    entry,
    invocation,
    invocation_id,
    run_completion,
    signal,
)

PARTITIONS = 2
NUMBERS = 12
"""Invocations per partition: few, so that they are written again and again."""


class Chooser:
    """Makes random batches; small ranges of everything, so that they meet."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self, partition: int) -> int:
        return partition * NUMBERS + self.random.randrange(NUMBERS)

    def row(self, partition: int) -> InvocationRow:
        pick = self.random
        created = pick.randrange(3)
        return invocation(
            self.number(partition),
            pick.choice(list(Status)),
            target=Target(pick.choice("ab"), pick.choice("xy"), pick.choice([None, "k", "l"])),
            created_at_ms=created,
            modified_at_ms=pick.choice([created, created + 1]),
            expires_at_ms=pick.choice([0, 5, 6, 7]),
            attempt=pick.randrange(100),
        )

    def entry(self, partition: int) -> JournalRow:
        pick = self.random
        number = pick.randrange(4)
        entries: list[Entry] = [
            run_completion(number),
            child_completion(number, number),
            signal(index=number),
            signal(name=f"{number}"),
            Output(Value(pick.randbytes(pick.choice([1, 50, 6000])))),
        ]
        return entry(self.number(partition), pick.randrange(5), pick.choice(entries))

    def key(self, partition: int) -> Key:
        pick = self.random
        return pick.choice(
            [
                (Table.INVOCATION, invocation_id(self.number(partition))),
                (Table.LOCK, pick.choice("ab"), pick.choice("kl")),
                (Table.INBOX, pick.choice("ab"), "k", pick.randrange(3)),
                self.timer(partition),
                (Table.STATE, pick.choice("ab"), pick.choice("kl"), pick.choice("uvw")),
                (Table.PROMISE, pick.choice("ab"), pick.choice("kl"), pick.choice("uvw")),
                (Table.OUTBOX, pick.randrange(6)),
                (Table.DEDUP, pick.randrange(2)),
                (Table.PARTITION,),
            ]
        )

    def timer(self, partition: int) -> Key:
        pick = self.random
        identity = invocation_id(self.number(partition))
        return (Table.TIMER, pick.randrange(4), identity, pick.choice(["c1", "retry"]))

    def put(self, key: Key, partition: int) -> tuple[Key, Row | None]:
        pick = self.random
        if key[0] != Table.INVOCATION and pick.random() < 0.3:
            return key, None
        number = pick.randrange(9)
        match key[0]:
            case Table.INVOCATION:
                if pick.random() < 0.1:
                    return key, None
                row = self.row(partition)
                return (Table.INVOCATION, row.id), row
            case Table.LOCK:
                return key, LockRow(None, number)
            case Table.INBOX:
                return key, InboxRow(str(number))
            case Table.TIMER:
                return key, TimerRow()
            case Table.PROMISE:
                return key, PromiseRow(Value(bytes(number)) if number % 2 else None)
            case Table.STATE:
                return key, StateRow(bytes(number))
            case Table.OUTBOX:
                return key, OutboxRow(number, KillRequested("inv_x"))
            case Table.DEDUP:
                return key, DedupRow(number)
            case _:
                return key, PartitionRow(number)

    def batch(self, epochs: list[int]) -> Batch:
        pick = self.random
        partition = pick.randrange(PARTITIONS)
        ranges: list[Range] = []
        for _ in range(pick.choice([0, 0, 1, 2])):
            identity = invocation_id(self.number(partition))
            ranges.append(
                pick.choice(
                    [
                        DeleteTimers(identity),
                        DeleteJournal(identity),
                        ClearState(pick.choice("ab"), pick.choice("kl")),
                    ]
                )
            )
        count = pick.randrange(8)
        rows = dict(self.put(self.key(partition), partition) for _ in range(count))
        journal = [self.entry(partition) for _ in range(pick.choice([0, 0, 1, 1, 3]))]
        epoch = epochs[partition] - (pick.random() < 0.05)
        return batch(partition, epoch, put=rows, ranges=ranges, journal=journal)


async def everything(store: Store) -> list[Any]:
    """Ask all questions."""
    answers: list[Any] = []
    for partition in range(PARTITIONS):
        identities = [invocation_id(partition * NUMBERS + n) for n in range(NUMBERS)]
        keys: list[Key] = [(Table.PARTITION,), *((Table.DEDUP, n) for n in range(2))]
        for identity in identities:
            answers.append(await store.journal(partition, identity))
            keys += [(Table.INVOCATION, identity), (Lookup.CHILDREN, identity)]
            keys += [(Lookup.ENTRY, identity, n) for n in range(5)]
            keys += [
                (Lookup.NOTIFICATION, identity, f"{kind}{n}") for kind in "csn" for n in range(4)
            ]
        for service in "ab":
            for key in "kl":
                keys.append((Lookup.PROMISE_NAMES, service, key))
                keys += [(Table.LOCK, service, key), (Lookup.STATE_NAMES, service, key, 0)]
                keys += [(Table.INBOX, service, key, n) for n in range(3)]
                state = await store.state(partition, service, key, 0)
                answers.append(list(state.entries.items()))
        answers.append(await store.load(partition, keys))
        answers.append(await store.timers(partition, None, 1000))
        answers.append(await store.outbox(partition, -1, 100))
        answers.append([await store.expired(partition, at_ms, 100) for at_ms in range(4, 9)])
        for status in Status:
            answers.append(await store.with_status(partition, status, "", 100))
    for query in (
        InvocationFilter(),
        InvocationFilter(service="a", key="k"),
        InvocationFilter(handler="x", statuses=(Status.RUNNING, Status.PENDING)),
        InvocationFilter(statuses=(Status.RUNNING, Status.COMPLETED)),
    ):
        answers.append(await store.invocations(query, (2, ""), 100))
        answers.append(await store.invocations(query, None, 3))
    return answers


@pytest.mark.parametrize("seed", range(4))
async def test_memory_and_sqlite_agree(tmp_path: Path, seed: int) -> None:
    chooser = Chooser(seed)
    memory = MemoryStore(PARTITIONS)
    sqlite = SqliteStore(tmp_path / "data.db", PARTITIONS, "relaxed")
    await sqlite.open()
    epochs = [await memory.acquire(partition, "a", 1) for partition in range(PARTITIONS)]
    assert [await sqlite.acquire(partition, "a", 1) for partition in range(PARTITIONS)] == epochs
    refused = 0
    for step in range(1000):
        change = chooser.batch(epochs)
        outcomes: list[object] = []
        for store in (memory, sqlite):
            try:
                outcomes.append(await store.commit(change))
            except StorageError as error:
                outcomes.append((type(error), error.code))
        assert outcomes[0] == outcomes[1], f"seed {seed}, step {step}: {change}"
        refused += outcomes[0] is not None
        if step % 25 == 24:
            expected, found = await everything(memory), await everything(sqlite)
            for one, other in zip(expected, found, strict=True):
                assert one == other, f"seed {seed}, step {step}"
    assert 100 < refused < 900
    await sqlite.close()
    await sqlite.open()
    assert await everything(memory) == await everything(sqlite)
    await sqlite.close()
