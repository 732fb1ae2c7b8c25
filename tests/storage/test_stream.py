"""Streams in every store: written, read from any place, replaced and removed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from holdfast.engine.decision import DeleteLane, DeleteStreams, Range, Row
from holdfast.engine.row import InvocationRow, Key, StreamRow, Table
from holdfast.storage.base import Store
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore
from tests.storage.builder import batch, invocation, invocation_id

INV, OTHER = invocation_id(1), invocation_id(2)
ALL = 2**40


def rows(inv: str, name: str, *found: tuple[int, StreamRow]) -> dict[Key, Row | None]:
    return {(Table.STREAM, inv, name, first_id): row for first_id, row in found}


def chunks(lane: int, *texts: str) -> StreamRow:
    return StreamRow(lane, tuple(f'"{text}"'.encode() for text in texts))


A = (1, chunks(1, "a", "b", "c"))
B = (4, chunks(2, "d"))
C = (5, chunks(1, "e", "f"))
NOTE = (7, StreamRow(2, (), 4))


@pytest.fixture
async def epoch(store: Store) -> int:
    """The epoch of partition 0, in which two invocations write."""
    epoch = await store.acquire(0, "me", 1)
    put = rows(INV, "default", C, A, B) | rows(INV, "log", A) | rows(OTHER, "default", B)
    await store.commit(batch(0, epoch, invocation(1), invocation(2), put=put))
    return epoch


@pytest.mark.parametrize(
    ("after", "expected"),
    [(0, [A, B, C]), (1, [A, B, C]), (2, [A, B, C]), (3, [B, C]), (4, [C]), (5, [C]), (9, [C])],
)
async def test_a_stream_is_read_from_the_row_that_reaches_beyond_a_place(
    store: Store, epoch: int, after: int, expected: list[tuple[int, StreamRow]]
) -> None:
    assert await store.stream(0, INV, "default", after, ALL) == expected


async def test_streams_do_not_share_rows(store: Store, epoch: int) -> None:
    assert await store.stream(0, INV, "log", 0, ALL) == [A]
    assert await store.stream(0, OTHER, "default", 0, ALL) == [B]
    assert await store.stream(0, OTHER, "log", 0, ALL) == []
    assert await store.stream(0, invocation_id(3), "log", 0, ALL) == []


async def test_a_page_has_two_rows_at_least(store: Store, epoch: int) -> None:
    """The first may lie before the place: with one, a reader would not get on."""
    assert await store.stream(0, INV, "default", 0, 0) == [A, B]
    big = (8, StreamRow(1, (b'"%s"' % (b"x" * 1000),) * 3))
    await store.commit(batch(0, epoch, put=rows(INV, "default", big)))
    assert await store.stream(0, INV, "default", 0, 1000) == [A, B, C]


async def test_a_lost_lane_is_deleted_before_its_note_is_written(store: Store, epoch: int) -> None:
    lost = DeleteLane(INV, "default", 2, 4)
    await store.commit(batch(0, epoch, put=rows(INV, "default", NOTE), ranges=[lost]))
    assert await store.stream(0, INV, "default", 0, ALL) == [A, C, NOTE]
    assert await store.stream(0, INV, "default", 3, ALL) == [A, C, NOTE]
    assert await store.stream(0, OTHER, "default", 0, ALL) == [B]


async def test_all_streams_of_an_invocation_are_deleted_with_it(store: Store, epoch: int) -> None:
    gone: dict[Key, Row | None] = {(Table.INVOCATION, INV): None}
    await store.commit(batch(0, epoch, put=gone, ranges=[DeleteStreams(INV)]))
    assert await store.stream(0, INV, "default", 0, ALL) == []
    assert await store.stream(0, OTHER, "default", 0, ALL) == [B]
    again = invocation(1, created_at_ms=5)
    await store.commit(batch(0, epoch, again, put=rows(INV, "log", C)))
    assert await store.stream(0, INV, "default", 0, ALL) == []
    assert await store.stream(0, INV, "log", 0, ALL) == [C]


async def test_a_new_invocation_writes_in_the_batch_that_makes_it(store: Store, epoch: int) -> None:
    new = invocation_id(3)
    await store.commit(batch(0, epoch, invocation(3), put=rows(new, "default", A)))
    assert await store.stream(0, new, "default", 0, ALL) == [A]


async def test_sqlite_still_has_it_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data.db", 1)
    await store.open()
    epoch = await store.acquire(0, "me", 1)
    await store.commit(batch(0, epoch, invocation(1), put=rows(INV, "default", A, B)))
    await store.close()
    await store.open()
    assert await store.stream(0, INV, "default", 0, ALL) == [A, B]
    await store.close()


@pytest.mark.parametrize("seed", range(3))
async def test_memory_and_sqlite_agree(tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    memory, sqlite = MemoryStore(1), SqliteStore(tmp_path / "data.db", 1, "relaxed")
    await sqlite.open()
    invs = [invocation_id(number) for number in range(3)]
    names = ("default", "log")
    next_ids = {(inv, name): 1 for inv in invs for name in names}
    epochs = [await store.acquire(0, "me", 1) for store in (memory, sqlite)]
    made: tuple[InvocationRow, ...] = tuple(invocation(number) for number in range(3))
    for step in range(400):
        put: dict[Key, Row | None] = {}
        ranges: list[Range] = []
        for _ in range(pick.randrange(4)):
            inv, name = pick.choice(invs), pick.choice(names)
            first_id = next_ids[inv, name]
            if pick.random() < 0.2:
                lane = pick.randrange(4)
                ranges.append(DeleteLane(inv, name, lane, pick.randrange(first_id)))
                row = StreamRow(lane, (), 1)
            else:
                row = chunks(pick.randrange(4), *("x" * pick.randrange(3),) * pick.randint(1, 4))
            put |= rows(inv, name, (first_id, row))
            next_ids[inv, name] += max(1, len(row.chunks))
        if pick.random() < 0.03:
            ranges.append(DeleteStreams(pick.choice(invs)))
        for store, epoch in zip((memory, sqlite), epochs, strict=True):
            await store.commit(batch(0, epoch, *made, put=put, ranges=ranges))
        made = ()
        inv, name = pick.choice(invs), pick.choice(names)
        after = pick.randrange(next_ids[inv, name])
        expected = await memory.stream(0, inv, name, after, ALL)
        assert await sqlite.stream(0, inv, name, after, ALL) == expected, f"{seed}, {step}"
    assert any([await memory.stream(0, inv, "log", 0, ALL) for inv in invs])
    await sqlite.close()
