"""What a partition remembers: never anything else than what the store would answer."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from holdfast.domain.message import Input, Output, SetState, Value
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import ClearState, Range, Row
from holdfast.engine.row import InvocationRow, JournalRow, Key, StateRow, Status, Table
from holdfast.server import recall as module
from holdfast.server.recall import ONE_BYTES_MAX, Recall
from holdfast.storage.base import StoredState
from tests.server.harness import CountingStore, ScriptedAttempt, ScriptedPort, hosting, request


def invocation(number: int, key: str | None = "k") -> InvocationRow:
    return InvocationRow(
        id=f"inv_{number}",
        target=Target("Box", "put", key),
        service_kind=ServiceKind.VIRTUAL_OBJECT,
        handler_kind=HandlerKind.EXCLUSIVE,
        status=Status.PENDING,
        created_at_ms=1,
        modified_at_ms=1,
        journal_length=1,
    )


def made(recall: Recall, row: InvocationRow, entry: Input) -> None:
    recall.note({(Table.INVOCATION, row.id): row}, (), [JournalRow(row.id, 0, 1, entry)])


def test_an_input_is_known_until_it_is_taken() -> None:
    recall, row, entry = Recall(), invocation(1), Input(Value(b"1"))
    made(recall, row, entry)
    assert recall.take_input(row) == entry
    assert recall.take_input(row) is None


def test_an_input_is_not_the_journal_of_one_that_has_begun() -> None:
    recall, row = Recall(), invocation(1)
    made(recall, row, Input(Value(b"1")))
    assert recall.take_input(replace(row, journal_length=2)) is None


def test_inputs_without_a_key_and_long_ones_are_not_kept() -> None:
    recall = Recall()
    plain, long = invocation(1, None), invocation(2)
    made(recall, plain, Input(Value(b"1")))
    made(recall, long, Input(Value(b"x" * ONE_BYTES_MAX)))
    assert recall.take_input(plain) is None
    assert recall.take_input(long) is None


def test_the_oldest_inputs_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "TOTAL_BYTES_MAX", 10_000)
    recall, rows = Recall(), [invocation(number) for number in range(50)]
    for row in rows:
        made(recall, row, Input(Value(b"x" * 1000)))
    known = [recall.take_input(row) is not None for row in rows]
    assert known == sorted(known), "the newest are known"
    assert 5 <= sum(known) <= 10


def test_state_that_was_read_before_a_commit_is_not_kept() -> None:
    recall = Recall()
    version = recall.version
    recall.note({}, (), ())
    recall.keep_state("Box", "k", StoredState({"n": StateRow(b"1")}, True), version)
    assert recall.state("Box", "k", 0) is None
    recall.keep_state("Box", "k", StoredState({"n": StateRow(b"1")}, False), recall.version)
    assert recall.state("Box", "k", 0) is None, "that is not all of it"


def test_state_is_what_the_rows_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOTAL_BYTES_MAX", 6_000)
    choose = random.Random(7)
    recall = Recall()
    stored: dict[str, dict[str, StateRow]] = {key: {} for key in "abcdefgh"}
    hits = 0
    for now_ms in range(5_000):
        key = choose.choice("abcdefgh")
        rows: dict[Key, Row | None] = {}
        ranges: list[Range] = []
        if choose.random() < 0.1:
            ranges.append(ClearState("Box", key))
            stored[key].clear()
        if choose.random() < 0.5:
            name = choose.choice("xyz")
            expires_at_ms = choose.choice((0, 0, now_ms + 20))
            row = StateRow(b"v" * choose.randrange(900), expires_at_ms)
            if choose.random() < 0.3:
                rows[Table.STATE, "Box", key, name] = None
                stored[key].pop(name, None)
            else:
                rows[Table.STATE, "Box", key, name] = row
                stored[key][name] = row
        recall.note(rows, ranges, ())
        asked = choose.choice("abcdefgh")
        live = {n: r for n, r in sorted(stored[asked].items()) if r.is_live(now_ms)}
        known = recall.state("Box", asked, now_ms)
        if known is None:
            found = StoredState(live, True)
            recall.keep_state("Box", asked, found, recall.version)
        else:
            hits += 1
            assert known == StoredState(live, True)
            assert list(known.entries) == list(live)
    assert hits > 500


@pytest.mark.asyncio
async def test_a_busy_key_is_not_read_again_and_its_attempts_see_each_write() -> None:
    class Watched(CountingStore):
        reads = 0

        async def state(self, *args: object) -> StoredState:
            self.reads += 1
            return await super().state(*args)  # type: ignore[arg-type]

        async def journal(self, *args: object) -> list[JournalRow]:
            self.reads += 1
            return await super().journal(*args)  # type: ignore[arg-type]

    store, port = Watched(), ScriptedPort()
    seen: list[dict[str, bytes]] = []

    def increment(attempt: ScriptedAttempt) -> None:
        seen.append(attempt.start.state)
        value = int(attempt.start.state.get("n", b"0")) + 1
        attempt.say(SetState("n", Value(b"%d" % value)))
        attempt.finish(b"%d" % value)

    port.on_open = increment
    async with hosting(store, port) as host:
        for number in range(1, 6):
            finished = await host.call(request(host, "k"))
            assert finished.outcome == Value(b"%d" % number)
    assert seen == [{}, *({"n": b"%d" % number} for number in range(1, 5))]
    assert store.reads <= 2, "the first attempt reads; the others need not"
    outputs = [each.entry for batch in store.batches for each in batch.journal]
    assert Output(Value(b"5")) in outputs
