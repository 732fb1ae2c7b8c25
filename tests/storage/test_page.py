"""What stores give page by page, and in which order: one contract for all."""

from __future__ import annotations

import pytest

from holdfast.domain.target import (
    Target,
)
from holdfast.engine.decision import Row
from holdfast.engine.record import KillRequested, OutboxRow
from holdfast.engine.row import (
    InvocationRow,
    Key,
    Lookup,
    StateRow,
    Status,
    Table,
    TimerRow,
)
from holdfast.storage.base import InvocationFilter, Store, Timer
from tests.storage.builder import (
    batch,
    invocation,
    invocation_id,
    load,
    values,
)

# -- pages -----------------------------------------------------------------------------------------


async def test_pages_of_timers(store: Store, epoch: int) -> None:
    timers = [
        Timer(at_ms, invocation_id(number), slot)
        for at_ms in (0, 7, 2**42)
        for number in (1, 2)
        for slot in ("c1", "c10", "c2", "retry")
    ]
    await store.commit(batch(0, epoch, put={(Table.TIMER, *timer): TimerRow() for timer in timers}))
    timers.sort()
    assert await store.timers(0, None, 100) == timers
    assert await store.timers(1, None, 100) == []
    found: list[Timer] = []
    while page := await store.timers(0, found[-1] if found else None, 5):
        assert len(page) <= 5
        found += page
    assert found == timers
    assert await store.timers(0, Timer(7, "", ""), 1) == [
        min(timer for timer in timers if timer.at_ms == 7)
    ]


async def test_pages_of_the_outbox(store: Store, epoch: int) -> None:
    row = OutboxRow(1, KillRequested(invocation_id(1)))
    await store.commit(batch(0, epoch, put={(Table.OUTBOX, n): row for n in (5, 3, 12, 4, 100)}))
    assert await store.outbox(0, 0, 3) == [(3, row), (4, row), (5, row)]
    assert await store.outbox(0, 5, 9) == [(12, row), (100, row)]
    assert await store.outbox(0, 100, 9) == []
    assert await store.outbox(1, 0, 9) == []


@pytest.mark.parametrize("status", list(Status))
async def test_pages_by_status(store: Store, epoch: int, status: Status) -> None:
    rows = sorted((invocation(number, status) for number in range(7)), key=lambda row: row.id)
    others = [invocation(10 + other, other) for other in Status if other is not status]
    await store.commit(batch(0, epoch, *rows, *others))
    other_partition = await store.acquire(1, "me", 1)
    await store.commit(batch(1, other_partition, invocation(99, status)))
    assert await store.with_status(0, status, "", 3) == rows[:3]
    assert await store.with_status(0, status, rows[2].id, 100) == rows[3:]
    assert await store.with_status(0, status, rows[-1].id, 100) == []


async def test_expired(store: Store, epoch: int) -> None:
    ends = {1: 500, 2: 100, 3: 0, 4: 300, 5: 301, 6: 100}
    rows = [invocation(n, Status.COMPLETED, expires_at_ms=at) for n, at in ends.items()]
    running = invocation(7, Status.RUNNING, expires_at_ms=1)
    await store.commit(batch(0, epoch, *rows, running))
    tied = sorted([invocation_id(2), invocation_id(6)])
    assert await store.expired(0, 99, 10) == []
    assert await store.expired(0, 100, 10) == tied
    assert await store.expired(0, 300, 10) == [*tied, invocation_id(4)]
    assert await store.expired(0, 300, 1) == tied[:1]
    assert await store.expired(1, 1_000, 10) == []
    gone: dict[Key, Row | None] = {(Table.INVOCATION, it): None for it in tied}
    await store.commit(batch(0, epoch, put=gone))
    assert await store.expired(0, 500, 10) == [invocation_id(4), invocation_id(5), invocation_id(1)]


# -- lists -----------------------------------------------------------------------------------------


