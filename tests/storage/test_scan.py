"""Scans, on every store."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from holdfast.domain.errors import StorageError
from holdfast.domain.message import Failure, Output, Value
from holdfast.domain.target import Target
from holdfast.engine.row import (
    InboxRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    PromiseRow,
    StateRow,
    Status,
    Table,
)
from holdfast.storage.base import Store
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
from holdfast.storage.sqlite import SqliteStore
from tests.storage.builder import batch, entry, invocation, invocation_id, run_completion

IN, NOT_IN, AT_LEAST, BELOW = Comparison


async def all_of(store: Store, scan: Scan) -> list[Scanned]:
    return [row async for page in store.scan(scan) for row in page]


async def fill(store: Store, count: int = 40) -> list[InvocationRow]:
    pick = random.Random(7)
    rows = [
        invocation(
            number,
            pick.choice(list(Status)),
            target=Target(pick.choice("ab"), pick.choice("xy"), pick.choice([None, "k", "é"])),
            created_at_ms=number // 3,
        )
        for number in range(count)
    ]
    for partition in range(2):
        epoch = await store.acquire(partition, "me", 1)
        await store.commit(batch(partition, epoch, *rows[partition::2]))
    return rows


def values(row: InvocationRow) -> dict[str, str | int | None]:
    target = row.target
    return {
        "id": row.id,
        "status": row.status,
        "service": target.service,
        "handler": target.handler,
        "key": target.key,
        "created_at_ms": row.created_at_ms,
    }


CONDITIONS = [
    (),
    (Condition("id", IN, (invocation_id(3), invocation_id(999))),),
    (Condition("id", IN, (invocation_id(3),)), Condition("status", NOT_IN, (Status.COMPLETED,))),
    (Condition("id", NOT_IN, (invocation_id(3),)),),
    (Condition("status", NOT_IN, (Status.COMPLETED,)),),
    (Condition("status", IN, (Status.COMPLETED, Status.PAUSED)), Condition("service", IN, ("a",))),
    (Condition("status", IN, (Status.SUSPENDED,)), Condition("handler", NOT_IN, ("x",))),
    (Condition("status", IN, ()),),
    (Condition("key", IN, ("k", "é")),),
    (Condition("key", NOT_IN, ("k",)),),
    (Condition("key", AT_LEAST, ("l",)),),
    (Condition("created_at_ms", AT_LEAST, (4,)), Condition("created_at_ms", BELOW, (9,))),
]


@pytest.mark.parametrize("conditions", CONDITIONS)
async def test_invocations(store: Store, conditions: tuple[Condition, ...]) -> None:
    rows = await fill(store)
    wanted = [row for row in rows if all(is_met(c, values(row)[c.column]) for c in conditions)]
    wanted.sort(key=lambda row: row.id)
    found = await all_of(store, Scan(Source.INVOCATION, conditions))
    assert sorted(it.row.id for it in found if isinstance(it, ScannedInvocation)) == [
        row.id for row in wanted
    ]
    assert all(it in [ScannedInvocation(row, None) for row in wanted] for it in found)
    for order in Order:
        wanted.sort(key=lambda row: row.created_at_ms, reverse=order is Order.NEWEST)
        for limit in (None, 0, 4):
            found = await all_of(store, Scan(Source.INVOCATION, conditions, order, limit))
            assert found == [ScannedInvocation(row, None) for row in wanted[:limit]]


async def test_outputs_of_failed_invocations(store: Store) -> None:
    epoch = await store.acquire(0, "me", 1)
    failed = invocation(1, Status.COMPLETED, has_failed=True, output_index=1)
    rows = [failed, invocation(2, Status.COMPLETED, output_index=0), invocation(3)]
    output = Output(Failure(409, "killed"))
    journal = [entry(1, 0, Output(Value(b"1"))), entry(1, 1, output), entry(2, 0, output)]
    await store.commit(batch(0, epoch, *rows, journal=journal))
    found = await all_of(store, Scan(Source.INVOCATION, order=Order.OLDEST, has_outputs=True))
    assert found == [
        ScannedInvocation(rows[0], output),
        ScannedInvocation(rows[1], None),
        ScannedInvocation(rows[2], None),
    ]


async def test_journals(store: Store) -> None:
    epochs = [await store.acquire(partition, "me", 1) for partition in range(2)]
    for number in range(4):
        entries = [entry(number, index, run_completion(index)) for index in range(3)]
        row = invocation(number)
        await store.commit(batch(number % 2, epochs[number % 2], row, journal=entries[::-1]))
    found = await all_of(store, Scan(Source.JOURNAL))
    assert len(found) == 12
    for first in range(0, 12, 3):
        together = [row for row in found[first : first + 3] if isinstance(row, JournalRow)]
        assert len({row.invocation_id for row in together}) == 1
        assert [row.index for row in together] == [0, 1, 2]
    wanted = [entry(2, index, run_completion(index)) for index in range(3)]
    [id_] = {row.invocation_id for row in wanted}
    others = tuple({row.invocation_id for row in found if isinstance(row, JournalRow)} - {id_})
    for conditions in (
        (Condition("id", IN, (id_, "inv_1none")),),
        (Condition("id", NOT_IN, others),),
        (Condition("id", AT_LEAST, (id_,)), Condition("id", BELOW, (id_ + "0",))),
    ):
        assert await all_of(store, Scan(Source.JOURNAL, conditions)) == wanted


async def test_rows_of_keys(store: Store) -> None:
    keyed: dict[Key, object] = {
        (Table.LOCK, "a", "k"): LockRow("inv_1"),
        (Table.LOCK, "b", "k"): LockRow(None),
        (Table.INBOX, "a", "k", 1): InboxRow("inv_2"),
        (Table.STATE, "a", "k", "n"): StateRow(b"1"),
        (Table.STATE, "a", "l", "n"): StateRow(b"2", 5),
        (Table.STATE, "b", "l", "o"): StateRow(b"3"),
        (Table.PROMISE, "a", "k", "n"): PromiseRow(),
    }
    for partition, keys in enumerate((list(keyed)[::2], list(keyed)[1::2])):
        epoch = await store.acquire(partition, "me", 1)
        await store.commit(batch(partition, epoch, put={k: keyed[k] for k in keys}))  # type: ignore[misc]

    async def check(source: Source, *expected: KeyedRow, on: tuple[Condition, ...] = ()) -> None:
        found = await all_of(store, Scan(source, on))
        assert sorted(map(repr, found)) == sorted(map(repr, expected))

    await check(
        Source.LOCK,
        KeyedRow("a", "k", "", LockRow("inv_1")),
        KeyedRow("b", "k", "", LockRow(None)),
    )
    await check(Source.PROMISE, KeyedRow("a", "k", "n", PromiseRow()))
    one, two, three = (
        KeyedRow("a", "k", "n", StateRow(b"1")),
        KeyedRow("a", "l", "n", StateRow(b"2", 5)),
        KeyedRow("b", "l", "o", StateRow(b"3")),
    )
    await check(Source.STATE, one, two, three)
    on_key = Condition("key", IN, ("l",))
    await check(Source.STATE, two, three, on=(on_key,))
    await check(Source.STATE, two, on=(on_key, Condition("service", IN, ("a",))))
    await check(Source.STATE, three, on=(Condition("name", NOT_IN, ("n",)),))


async def test_pages_and_leaving_early(store: Store) -> None:
    await fill(store, 2 * PAGE_ROWS + 10)
    sizes = [len(page) async for page in store.scan(Scan(Source.INVOCATION))]
    assert sizes == [PAGE_ROWS, PAGE_ROWS, 10]
    async with contextlib.aclosing(store.scan(Scan(Source.INVOCATION))) as pages:
        async for page in pages:
            assert len(page) == PAGE_ROWS
            break
    # What was left does not hold up what comes.
    assert len(await all_of(store, Scan(Source.INVOCATION))) == 2 * PAGE_ROWS + 10


async def test_a_scan_sees_the_moment_it_begins(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data.db", 2)
    await store.open()
    rows = await fill(store, PAGE_ROWS + 10)
    seen = 0
    async for page in store.scan(Scan(Source.INVOCATION)):
        seen += len(page)
        epoch = await store.acquire(0, "me", 1)
        await store.commit(batch(0, epoch, put={(Table.INVOCATION, row.id): None for row in rows}))
    assert seen == PAGE_ROWS + 10
    assert await all_of(store, Scan(Source.INVOCATION)) == []
    await store.close()


async def test_closing_ends_scans(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data.db", 2)
    await store.open()
    await fill(store, PAGE_ROWS * 3)
    began = asyncio.Event()

    async def read() -> None:
        async for _ in store.scan(Scan(Source.INVOCATION)):
            began.set()
            await asyncio.sleep(0)

    reading = asyncio.ensure_future(read())
    cancelled = asyncio.ensure_future(read())
    await began.wait()
    cancelled.cancel()
    await store.close()
    with pytest.raises(StorageError):
        await reading
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(StorageError, match="not open"):
        store.scan(Scan(Source.INVOCATION))
