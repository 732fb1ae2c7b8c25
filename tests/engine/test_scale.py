"""What an invocation has open does not make its row grow, nor a record be applied many times."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from holdfast.domain.message import (
    AttachInvocation,
    Call,
    Completion,
    End,
    GetLazyState,
    OneWayCall,
    Output,
    ProposeRunCompletion,
    Run,
    Suspension,
    Value,
)
from holdfast.engine import annex, view
from holdfast.engine.limit import OPEN_RUNS_MAX
from holdfast.engine.record import KillRequested, TimerFired
from holdfast.engine.row import Status, Table

from .harness import NOW_MS, Harness

COUNT = 1_000
ROW_BYTES_MAX = 1_500
END = (Output(Value(b"")), End())


def row_size(engine: Harness, invocation_id: str) -> int:
    return len(msgspec.msgpack.encode(engine.row(invocation_id)))


def annex_slots(engine: Harness) -> list[str]:
    return [key[2] for key in engine.rows if key[0] is Table.ANNEX]


@pytest.fixture
def missed(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often a record had to be applied again, by how many keys were missing."""
    found: Counter[int] = Counter()

    class Missing(view.Missing):
        def __init__(self, keys: Any) -> None:
            super().__init__(keys)
            found[len(keys)] += 1

    monkeypatch.setattr(view, "Missing", Missing)
    return found


def call(number: int, **options: Any) -> Call:
    fields = {"object_key": None, "idempotency_key": None, **options}
    return Call(
        "Greeter", "greet", b"1", fields["object_key"], (), fields["idempotency_key"],
        2 * number + 1, 2 * number + 2,
    )  # fmt: skip


# -- open steps ------------------------------------------------------------------------------------


def test_open_steps_do_not_make_the_row_grow(missed: Counter[int]) -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *(Run(n) for n in range(1, COUNT + 1)))
    assert annex.open_run_count(engine.row(inv)) == COUNT
    assert row_size(engine, inv) < ROW_BYTES_MAX
    missed.clear()
    results = (ProposeRunCompletion(n, Value(b"")) for n in range(COUNT, 0, -1))
    engine.sent(inv, *results)
    assert missed.total() <= 2, "asked for all open steps at once"
    assert annex.open_run_count(engine.row(inv)) == 0
    assert annex_slots(engine) == []


def test_each_result_of_many_open_steps_counts_once() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *(Run(n) for n in range(1, 101)))
    for number in (100, 1, 100):
        engine.sent(inv, ProposeRunCompletion(number, Value(b"")))
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert "HF2011" in failure.message
    completed = [e.completion_id for e in engine.journal(inv) if isinstance(e, Completion)]
    assert completed == [100, 1]


def test_steps_that_end_in_the_message_they_began_in_leave_nothing() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(
        inv,
        *(Run(n) for n in range(1, 101)),
        *(ProposeRunCompletion(n, Value(b"")) for n in range(1, 101)),
    )
    assert annex.open_run_count(engine.row(inv)) == 0
    assert annex_slots(engine) == []


def test_open_steps_have_a_limit() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *(Run(n) for n in range(1, OPEN_RUNS_MAX + 2)))
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert "HF2015" in failure.message


@pytest.mark.parametrize("how", ["end", "kill"])
def test_the_annex_goes_with_the_end(how: str) -> None:
    engine = Harness()
    inv = engine.invoke()
    waiter = engine.invoke()
    engine.sent(inv, *(Run(n) for n in range(1, 101)))
    engine.sent(waiter, *(AttachInvocation(inv, n) for n in range(1, 101)))
    assert len(annex_slots(engine)) > 100
    if how == "end":
        engine.sent(inv, *END)
    else:
        engine.apply(KillRequested(inv))
    assert annex_slots(engine) == []


# -- sinks -----------------------------------------------------------------------------------------


def test_many_who_wait_for_one_outcome_do_not_make_its_row_grow() -> None:
    engine = Harness()
    inv = engine.invoke()
    waiters = [engine.invoke() for _ in range(100)]
    for waiter in waiters:
        engine.sent(waiter, AttachInvocation(inv, 1))
    assert row_size(engine, inv) < ROW_BYTES_MAX
    engine.sent(inv, *END)
    for waiter in waiters:
        assert engine.journal(waiter)[-1] == Completion(0x8012, 1, Value(b""), NOW_MS)