async def test_lists_are_filtered_and_paged_newest_first(store: Store, epoch: int) -> None:
    rows: list[InvocationRow] = []
    for number in range(36):
        target = Target(
            "cart" if number % 2 else "greeter",
            "add" if number % 3 else "get",
            f"k{number % 4}" if number % 2 else None,
        )
        status = Status(number % len(Status))
        rows.append(invocation(number, status, target=target, created_at_ms=number // 5))
    other = await store.acquire(1, "me", 1)
    await store.commit(batch(0, epoch, *rows[::2]))
    await store.commit(batch(1, other, *rows[1::2]))
    rows.sort(key=lambda row: (row.created_at_ms, row.id), reverse=True)

    async def check(query: InvocationFilter, expected: list[InvocationRow]) -> None:
        assert await store.invocations(query, None, 100) == expected
        found: list[InvocationRow] = []
        before: tuple[int, str] | None = None
        while page := await store.invocations(query, before, 4):
            found += page
            before = (page[-1].created_at_ms, page[-1].id)
        assert found == expected

    await check(InvocationFilter(), rows)
    await check(
        InvocationFilter(service="cart"), [row for row in rows if row.target.service == "cart"]
    )
    await check(
        InvocationFilter(handler="get"), [row for row in rows if row.target.handler == "get"]
    )
    await check(InvocationFilter(key="k1"), [row for row in rows if row.target.key == "k1"])
    for statuses in [(), (Status.COMPLETED,), (Status.RUNNING, Status.PAUSED), tuple(Status)]:
        await check(
            InvocationFilter(statuses=statuses), [row for row in rows if row.status in statuses]
        )
    await check(
        InvocationFilter("cart", "add", "k3", (Status.SUSPENDED, Status.BACKING_OFF)),
        [
            row
            for row in rows
            if row.target == Target("cart", "add", "k3")
            and row.status in (Status.SUSPENDED, Status.BACKING_OFF)
        ],
    )


async def test_state_is_sorted_by_name(store: Store, epoch: int) -> None:
    names = ["b", "ä", "a", "B", "", "\U0001f600", "\uffee", "a\x00"]
    put: dict[Key, Row | None] = {
        (Table.STATE, "cart", "k", name): StateRow(name.encode()) for name in names
    }
    await store.commit(batch(0, epoch, put=put))
    state = await values(store, 0, "cart", "k")
    assert list(state) == sorted(names)
    assert state == {name: name.encode() for name in names}
    assert await load(store, (Lookup.STATE_NAMES, "cart", "k", 0)) == tuple(sorted(names))
    assert await values(store, 0, "cart", "other") == {}
    assert await values(store, 1, "cart", "k") == {}


# -- state -----------------------------------------------------------------------------------------


async def test_state_is_read_up_to_a_size(store: Store, epoch: int) -> None:
    put: dict[Key, Row | None] = {
        (Table.STATE, "cart", "k", name): StateRow(bytes(1000)) for name in ("a", "b", "c")
    }
    await store.commit(batch(0, epoch, put=put))
    for size_max, names in ((10, []), (2100, ["a", "b"]), (4000, ["a", "b", "c"])):
        state = await store.state(0, "cart", "k", 0, size_max)
        assert list(state.entries) == names
        assert state.is_complete == (len(names) == 3)


async def test_state_that_has_expired_is_not_read(store: Store, epoch: int) -> None:
    put: dict[Key, Row | None] = {
        (Table.STATE, "cart", "k", "always"): StateRow(b"1"),
        (Table.STATE, "cart", "k", "soon"): StateRow(b"2", 100),
        (Table.STATE, "cart", "k", "later"): StateRow(b"3", 200),
        (Table.STATE, "cart", "gone", "soon"): StateRow(b"4", 100),
    }
    await store.commit(batch(0, epoch, put=put))
    names = {99: ("always", "later", "soon"), 100: ("always", "later"), 200: ("always",)}
    for at_ms, expected in names.items():
        assert tuple((await store.state(0, "cart", "k", at_ms)).entries) == expected
        assert await load(store, (Lookup.STATE_NAMES, "cart", "k", at_ms)) == expected
    assert await load(store, (Table.STATE, "cart", "k", "soon")) == StateRow(b"2", 100)
    assert await store.state_keys(0, "cart", 99, "", 10) == ["gone", "k"]
    assert await store.state_keys(0, "cart", 100, "", 10) == ["k"]
    assert await store.expired_state(0, 99, 10) == []
    first = await store.expired_state(0, 200, 2)
    assert sorted(first) == [("cart", "gone", "soon"), ("cart", "k", "soon")]
    drop: dict[Key, Row | None] = {
        (Table.STATE, "cart", "gone", "soon"): None,
        (Table.STATE, "cart", "k", "soon"): StateRow(b"5"),
    }
    await store.commit(batch(0, epoch, put=drop))
    assert await store.expired_state(0, 1000, 10) == [("cart", "k", "later")]
    assert await store.expired_state(1, 1000, 10) == []


async def test_keys_with_state_are_paged(store: Store, epoch: int) -> None:
    put: dict[Key, Row | None] = {
        (Table.STATE, "cart", key, name): StateRow(b"1") for key in "cab" for name in "xy"
    }
    put[Table.STATE, "other", "z", "x"] = StateRow(b"1")
    await store.commit(batch(0, epoch, put=put))
    assert await store.state_keys(0, "cart", 0, "", 2) == ["a", "b"]
    assert await store.state_keys(0, "cart", 0, "b", 2) == ["c"]
    assert await store.state_keys(1, "cart", 0, "", 2) == []
