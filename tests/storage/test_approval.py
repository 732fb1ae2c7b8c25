"""Approvals and secrets: the same answers from all stores."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.target import Target
from holdfast.engine.row import ApprovalRow, Key, Lookup, Table
from holdfast.storage.base import ApprovalFilter, Store, StoredApproval
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore
from tests.storage.builder import batch, invocation, invocation_id

OPEN, APPROVED, EXPIRED = ApprovalStatus.OPEN, ApprovalStatus.APPROVED, ApprovalStatus.EXPIRED


def row(
    at_ms: int,
    status: ApprovalStatus = OPEN,
    *assignees: str,
    service: str = "Claims",
) -> ApprovalRow:
    return ApprovalRow(Target(service, "go"), "Pay é\u2028", at_ms, 1, assignees, status=status)


def place(number: int, index: int = 17) -> Key:
    return (Table.APPROVAL, invocation_id(number), index)


async def test_rows_are_read_as_they_were_written(store: Store) -> None:
    epoch = await store.acquire(0, "me", 1)
    written = row(5, OPEN, "ann", "bob")
    await store.commit(batch(0, epoch, invocation(1), put={place(1): written}))
    assert await store.load(0, [place(1), place(2)]) == {place(1): written, place(2): None}
    decided = row(5, APPROVED, "ann")
    await store.commit(batch(0, epoch, put={place(1): decided}))
    assert (await store.load(0, [place(1)]))[place(1)] == decided
    await store.commit(batch(0, epoch, put={place(1): None}))
    assert (await store.load(0, [place(1)]))[place(1)] is None
    assert await store.approvals(ApprovalFilter(), None, 10) == []


async def test_indexes_of_an_invocation(store: Store) -> None:
    epoch = await store.acquire(0, "me", 1)
    rows: dict[Key, ApprovalRow | None] = {
        place(1, 2**31 + 5): row(1),
        place(1, 18): row(2, EXPIRED),
        place(1, 17): row(3),
        place(2, 19): row(4),
    }
    await store.commit(batch(0, epoch, invocation(1), invocation(2), put={**rows}))
    every: Key = (Lookup.APPROVALS, invocation_id(1), 0)
    opened: Key = (Lookup.APPROVALS, invocation_id(1), 1)
    nothing: Key = (Lookup.APPROVALS, invocation_id(3), 0)
    assert await store.load(0, [every, opened, nothing]) == {
        every: (17, 18, 2**31 + 5),
        opened: (17, 2**31 + 5),
        nothing: (),
    }


QUERIES = [
    ApprovalFilter(),
    ApprovalFilter((OPEN,)),
    ApprovalFilter((APPROVED, EXPIRED)),
    ApprovalFilter(service="Claims"),
    ApprovalFilter(assignee="ann"),
    ApprovalFilter((OPEN,), "Claims", "ann"),
    ApprovalFilter(assignee="an"),
    ApprovalFilter(assignee="nobody's"),
]


async def test_lists_page_through_all_in_one_order(store: Store) -> None:
    dice = random.Random(7)
    stored: list[StoredApproval] = []
    for partition in range(2):
        epoch = await store.acquire(partition, "me", 1)
        rows: dict[Key, ApprovalRow | None] = {}
        for number in range(partition * 30, partition * 30 + 30):
            made = row(
                dice.randrange(10),
                dice.choice((OPEN, APPROVED, EXPIRED)),
                *dice.sample(["ann", "bob", "anna"], dice.randrange(3)),
                service=dice.choice(["Claims", "Other"]),
            )
            rows[place(number)] = made
            stored.append(StoredApproval(invocation_id(number), 17, made))
        invocations = [invocation(n) for n in range(partition * 30, partition * 30 + 30)]
        await store.commit(batch(partition, epoch, *invocations, put={**rows}))
    stored.sort(key=lambda it: it.place, reverse=True)
    for query in QUERIES:
        expected = [
            it
            for it in stored
            if (query.statuses is None or it.row.status in query.statuses)
            and (query.service is None or it.row.target.service == query.service)
            and (query.assignee is None or query.assignee in it.row.assignees)
        ]
        found: list[StoredApproval] = []
        while page := await store.approvals(query, found[-1].place if found else None, 7):
            found += page
        assert found == expected, query


async def test_a_secret_is_made_once(store: Store) -> None:
    assert await store.keep_secret("links", b"first\x00") == b"first\x00"
    assert await store.keep_secret("links", b"second") == b"first\x00"
    assert await store.keep_secret("others", b"third") == b"third"


async def test_a_secret_outlives_the_process(tmp_path: Path) -> None:
    for secret in (b"first", b"second"):
        store = SqliteStore(tmp_path / "data.db")
        await store.open()
        assert await store.keep_secret("links", secret) == b"first"
        await store.close()
    memory = MemoryStore()
    assert await memory.keep_secret("links", b"other") == b"other"


@pytest.mark.parametrize("query", QUERIES[:2])
async def test_lists_use_an_index(tmp_path: Path, query: ApprovalFilter) -> None:
    import apsw

    from holdfast.storage.sqlite.approval import inbox_question

    store = SqliteStore(tmp_path / "data.db")
    await store.open()
    await store.close()
    statement, bindings = inbox_question(query, None, 10)
    connection = apsw.Connection(str(tmp_path / "data.db"))
    plan = " ".join(
        str(step[3]) for step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", bindings)
    )
    connection.close()
    wanted = "approval_open" if query.statuses else "approval_age"
    assert f"USING INDEX {wanted}" in plan
    assert "TEMP B-TREE" not in plan