def test_a_sink_that_comes_twice_is_answered_once() -> None:
    engine = Harness()
    inv = engine.invoke()
    waiter = engine.invoke()
    engine.sent(waiter, *(AttachInvocation(inv, n) for n in range(1, 31)))
    row = engine.row(inv)
    assert len(row.sinks) + row.annex_sink_count == 30
    engine.sent(inv, *END)
    completed = [e.completion_id for e in engine.journal(waiter) if isinstance(e, Completion)]
    assert sorted(completed) == list(range(1, 31))


# -- the await set ---------------------------------------------------------------------------------


def test_a_long_await_set_does_not_make_the_row_grow() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *(Run(n) for n in range(1, 301)))
    engine.sent(inv, Suspension(tuple(range(1, 301)), (1,)))
    assert engine.status(inv) is Status.SUSPENDED
    assert row_size(engine, inv) < ROW_BYTES_MAX
    assert annex.SLOT_WAITING in annex_slots(engine)


def test_any_of_a_long_await_set_resumes() -> None:
    engine = Harness()
    inv = engine.invoke()
    children = [engine.new_id("Greeter", None) for _ in range(100)]
    for child in children:
        engine.invoke(invocation_id=child)
    engine.sent(inv, *(AttachInvocation(c, n) for n, c in enumerate(children, 1)))
    engine.sent(inv, Suspension(tuple(range(1, 101)), (1,)))
    engine.sent(children[70], *END)
    assert engine.status(inv) is Status.RUNNING
    assert not engine.row(inv).is_waiting_in_annex
    assert annex_slots(engine) == []


def test_what_a_long_await_set_does_not_hold_does_not_resume() -> None:
    engine = Harness()
    inv, child = engine.invoke(), engine.invoke()
    engine.sent(inv, AttachInvocation(child, 500), *(Run(n) for n in range(1, 101)))
    engine.sent(inv, Suspension(tuple(range(1, 101)), (1,)))
    engine.sent(child, *END)
    assert engine.status(inv) is Status.SUSPENDED


# -- many at once ----------------------------------------------------------------------------------


def test_many_calls_are_decided_without_asking_for_each(missed: Counter[int]) -> None:
    engine = Harness()
    inv = engine.invoke()
    missed.clear()
    engine.sent(inv, *(call(n) for n in range(COUNT)))
    assert missed.total() <= 2
    assert len([key for key in engine.rows if key[0] is Table.INVOCATION]) == COUNT + 1


def test_many_calls_with_keys_ask_for_all_at_once(missed: Counter[int]) -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.invoke("Greeter", "greet")
    missed.clear()
    engine.sent(inv, *(call(n, idempotency_key=f"k{n}") for n in range(100)))
    assert missed.total() <= 3
    missed.clear()
    engine.serve("Box", "hold", engine.handlers["Greeter", "greet"].manifest.kind)
    sends = (
        OneWayCall("Greeter", "greet", b"", None, (), f"s{n}", 0, 1000 + n) for n in range(100)
    )
    engine.sent(inv, *sends)
    assert missed.total() <= 3


def test_many_lazy_reads_ask_for_all_at_once(missed: Counter[int]) -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    missed.clear()
    engine.sent(inv, *(GetLazyState(f"n{n}", n) for n in range(1, 101)))
    assert missed.total() <= 2


def test_killing_many_children_asks_for_all_at_once(missed: Counter[int]) -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *(call(n) for n in range(100)))
    missed.clear()
    engine.apply(KillRequested(inv))
    assert missed.total() <= 5
    statuses = {row.status for key, row in engine.rows.items() if key[0] is Table.INVOCATION}
    assert statuses == {Status.COMPLETED}


def test_a_timer_of_years_and_one_of_the_past() -> None:
    engine = Harness()
    year_ms = 365 * 24 * 3600 * 1000
    inv = engine.invoke(execute_at_ms=NOW_MS + 50 * year_ms)
    assert engine.status(inv) is Status.SCHEDULED
    [(at_ms, _, slot)] = engine.timers()
    assert at_ms == NOW_MS + 50 * year_ms
    engine.apply(TimerFired(at_ms, inv, slot), at_ms=at_ms)
    assert engine.status(inv) is Status.RUNNING
    past = engine.invoke(execute_at_ms=1)
    assert engine.status(past) is Status.RUNNING
