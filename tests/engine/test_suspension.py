"""Suspensions that wait for a tree: version 7 of the protocol."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.message import (
    AwaitTree,
    Combinator,
    Failure,
    Result,
    Signal,
    Sleep,
    Suspension,
    Value,
    Void,
)
from holdfast.engine.annex import WAITING_INLINE_MAX
from holdfast.engine.record import AttemptLost, SignalSent, TimerFired
from holdfast.engine.row import SLOT_WAITING, Status, Table
from tests.engine.await_model import Done, Leaf, all_leaves_of, done_at
from tests.engine.harness import Harness

FIRST = Combinator.FIRST_COMPLETED
ALL = Combinator.ALL_COMPLETED
ANY_SUCCEEDED = Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED
NO = Failure(500, "no")
CANCEL = 1


def waiting_for(tree: AwaitTree) -> Suspension:
    """Return the suspension that says this tree, with the lists of its leaves."""
    leaves = list(dict.fromkeys(all_leaves_of(tree)))
    numbers = [leaf for leaf in leaves if isinstance(leaf, int)]
    return Suspension(
        tuple(number for number in numbers if number > 0),
        tuple(-number for number in numbers if number < 0),
        tuple(leaf for leaf in leaves if isinstance(leaf, str)),
        tree,
    )


def of_program(node: AwaitTree) -> Suspension:
    """Return what SDKs send: a cancellation, or what the program combines."""
    return waiting_for(AwaitTree(FIRST, (), (CANCEL,), (), (node,)))


def awakeables(combinator: Combinator, *indexes: int) -> Suspension:
    return of_program(AwaitTree(combinator, (), indexes))


OK = Value(b"1")


def signal(engine: Harness, invocation: str, which: int | str, result: Any = OK) -> None:
    is_name = isinstance(which, str)
    sent = Signal(result, name=which) if is_name else Signal(result, index=which)
    engine.apply(SignalSent(invocation, sent))


def lose(engine: Harness, invocation: str) -> None:
    """Lose the attempt; the next one begins, at once or when its time has come."""
    engine.apply(AttemptLost(invocation, engine.epoch, engine.row(invocation).attempt, "cut"))
    for at_ms, _, slot in engine.timers():
        if slot == "retry":
            engine.apply(TimerFired(at_ms, invocation, slot), at_ms=at_ms)
    assert engine.status(invocation) is Status.RUNNING


def test_waiting_for_all_resumes_with_the_last() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, Sleep(engine.now_ms + 10, 1), Sleep(engine.now_ms + 20, 2))
    engine.sent(invocation, of_program(AwaitTree(ALL, (1, 2))))
    (first_ms, _, first), (last_ms, _, last) = engine.timers()
    engine.apply(TimerFired(first_ms, invocation, first), at_ms=first_ms)
    assert engine.status(invocation) is Status.SUSPENDED
    engine.apply(TimerFired(last_ms, invocation, last), at_ms=last_ms)
    assert engine.status(invocation) is Status.RUNNING
    assert engine.row(invocation).waiting is None


def test_a_failure_is_not_enough_for_the_first_success() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, awakeables(ANY_SUCCEEDED, 17, 18))
    signal(engine, invocation, 17, NO)
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 18)
    assert engine.status(invocation) is Status.RUNNING


@pytest.mark.parametrize("combinator", Combinator)
def test_a_cancellation_ends_every_wait(combinator: Combinator) -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, awakeables(combinator, 17, 18))
    signal(engine, invocation, CANCEL, Void())
    assert engine.status(invocation) is Status.RUNNING


def test_a_cancellation_that_was_seen_is_none() -> None:
    engine = Harness()
    invocation = engine.invoke()
    signal(engine, invocation, CANCEL, Void())
    engine.sent(invocation, awakeables(ALL, 17, 18))
    assert engine.status(invocation) is Status.RUNNING
    engine.sent(invocation, awakeables(ALL, 17, 18))
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 17)
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 18)
    assert engine.status(invocation) is Status.RUNNING


def test_what_arrived_before_the_suspension_counts() -> None:
    """Also what the attempt has seen in its replay: SDKs send trees with what is done in them."""
    engine = Harness()
    invocation = engine.invoke()
    signal(engine, invocation, 17)
    lose(engine, invocation)
    engine.sent(invocation, awakeables(ALL, 17, 18))
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 18)
    assert engine.status(invocation) is Status.RUNNING


def test_a_tree_that_is_decided_when_it_comes_starts_again() -> None:
    engine = Harness()
    invocation = engine.invoke()
    signal(engine, invocation, 18, NO)
    signal(engine, invocation, 17)
    engine.sent(invocation, awakeables(Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED, 17, 18, 19))
    assert (engine.status(invocation), engine.row(invocation).attempt) == (Status.RUNNING, 2)


def test_a_name_that_nobody_has_sent_is_a_leaf_like_others() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, of_program(AwaitTree(ALL, (), (17,), ("go",))))
    signal(engine, invocation, "go")
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, "go")
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 17)
    assert engine.status(invocation) is Status.RUNNING


def test_of_a_name_that_has_come_only_the_handler_knows_whether_it_was_taken() -> None:
    """So whatever is new is told to it; and only what is new, or it would suspend for ever."""
    engine = Harness()
    invocation = engine.invoke()
    signal(engine, invocation, "go")
    wait = of_program(AwaitTree(ALL, (), (17, 18), ("go",)))
    engine.sent(invocation, wait)
    assert engine.status(invocation) is Status.RUNNING, "it may not have seen the signal"
    engine.sent(invocation, wait)
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 17)
    assert engine.status(invocation) is Status.RUNNING
    engine.sent(invocation, wait)
    assert engine.status(invocation) is Status.SUSPENDED
    signal(engine, invocation, 18)
    assert engine.status(invocation) is Status.RUNNING


def test_what_comes_while_the_attempt_runs_is_new_where_a_name_has_come() -> None:
    engine = Harness()
    invocation = engine.invoke()
    signal(engine, invocation, "go")
    lose(engine, invocation)
    signal(engine, invocation, 17)
    engine.sent(invocation, of_program(AwaitTree(ALL, (), (17, 18), ("go",))))
    assert engine.status(invocation) is Status.RUNNING


def test_a_large_tree_is_kept_beside_the_row_and_goes_when_it_is_decided() -> None:
    engine = Harness()
    invocation = engine.invoke()
    indexes = range(17, 17 + 3 * WAITING_INLINE_MAX)
    engine.sent(invocation, awakeables(ALL, *indexes))
    assert engine.row(invocation).waiting is None
    key = (Table.ANNEX, invocation, SLOT_WAITING)
    for index in indexes:
        assert engine.status(invocation) is Status.SUSPENDED
        assert key in engine.rows
        signal(engine, invocation, index)
    assert engine.status(invocation) is Status.RUNNING
    assert key not in engine.rows


def test_a_large_tree_that_shrinks_and_is_decided_in_one_batch_is_gone() -> None:
    engine = Harness()
    invocation = engine.invoke()
    indexes = range(17, 17 + 3 * WAITING_INLINE_MAX)
    engine.sent(invocation, awakeables(ALL, *indexes))
    arrived = [SignalSent(invocation, Signal(Void(), index=index)) for index in indexes]
    engine.apply_together(*arrived)
    assert engine.status(invocation) is Status.RUNNING
    assert [key for key in engine.rows if key[0] is Table.ANNEX] == []


def test_a_suspension_on_an_empty_tree_fails_the_attempt() -> None:
    engine = Harness()
    invocation = engine.invoke()
    engine.sent(invocation, waiting_for(AwaitTree(ALL)))
    failure = engine.row(invocation).last_failure
    assert failure is not None
    assert "[HF2010]" in failure.message


@pytest.mark.parametrize("depth", [100, 101, 5000])
def test_the_nesting_of_a_tree_has_a_limit(depth: int) -> None:
    engine = Harness()
    invocation = engine.invoke()
    tree = AwaitTree(ALL, (), (17,))
    for _ in range(depth - 1):
        tree = AwaitTree(ALL, (), (), (), (tree,))
    engine.sent(invocation, Suspension((), (17,), (), tree))
    failure = engine.row(invocation).last_failure
    if depth <= 100:
        assert failure is None
        signal(engine, invocation, 17)
        assert engine.row(invocation).attempt == 2
    else:
        assert failure is not None
        assert "[HF2039]" in failure.message


def trees(depth: int = 2) -> st.SearchStrategy[AwaitTree]:
    children = st.just(()) if depth == 0 else st.lists(trees(depth - 1), max_size=2).map(tuple)
    indexes = st.lists(st.integers(17, 21), max_size=3, unique=True).map(tuple)
    return st.builds(
        AwaitTree, st.sampled_from(Combinator), st.just(()), indexes, st.just(()), children
    )


@given(
    trees(),
    st.permutations(range(17, 22)),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_it_resumes_when_the_tree_is_decided_and_not_before(
    node: AwaitTree, order: list[int], successes: list[bool], before: int, lost: int
) -> None:
    """Whatever arrives before the suspension, seen by the attempt or not, and behind it."""
    engine = Harness()
    invocation = engine.invoke()
    suspension = of_program(node)
    assert suspension.tree is not None
    arrivals: dict[Leaf, Done] = {}

    def is_decided() -> bool:
        assert suspension.tree is not None
        return done_at(suspension.tree, arrivals) is not None

    def status() -> Status:
        return engine.status(invocation)

    for number, (index, is_success) in enumerate(zip(order, successes, strict=True)):
        if number == lost and number <= before:
            lose(engine, invocation)
        if number == before:
            engine.sent(invocation, suspension)
            assert (status() is Status.RUNNING) is is_decided()
            if is_decided():
                return
        result: Result = Value(b"1") if is_success else NO
        signal(engine, invocation, index, result)
        arrivals[-index] = (number, is_success)
        if number >= before:
            assert (status() is Status.RUNNING) is is_decided()
            if is_decided():
                return
