"""What every store must do. A new adapter passes this file before review."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.domain.errors import CorruptState
from holdfast.domain.message import Failure, Output, Signal, Value
from holdfast.domain.target import (
    HandlerKind,
    ServiceKind,
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
from holdfast.storage.base import InvocationFilter, Loaded, Store, Timer
from tests.storage.builder import (
    batch,
    child_completion,
    entry,
    invocation,
    invocation_id,
    journal_input,
    load,
    run_completion,
    signal,
    values,
)

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
        (Lookup.NOTIFICATION, "inv_unknown", "c1"),
        (Lookup.CHILDREN, "inv_unknown"),
        (Lookup.ENTRY, "inv_unknown", 0),
        (Lookup.STATE_NAMES, "cart", "k", 0),
    ]
    answers = await store.load(0, iter(keys))
    assert list(answers) == keys
    assert answers[keys[-5]] is None
    assert answers[keys[-4]] is None
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
        entry(1, 6, signal(name="c5 is no completion")),
        entry(1, 7, Output(Value(b"x"))),
    ]
    await store.commit(batch(0, epoch, invocation(1), invocation(2), journal=journal))
    one, two = invocation_id(1), invocation_id(2)
    found: dict[Key, Loaded] = {
        (Lookup.NOTIFICATION, one, note_of_completion(4)): 1,
        (Lookup.NOTIFICATION, one, note_of_completion(5)): 2,
        (Lookup.NOTIFICATION, one, note_of_completion(7)): None,
        (Lookup.NOTIFICATION, two, note_of_completion(4)): None,
        (Lookup.NOTIFICATION, one, note_of_signal(17, None)): 4,
        (Lookup.NOTIFICATION, one, note_of_signal(18, None)): None,
        (Lookup.NOTIFICATION, one, note_of_signal(None, "c5 is no completion")): 5,
        (Lookup.NOTIFICATION, one, note_of_signal(None, "x")): None,
        (Lookup.CHILDREN, one): (invocation_id(9), invocation_id(8)),
        (Lookup.CHILDREN, two): (),
        (Lookup.ENTRY, one, 5): Signal(journal[5].entry.result, name="c5 is no completion"),  # type: ignore[union-attr]
        (Lookup.ENTRY, one, 8): None,
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


# -- the annex -------------------------------------------------------------------------------------


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
    keys: list[Key] = [(Lookup.NOTIFICATION, invocation_id(1), f"c{n}") for n in range(2000)]
    assert set((await store.load(0, keys)).values()) == {None}
