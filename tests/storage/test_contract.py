"""What every store must do. A new adapter passes this file before review."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.errors import CorruptState, Fenced
from holdfast.domain.message import Failure, Output, Signal, Value
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
    Target,
)
from holdfast.engine.decision import ClearState, DeleteAnnex, DeleteJournal, DeleteTimers, Row
from holdfast.engine.record import CompletionSent, Invoke, OutboxRow
from holdfast.engine.row import (
    AnnexRow,
    AttemptFailure,
    DedupRow,
    InboxRow,
    InvocationRow,
    Key,
    LockRow,
    Lookup,
    Origin,
    OriginKind,
    PartitionRow,
    PromiseRow,
    Sink,
    StateRow,
    Status,
    Table,
    TimerRow,
    Waiting,
    note_of_completion,
    note_of_signal,
    slot_of_sink,
)
from holdfast.storage.base import InvocationFilter, Loaded, Store, StoredDeployment, Timer
from tests.storage.builder import (
    batch,
    child_completion,
    entry,
    invocation,
    invocation_id,
    journal_input,
    run_completion,
    signal,
)


@pytest.fixture
async def epoch(store: Store) -> int:
    """The epoch of partition 0."""
    return await store.acquire(0, "me", 1)


async def load(store: Store, key: Key, partition: int = 0) -> Loaded:
    return (await store.load(partition, [key]))[key]


# -- rows ------------------------------------------------------------------------------------------

ROWS: dict[Key, tuple[Row, Row]] = {
    (Table.LOCK, "cart", "k"): (LockRow("inv_1", 1, 2), LockRow(None)),
    (Table.INBOX, "cart", "k", 7): (InboxRow("inv_1"), InboxRow("inv_2")),
    (Table.TIMER, 12, "inv_1", "c3"): (TimerRow(), TimerRow()),
    (Table.PROMISE, "signup", "k", "confirmed"): (
        PromiseRow(None, (Sink("inv_1", 2, 0x8009, 7), Sink("inv_2", 1, 0x8009))),
        PromiseRow(Failure(500, "no", {"a": "b"})),
    ),
    (Table.STATE, "cart", "k", "name"): (StateRow(b""), StateRow(b"\x00" * 5000)),
    (Table.OUTBOX, 3): (
        OutboxRow(1, CompletionSent(Sink("inv_1", 2, 0x800D), Failure(500, "no", {"a": "b"}))),
        OutboxRow(
            0,
            Invoke("i", Target("s", "h"), ServiceKind.SERVICE, HandlerKind.PLAIN, b"\x00\xff"),
        ),
    ),
    (Table.DEDUP, 1): (DedupRow(5), DedupRow(2**40)),
    (Table.PARTITION,): (PartitionRow(1), PartitionRow(9)),
}


@pytest.mark.parametrize("key", ROWS, ids=lambda key: key[0].name)
async def test_a_row_is_written_replaced_and_deleted(store: Store, epoch: int, key: Key) -> None:
    first, second = ROWS[key]
    assert await load(store, key) is None
    for row in (first, second):
        await store.commit(batch(0, epoch, put={key: row}))
        assert await load(store, key) == row
    await store.commit(batch(0, epoch, put={key: None}))
    assert await load(store, key) is None
    await store.commit(batch(0, epoch, put={key: None}))
    assert await load(store, key) is None


@pytest.mark.parametrize("key", ROWS, ids=lambda key: key[0].name)
async def test_partitions_do_not_share_rows(store: Store, epoch: int, key: Key) -> None:
    await store.commit(batch(0, epoch, put={key: ROWS[key][0]}))
    assert await load(store, key, partition=1) is None
    other = await store.acquire(1, "me", 1)
    await store.commit(batch(1, other, put={key: None}))
    assert await load(store, key) == ROWS[key][0]


FULL_INVOCATION = invocation(
    1,
    Status.SUSPENDED,
    target=Target("cart", "add", "key/with \x00 and ü"),
    service_kind=ServiceKind.VIRTUAL_OBJECT,
    handler_kind=HandlerKind.EXCLUSIVE,
    origin=Origin(OriginKind.SERVICE, "inv_parent", "a/b"),
    idempotency_key="idem",
    execute_at_ms=2**41,
    sinks=(Sink("inv_2", 1, 0x800D), Sink("inv_3", 2, 0x8012)),
    open_runs=(1, 5),
    last_failure=AttemptFailure(500, "boom", 12, "trace" * 1000, 3, "step", 0x0411),
    waiting=Waiting((1, 2), (17,), ("name",)),
    output_index=3,
)


async def test_an_invocation_keeps_every_field(store: Store, epoch: int) -> None:
    await store.commit(batch(0, epoch, FULL_INVOCATION))
    assert await load(store, (Table.INVOCATION, FULL_INVOCATION.id)) == FULL_INVOCATION


@pytest.mark.parametrize(
    "changes",
    [
        {"modified_at_ms": 9_999},
        {"status": Status.COMPLETED, "expires_at_ms": 5, "modified_at_ms": 9_999},
        {"status": Status.COMPLETED},
        {"created_at_ms": 77},
        {"created_at_ms": 77, "modified_at_ms": 99, "target": Target("other", "it", "k")},
        {"target": Target("other", "it", "k"), "modified_at_ms": 9_999},
        {"target": Target("other", "it")},
    ],
)
async def test_an_invocation_is_replaced(
    store: Store, epoch: int, changes: dict[str, object]
) -> None:
    await store.commit(batch(0, epoch, invocation(1), journal=[journal_input(1)]))
    changed = invocation(1, **changes)
    await store.commit(batch(0, epoch, changed))
    assert await load(store, (Table.INVOCATION, changed.id)) == changed
    assert await store.with_status(0, changed.status, "", 9) == [changed]
    assert await store.invocations(InvocationFilter(), None, 9) == [changed]
    assert await store.invocations(InvocationFilter("greeter"), None, 9) == (
        [changed] if changed.target.service == "greeter" else []
    )
    expired = [changed.id] if changed.expires_at_ms else []
    assert await store.expired(0, 10**15, 9) == expired
    assert len(await store.journal(0, changed.id)) == 1


async def test_a_row_is_stored_by_value(store: Store, epoch: int) -> None:
    row = invocation(1)
    writing = asyncio.ensure_future(store.commit(batch(0, epoch, row)))
    await asyncio.sleep(0)
    row.attempt = 99
    await writing
    stored = await load(store, (Table.INVOCATION, row.id))
    assert isinstance(stored, InvocationRow)
    assert stored.attempt == 0


async def test_every_key_gets_an_answer(store: Store) -> None:
    keys: list[Key] = [
        *ROWS,
        (Table.INVOCATION, "inv_unknown"),
        (Lookup.HAS_NOTIFICATION, "inv_unknown", "c1"),
        (Lookup.CHILDREN, "inv_unknown"),
        (Lookup.ENTRY, "inv_unknown", 0),
        (Lookup.STATE_NAMES, "cart", "k", 0),
    ]
    answers = await store.load(0, iter(keys))
    assert list(answers) == keys
    assert answers[keys[-5]] is None
    assert answers[keys[-4]] is False
    assert answers[keys[-3]] == ()
    assert answers[keys[-2]] is None
    assert answers[keys[-1]] == ()
    assert await store.load(0, []) == {}


# -- journal ---------------------------------------------------------------------------------------


async def test_a_journal_is_read_in_order(store: Store, epoch: int) -> None:
    entries = [journal_input(1), entry(1, 1), entry(1, 2, run_completion(1)), entry(1, 3)]
    others = [journal_input(2), entry(2, 1)]
    await store.commit(batch(0, epoch, invocation(1), invocation(2), journal=[entries[0], *others]))
    await store.commit(batch(0, epoch, journal=[entries[3], entries[1]]))
    await store.commit(batch(0, epoch, journal=[entries[2]]))
    assert await store.journal(0, invocation_id(1)) == entries
    assert await store.journal(0, invocation_id(2)) == others
    assert await store.journal(0, "inv_unknown") == []


async def test_journal_lookups(store: Store, epoch: int) -> None:
    journal = [
        journal_input(1),
        entry(1, 1, child_completion(4, child=9)),
        entry(1, 2, run_completion(5)),
        entry(1, 3, child_completion(6, child=8)),
        entry(1, 4, signal(index=17)),
        entry(1, 5, signal(name="c5 is no completion")),
        entry(1, 6, Output(Value(b"x"))),
    ]
    await store.commit(batch(0, epoch, invocation(1), invocation(2), journal=journal))
    one, two = invocation_id(1), invocation_id(2)
    found: dict[Key, Loaded] = {
        (Lookup.HAS_NOTIFICATION, one, note_of_completion(4)): True,
        (Lookup.HAS_NOTIFICATION, one, note_of_completion(5)): True,
        (Lookup.HAS_NOTIFICATION, one, note_of_completion(7)): False,
        (Lookup.HAS_NOTIFICATION, two, note_of_completion(4)): False,
        (Lookup.HAS_NOTIFICATION, one, note_of_signal(17, None)): True,
        (Lookup.HAS_NOTIFICATION, one, note_of_signal(18, None)): False,
        (Lookup.HAS_NOTIFICATION, one, note_of_signal(None, "c5 is no completion")): True,
        (Lookup.HAS_NOTIFICATION, one, note_of_signal(None, "x")): False,
        (Lookup.CHILDREN, one): (invocation_id(9), invocation_id(8)),
        (Lookup.CHILDREN, two): (),
        (Lookup.ENTRY, one, 5): Signal(journal[5].entry.result, name="c5 is no completion"),  # type: ignore[union-attr]
        (Lookup.ENTRY, one, 7): None,
        (Lookup.ENTRY, two, 0): None,
    }
    assert await store.load(0, found) == found


@pytest.mark.parametrize(
    "refused",
    [
        batch(0, 1, journal=[journal_input(1)]),
        batch(0, 1, invocation(2), journal=[journal_input(2), journal_input(2)]),
        batch(0, 1, invocation(2), journal=[journal_input(2), journal_input(3)]),
        batch(0, 1, put={(Table.INVOCATION, invocation_id(1)): None}, journal=[entry(1, 1)]),
    ],
    ids=["written before", "twice", "without a row", "of a deleted row"],
)
async def test_a_journal_that_contradicts_is_refused(
    store: Store, epoch: int, refused: object
) -> None:
    await store.commit(batch(0, epoch, invocation(1), journal=[journal_input(1)]))
    good = batch(0, epoch, invocation(5), journal=[journal_input(5)])
    bad = batch(0, epoch, put={(Table.DEDUP, 1): DedupRow(1)})
    bad.rows |= refused.rows  # type: ignore[attr-defined]
    bad.journal = refused.journal  # type: ignore[attr-defined]
    answers = await asyncio.gather(
        store.commit(batch(0, epoch, invocation(4))),
        store.commit(bad),
        store.commit(good),
        return_exceptions=True,
    )
    assert answers[0] is None
    assert answers[2] is None
    assert isinstance(answers[1], CorruptState)
    assert answers[1].code == "HF4112"
    # Nothing of it was written, everything of its neighbours was.
    assert await load(store, (Table.DEDUP, 1)) is None
    assert await load(store, (Table.INVOCATION, invocation_id(2))) is None
    assert await load(store, (Table.INVOCATION, invocation_id(4))) == invocation(4)
    assert await store.journal(0, invocation_id(5)) == [journal_input(5)]
    assert await store.journal(0, invocation_id(1)) == [journal_input(1)]


async def test_deleting_an_invocation_deletes_its_journal(store: Store, epoch: int) -> None:
    await store.commit(
        batch(0, epoch, invocation(1), invocation(2), journal=[journal_input(1), journal_input(2)])
    )
    await store.commit(batch(0, epoch, put={(Table.INVOCATION, invocation_id(2)): None}))
    assert await store.journal(0, invocation_id(2)) == []
    assert await store.with_status(0, Status.RUNNING, "", 9) == [invocation(1)]
    await store.commit(batch(0, epoch, invocation(2)))
    assert await store.journal(0, invocation_id(2)) == []
    assert await store.journal(0, invocation_id(1)) == [journal_input(1)]


# -- ranges come first, then rows, then the journal ------------------------------------------------


async def test_delete_journal_comes_before_new_entries(store: Store, epoch: int) -> None:
    await store.commit(
        batch(0, epoch, invocation(1), journal=[journal_input(1), entry(1, 1), entry(1, 2)])
    )
    again = entry(1, 0, Output(Value(b"again")))
    await store.commit(batch(0, epoch, ranges=[DeleteJournal(invocation_id(1))], journal=[again]))
    assert await store.journal(0, invocation_id(1)) == [again]


async def test_an_invocation_is_removed_and_made_again_at_once(store: Store, epoch: int) -> None:
    old = invocation(1, Status.COMPLETED, expires_at_ms=5)
    await store.commit(batch(0, epoch, old, journal=[journal_input(1), entry(1, 1)]))
    new = invocation(1, created_at_ms=9_000)
    await store.commit(
        batch(
            0,
            epoch,
            new,
            ranges=[DeleteJournal(new.id)],
            journal=[journal_input(1)],
        )
    )
    assert await store.journal(0, new.id) == [journal_input(1)]
    assert await store.expired(0, 100, 9) == []
    assert await store.invocations(InvocationFilter(), None, 9) == [new]


async def test_delete_timers_comes_before_new_timers(store: Store, epoch: int) -> None:
    def timer(at_ms: int, number: int, slot: str) -> Key:
        return (Table.TIMER, at_ms, invocation_id(number), slot)

    old = {timer(1, 1, "start"): TimerRow(), timer(9, 1, "c1"): TimerRow()}
    kept = {timer(5, 2, "retry"): TimerRow()}
    await store.commit(batch(0, epoch, put={**old, **kept}))
    await store.commit(
        batch(
            0,
            epoch,
            ranges=[DeleteTimers(invocation_id(1))],
            put={timer(9, 1, "c1"): TimerRow(), timer(2, 1, "retry"): TimerRow()},
        )
    )
    assert await store.timers(0, None, 9) == [
        Timer(2, invocation_id(1), "retry"),
        Timer(5, invocation_id(2), "retry"),
        Timer(9, invocation_id(1), "c1"),
    ]


async def values(store: Store, partition: int, service: str, key: str) -> dict[str, bytes]:
    state = await store.state(partition, service, key, 0)
    assert state.is_complete
    return {name: row.value for name, row in state.entries.items()}


async def test_clear_state_comes_before_new_state(store: Store, epoch: int) -> None:
    def state(key: str, name: str) -> Key:
        return (Table.STATE, "cart", key, name)

    old: dict[Key, Row | None] = {
        state("a", "x"): StateRow(b"1"),
        state("a", "y"): StateRow(b"2"),
        state("b", "x"): StateRow(b"3"),
        (Table.STATE, "other", "a", "x"): StateRow(b"4"),
    }
    await store.commit(batch(0, epoch, put=old))
    put: dict[Key, Row | None] = {state("a", "z"): StateRow(b"5"), state("a", "q"): None}
    await store.commit(batch(0, epoch, put=put, ranges=[ClearState("cart", "a")]))
    assert await values(store, 0, "cart", "a") == {"z": b"5"}
    assert await values(store, 0, "cart", "b") == {"x": b"3"}
    assert await values(store, 0, "other", "a") == {"x": b"4"}


# -- epochs ----------------------------------------------------------------------------------------


async def test_epochs_rise_per_partition(store: Store) -> None:
    assert [await store.acquire(0, "a", 1) for _ in range(3)] == [1, 2, 3]
    assert await store.acquire(1, "a", 1) == 1


@pytest.mark.parametrize("offset", [-1, 1])
async def test_a_commit_of_another_epoch_is_refused(store: Store, offset: int) -> None:
    await store.acquire(0, "a", 1)
    epoch = await store.acquire(0, "b", 2)
    with pytest.raises(Fenced, match=f"epoch {epoch};.*epoch {epoch + offset} .*HF4002"):
        await store.commit(batch(0, epoch + offset, invocation(1)))
    assert await load(store, (Table.INVOCATION, invocation_id(1))) is None


async def test_a_commit_without_any_leader_is_refused(store: Store) -> None:
    with pytest.raises(Fenced):
        await store.commit(batch(0, 1, invocation(1)))


async def test_a_fenced_commit_does_not_harm_the_others(store: Store) -> None:
    old = await store.acquire(0, "a", 1)
    new = await store.acquire(0, "b", 1)
    other = await store.acquire(1, "b", 1)
    answers = await asyncio.gather(
        store.commit(batch(0, new, invocation(1))),
        store.commit(batch(0, old, invocation(2))),
        store.commit(batch(1, other, invocation(3))),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Fenced, type(None)]
    stored = await store.invocations(InvocationFilter(), None, 9)
    assert [row.id for row in stored] == [invocation_id(3), invocation_id(1)]


async def test_an_epoch_that_rises_meanwhile_fences(store: Store, epoch: int) -> None:
    answers = await asyncio.gather(
        store.commit(batch(0, epoch, invocation(1))),
        store.acquire(0, "b", 2),
        store.commit(batch(0, epoch, invocation(2))),
        store.commit(batch(0, epoch + 1, invocation(3))),
        return_exceptions=True,
    )
    assert answers[:2] == [None, epoch + 1]
    assert isinstance(answers[2], Fenced)
    assert answers[3] is None


# -- many at once ----------------------------------------------------------------------------------


async def test_commits_of_all_partitions_at_the_same_time(store: Store) -> None:
    async def work(partition: int) -> None:
        epoch = await store.acquire(partition, "me", 1)
        for step in range(40):
            number = partition * 1000 + step
            key: Key = (Table.INVOCATION, invocation_id(number))
            await store.commit(
                batch(partition, epoch, invocation(number), journal=[journal_input(number)])
            )
            # What was committed is seen at once, also while others commit.
            assert await load(store, key, partition) == invocation(number)
            assert await store.journal(partition, invocation_id(number)) == [journal_input(number)]

    await asyncio.gather(*(work(partition) for partition in range(store.partition_count)))
    for partition in range(store.partition_count):
        assert len(await store.with_status(partition, Status.RUNNING, "", 100)) == 40


async def test_commits_of_one_partition_are_applied_in_order(store: Store, epoch: int) -> None:
    key: Key = (Table.DEDUP, 1)
    await asyncio.gather(
        *(store.commit(batch(0, epoch, put={key: DedupRow(number)})) for number in range(50))
    )
    assert await load(store, key) == DedupRow(49)


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
    row = ROWS[Table.OUTBOX, 3][0]
    assert isinstance(row, OutboxRow)
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


# -- promises --------------------------------------------------------------------------------------


async def test_names_of_promises(store: Store, epoch: int) -> None:
    def place(name: str, key: str = "k", service: str = "signup") -> Key:
        return (Table.PROMISE, service, key, name)

    names = ["b", "a", "é", "B"]
    put: dict[Key, Row | None] = {place(name): PromiseRow() for name in names}
    put |= {place("x", "other"): PromiseRow(), place("y", service="order"): PromiseRow()}
    await store.commit(batch(0, epoch, put=put))
    lookup = (Lookup.PROMISE_NAMES, "signup", "k")
    assert await load(store, lookup) == tuple(sorted(names))
    await store.commit(batch(0, epoch, put={place("b"): None, place("a"): PromiseRow(Value(b"1"))}))
    assert await load(store, lookup) == ("B", "a", "é")
    assert await load(store, place("a")) == PromiseRow(Value(b"1"))
    assert await load(store, lookup, partition=1) == ()


# -- deployments -----------------------------------------------------------------------------------


def deployment(name: str, created_at_ms: int, revision: int = 1) -> StoredDeployment:
    handler = HandlerManifest(
        name="greet",
        kind=HandlerKind.PLAIN,
        input_schema={"type": "object", "n": [1, None, 2.5, True]},
        retry=RetrySchedule(),
    )
    service = ServiceManifest(name=name, kind=ServiceKind.SERVICE, handlers=(handler,))
    return StoredDeployment(
        f"dp_{name}", name, Manifest(services=(service,)), created_at_ms, revision
    )


async def test_deployments(store: Store) -> None:
    assert list(await store.deployments()) == []
    second, first = deployment("b", 2), deployment("a", 1)
    await store.put_deployment(second)
    await store.put_deployment(first)
    assert list(await store.deployments()) == [first, second]
    replaced = deployment("a", 3, revision=2)
    await store.put_deployment(replaced)
    assert list(await store.deployments()) == [second, replaced]


async def test_deployments_with_settings_of_services(store: Store) -> None:
    settings = {"S": ServiceSettings(is_private=True, abort_timeout_ms=0), "T": ServiceSettings()}
    changed = deployment("w", 1)._replace(settings=settings)
    await store.put_deployment(changed)
    assert list(await store.deployments()) == [changed]
    await store.put_deployment(deployment("w", 1))
    assert list(await store.deployments()) == [deployment("w", 1)]


async def test_deployments_that_are_reached_by_address(store: Store) -> None:
    endpoint = Endpoint(
        uri="https://h/base?x=1",
        headers={"authorization": "Bearer x"},
        http_version=HttpVersion.HTTP_1_1,
        is_bidirectional=False,
        protocol_version_min=5,
        protocol_version_max=6,
        sdk_version="some-sdk/1.2.3",
        metadata={"team": "shop"},
    )
    worker, dialled = deployment("w", 1), deployment("d", 2)
    dialled = dialled._replace(endpoint=endpoint, revisions={"d": 3})
    await store.put_deployment(dialled)
    await store.put_deployment(worker)
    assert list(await store.deployments()) == [worker, dialled]
    await store.delete_deployment(dialled.id)
    await store.delete_deployment("dp_unknown")
    assert list(await store.deployments()) == [worker]


async def test_closing_twice(store: Store) -> None:
    await store.close()
    await store.close()


# -- state that expires, and the annex -------------------------------------------------------------


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


async def test_the_annex_of_an_invocation(store: Store, epoch: int) -> None:
    one, other = invocation_id(1), invocation_id(2)
    sinks = [Sink(invocation_id(9), n, 0x800D, 5) for n in (1, 2)]
    waiting = Waiting((1, 2), (1,), ("go",))
    put: dict[Key, Row | None] = {
        (Table.ANNEX, one, "waiting"): AnnexRow(waiting=waiting),
        (Table.ANNEX, one, "r5"): AnnexRow(),
        **{(Table.ANNEX, one, slot_of_sink(sink)): AnnexRow(sink) for sink in sinks},
        (Table.ANNEX, other, "r5"): AnnexRow(),
    }
    await store.commit(batch(0, epoch, put=put))
    assert await load(store, (Table.ANNEX, one, "waiting")) == AnnexRow(waiting=waiting)
    assert await load(store, (Table.ANNEX, one, "r5")) == AnnexRow()
    assert await load(store, (Table.ANNEX, one, "r6")) is None
    assert await load(store, (Lookup.ANNEX_SINKS, one)) == tuple(sinks)
    assert await load(store, (Lookup.ANNEX_SINKS, other)) == ()
    again: dict[Key, Row | None] = {(Table.ANNEX, one, "r7"): AnnexRow()}
    await store.commit(batch(0, epoch, put=again, ranges=[DeleteAnnex(one)]))
    assert await load(store, (Table.ANNEX, one, "r5")) is None
    assert await load(store, (Table.ANNEX, one, "r7")) == AnnexRow()
    assert await load(store, (Lookup.ANNEX_SINKS, one)) == ()
    assert await load(store, (Table.ANNEX, other, "r5")) == AnnexRow()


async def test_many_notifications_are_looked_for_at_once(store: Store, epoch: int) -> None:
    keys: list[Key] = [(Lookup.HAS_NOTIFICATION, invocation_id(1), f"c{n}") for n in range(2000)]
    assert not any((await store.load(0, keys)).values())
