from __future__ import annotations

from random import Random
from typing import Any

import pytest

from holdfast.domain.detail import FailedStep, ModelCall, StepDetail, ToolCall
from holdfast.domain.message import End, Error, Output, ProposeRunCompletion, Run, Value
from holdfast.engine import detail as detail_module
from holdfast.engine.apply import apply, footprint
from holdfast.engine.record import Expired, HandlerSent, PurgeRequested, RestartRequested
from holdfast.engine.row import DetailRow, Status, Table
from holdfast.engine.view import Stamp, View

from .harness import DEPLOYMENT, Harness
from .prompt_check import problems, prompt_of

CALL = ModelCall(provider="openai", request_model="gpt")


def prompt(*messages: str, answer: str | None = None) -> StepDetail:
    encoded = None if answer is None else answer.encode()
    return StepDetail(CALL, tuple(m.encode() for m in messages), encoded)


class Rig(Harness):
    def call(self, inv: str, number: int, detail: StepDetail) -> None:
        self.sent(inv, Run(number, f"s{number}"), ProposeRunCompletion(number, Value(b"1"), detail))

    def end(self, inv: str) -> None:
        self.sent(inv, Output(Value(b"1")), End())

    def details(self, inv: str) -> dict[tuple[int, int], DetailRow]:
        return {
            key[2:]: row
            for key, row in self.rows.items()
            if key[0] is Table.DETAIL and key[1] == inv
        }

    def count(self, table: Table) -> int:
        return sum(key[0] is table for key in self.rows)

    def check(self) -> None:
        assert problems(self.rows) == []


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_prompt_is_kept_with_its_step(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a", "b", answer="c"))
    row = rig.details(inv)[1, 1]
    assert (row.call, row.service, row.at_ms, row.message_count) == (CALL, "Greeter", rig.now_ms, 2)
    assert prompt_of(rig.rows, row.head) == [b"a", b"b"]
    assert row.answer is not None
    assert rig.rows[Table.CONTENT, row.answer].data == b"c"
    assert not row.is_failed
    assert rig.row(inv).detail_count == 1
    rig.check()


def test_the_journal_does_not_hold_it(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a secret of some length"))
    assert "a secret" not in str(rig.journal(inv))


def test_a_conversation_shares_its_messages(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a", "b", answer="c"))
    rig.call(inv, 2, prompt("a", "b", "c", "d", answer="e"))
    assert rig.count(Table.NODE) == 4
    assert rig.count(Table.CONTENT) == 5
    assert rig.rows[Table.NODE, rig.details(inv)[1, 1].head].count == 2
    rig.check()


def test_other_places_are_other_nodes_of_one_message(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a", "a", "b", "a"))
    rig.call(inv, 2, prompt("b", "a"))
    assert rig.count(Table.NODE) == 6
    assert rig.count(Table.CONTENT) == 2
    rig.check()


def test_the_same_prompt_twice(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a", answer="b"))
    rig.call(inv, 2, prompt("a", answer="b"))
    assert rig.count(Table.NODE) == 1
    rig.check()


def test_a_tool_call_and_a_call_without_content(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, StepDetail(ToolCall(name="search"), (b"{}",), b"[]"))
    rig.call(inv, 2, StepDetail(CALL, omitted="off"))
    assert rig.details(inv)[2, 1].omitted == "off"
    assert rig.details(inv)[2, 1].head is None
    rig.check()


def test_all_goes_with_the_last_journal(rig: Rig) -> None:
    one, two = rig.invoke(), rig.invoke()
    rig.call(one, 1, prompt("a", "b"))
    rig.call(two, 1, prompt("a", "b", "c"))
    rig.end(one)
    rig.end(two)
    rig.apply(PurgeRequested(two))
    rig.check()
    assert rig.count(Table.NODE) == 2
    rig.apply(Expired(one), at_ms=rig.now_ms + 10_000)
    rig.check()
    tables = {key[0] for key in rig.rows}
    assert not tables & {Table.DETAIL, Table.NODE, Table.BLOB, Table.CONTENT}


def test_purging_the_journal_alone_forgets_them(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a"))
    rig.end(inv)
    rig.apply(PurgeRequested(inv, is_journal_only=True))
    assert rig.row(inv).detail_count == 0
    assert rig.count(Table.CONTENT) == 0
    rig.check()
    rig.apply(PurgeRequested(inv))
    rig.check()


def test_many_are_forgotten_in_one_batch(rig: Rig) -> None:
    invs = [rig.invoke() for _ in range(20)]
    for length, inv in enumerate(invs):
        rig.call(inv, 1, prompt(*(f"m{n}" for n in range(5 * length + 1)), answer=f"m{length}"))
        rig.end(inv)
    rig.check()
    rig.apply_together(*(Expired(inv) for inv in invs), at_ms=rig.now_ms + 10_000)
    assert rig.rows == {}


def test_made_and_forgotten_in_one_batch(rig: Rig) -> None:
    one, two = rig.invoke(), rig.invoke()
    rig.call(one, 1, prompt("a", "b", answer="c"))
    rig.end(one)
    record = HandlerSent(
        two,
        rig.epoch,
        1,
        DEPLOYMENT,
        (Run(1, "s"), ProposeRunCompletion(1, Value(b""), prompt("a", "b", "c"))),
    )
    rig.apply_together(PurgeRequested(one), record)
    assert prompt_of(rig.rows, rig.details(two)[1, 1].head) == [b"a", b"b", b"c"]
    rig.check()


def test_a_second_proposal_counts_nothing(rig: Rig) -> None:
    inv = rig.invoke()
    again = ProposeRunCompletion(1, Value(b"1"), prompt("a", answer="b"))
    rig.sent(inv, Run(1, "s"), again, again)
    assert "HF2011" in str(rig.row(inv).last_failure)
    assert len(rig.details(inv)) == 1
    rig.check()


def test_a_late_attempt_leaves_nothing(rig: Rig) -> None:
    inv = rig.invoke()
    rig.sent(inv, Run(1, "s"))
    late = (ProposeRunCompletion(1, Value(b"1"), prompt("a")),)
    rig.apply(HandlerSent(inv, rig.epoch, 7, DEPLOYMENT, late))
    assert rig.count(Table.DETAIL) == 0


def test_one_load_is_enough(rig: Rig) -> None:
    inv = rig.invoke()
    said = [f"m{n}" for n in range(20)]
    rig.call(inv, 1, prompt(*said[:18], answer="a1"))
    rig.sent(inv, Run(2, "s"))
    for detail in (prompt(*said, answer="a2"), prompt(*said[:18], answer="a1")):
        messages = (ProposeRunCompletion(2, Value(b"1"), detail),)
        record = HandlerSent(inv, rig.epoch, 1, DEPLOYMENT, messages)
        facts = {key: rig.rows.get(key) for key in footprint(record)}
        draft = apply(View(0, 1, rig.epoch, facts), record, Stamp(rig.now_ms, bytes(16)))
        assert (Table.DETAIL, inv, 2, 1) in draft.rows


# -- failures --------------------------------------------------------------------------------------


def failed(number: int, detail: StepDetail) -> Error:
    return Error(
        500,
        "no",
        next_retry_delay_ms=0,
        failed_steps=(number,),
        failed_details=(FailedStep(number, detail),),
    )


def test_each_failed_try_is_kept(rig: Rig) -> None:
    inv = rig.invoke()
    rig.sent(inv, Run(1, "s"), failed(1, prompt("a")))
    rig.sent(inv, failed(1, prompt("a")))
    rig.sent(inv, ProposeRunCompletion(1, Value(b"1"), prompt("a", answer="b")))
    kept = {place: row.is_failed for place, row in rig.details(inv).items()}
    assert kept == {(1, 1): True, (1, 2): True, (1, 3): False}
    assert rig.count(Table.NODE) == 1
    rig.check()


def test_a_step_that_never_ends_keeps_the_first_failures(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detail_module, "FAILED_DETAILS_MAX", 3)
    inv = rig.invoke()
    rig.sent(inv, Run(1, "s"))
    for _ in range(5):
        rig.sent(inv, failed(1, prompt("a")))
    assert len(rig.details(inv)) == 3
    rig.check()


def test_what_is_said_of_a_step_that_did_not_fail_is_not_kept(rig: Rig) -> None:
    inv = rig.invoke()
    error = Error(500, "no", failed_details=(FailedStep(9, prompt("a")),))
    rig.sent(inv, error)
    assert rig.count(Table.DETAIL) == 0


# -- limits ----------------------------------------------------------------------------------------


def test_more_than_the_limit_are_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail_module, "DETAILS_MAX", 2)
    inv = rig.invoke()
    for number in range(1, 5):
        rig.call(inv, number, prompt("a"))
    assert sorted(rig.details(inv)) == [(1, 1), (2, 1)]
    assert len(rig.journal(inv)) == 9
    rig.check()


def test_of_a_prompt_that_is_too_long_only_the_call_is_kept(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, StepDetail(CALL, (b"1",) * 10_001))
    row = rig.details(inv)[1, 1]
    assert (row.omitted, row.head, row.call) == ("size", None, CALL)


# -- restart ---------------------------------------------------------------------------------------


def test_a_restart_shares_what_it_keeps(rig: Rig) -> None:
    inv = rig.invoke()
    rig.call(inv, 1, prompt("a", answer="b"))
    rig.call(inv, 2, prompt("a", "b", "c"))
    rig.end(inv)
    new = rig.new_id("Greeter", None)
    rig.apply(RestartRequested(inv, new, 2, DEPLOYMENT))
    assert [*rig.details(new)] == [(1, 1)]
    assert rig.details(new)[1, 1].is_copied
    rig.check()
    rig.apply(PurgeRequested(inv))
    rig.check()
    assert prompt_of(rig.rows, rig.details(new)[1, 1].head) == [b"a"]
    assert rig.status(new) is Status.RUNNING
    rig.sent(new, Output(Value(b"2")), End())
    rig.apply(PurgeRequested(new))
    assert rig.rows == {}


# -- anything --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_counts_are_right_whatever_happens(rig: Rig, seed: int) -> None:
    random = Random(seed)
    words = [str(n) for n in range(3)]
    invs: list[str] = []
    for _ in range(150):
        deed = random.random()
        live = [i for i in invs if rig.status(i) is Status.RUNNING]
        done = [i for i in invs if rig.status(i) is Status.COMPLETED]
        if deed < 0.2 or not invs:
            invs.append(rig.invoke())
        elif deed < 0.6 and live:
            inv = random.choice(live)
            number = rig.row(inv).journal_length + 1
            messages = random.choices(words, k=random.randint(0, 6))
            said = prompt(*messages, answer=random.choice([None, *words]))
            if random.random() < 0.3:
                rig.sent(inv, Run(number, "s"), failed(number, said))
            else:
                rig.call(inv, number, said)
        elif deed < 0.75 and live:
            rig.end(random.choice(live))
        elif deed < 0.85 and done:
            source = random.choice(done)
            new = rig.new_id("Greeter", None)
            index = random.randrange(rig.row(source).journal_length)
            rig.apply(RestartRequested(source, new, index, DEPLOYMENT))
            if (Table.INVOCATION, new) in rig.rows:
                invs.append(new)
        elif done:
            gone = random.sample(done, min(len(done), random.randint(1, 3)))
            is_journal_only = random.random() < 0.3
            records: list[Any] = [PurgeRequested(i, is_journal_only=is_journal_only) for i in gone]
            rig.apply_together(*records)
            if not is_journal_only:
                invs = [i for i in invs if i not in gone]
        rig.check()
