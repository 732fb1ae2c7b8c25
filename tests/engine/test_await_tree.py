"""Trees of what is awaited, one notification after the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.domain.message import (
    AwaitTree,
    Combinator,
    Completion,
    Failure,
    Notification,
    Signal,
    Value,
    Void,
)
from holdfast.engine.await_tree import begin, is_about_success, settle, size_of

from .await_model import Done, Leaf, done_at

FIRST = Combinator.FIRST_COMPLETED
ALL = Combinator.ALL_COMPLETED
ANY_SUCCEEDED = Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED
ALL_SUCCEEDED = Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED
UNKNOWN = Combinator.UNKNOWN
NO = Failure(500, "no")


def done(completion_id: int, *, is_failed: bool = False) -> Completion:
    return Completion(0x800D, completion_id, NO if is_failed else Value(b"1"))


def played(tree: AwaitTree, *arrived: Notification) -> list[bool | None]:
    """Return what is known after each arrival: None while the tree is not decided."""
    left = begin(tree)
    found: list[bool | None] = []
    for notification in arrived:
        if isinstance(left, AwaitTree):
            left = settle(left, notification)
        found.append(left if isinstance(left, bool) else None)
    return found


@pytest.mark.parametrize(
    ("combinator", "failed", "expected"),
    [
        (FIRST, (False, False), [True, True]),
        (FIRST, (True, False), [False, False]),
        (UNKNOWN, (True, False), [False, False]),
        (ALL, (False, False), [None, True]),
        (ALL, (True, True), [None, True]),
        (ANY_SUCCEEDED, (False, True), [True, True]),
        (ANY_SUCCEEDED, (True, False), [None, True]),
        (ANY_SUCCEEDED, (True, True), [None, False]),
        (ALL_SUCCEEDED, (False, False), [None, True]),
        (ALL_SUCCEEDED, (True, False), [False, False]),
        (ALL_SUCCEEDED, (False, True), [None, False]),
    ],
)
def test_each_combinator(
    combinator: Combinator, failed: tuple[bool, bool], expected: list[bool | None]
) -> None:
    tree = AwaitTree(combinator, (1, 2))
    arrived = [done(number, is_failed=how) for number, how in zip((1, 2), failed, strict=True)]
    assert played(tree, *arrived) == expected


def test_leaves_of_all_kinds() -> None:
    tree = AwaitTree(ALL, (1,), (17,), ("go",))
    arrived = [Signal(Void(), name="go"), done(1), Signal(Value(b"1"), index=17)]
    assert played(tree, *arrived) == [None, None, True]


def test_what_is_not_awaited_changes_nothing() -> None:
    tree = AwaitTree(ALL, (1,), (17,), ("go",), (AwaitTree(UNKNOWN, (2,)), AwaitTree(FIRST, (3,))))
    for other in (done(9), Signal(Void(), index=1), Signal(Void(), name="stop")):
        assert settle(tree, other) is tree


def test_nodes_inside_of_nodes() -> None:
    """As SDKs send it: a cancellation, or what the program combines."""
    tree = AwaitTree(
        FIRST, (), (1,), (), (AwaitTree(ALL, (1,), (), (), (AwaitTree(ANY_SUCCEEDED, (2, 3)),)),)
    )
    assert played(tree, done(2, is_failed=True), done(1), done(3)) == [None, None, True]
    assert played(tree, done(1), Signal(Void(), index=1)) == [None, True]


def test_a_nested_node_that_is_unknown_is_done_with_anything_below_it() -> None:
    below = AwaitTree(UNKNOWN, (1,), (), (), (AwaitTree(ALL, (2, 3)),))
    assert played(AwaitTree(ALL, (), (), (), (below,)), done(3)) == [True]
    assert played(below, done(3), done(2)) == [None, True]


@pytest.mark.parametrize(
    ("combinator", "expected"), [(ALL, True), (ALL_SUCCEEDED, True), (ANY_SUCCEEDED, False)]
)
def test_a_node_that_needs_all_of_nothing_is_done(combinator: Combinator, expected: bool) -> None:
    assert begin(AwaitTree(combinator)) is expected
    nested = AwaitTree(FIRST, (1,), (), (), (AwaitTree(combinator),))
    assert begin(nested) is expected


def test_the_first_of_nothing_never_comes() -> None:
    tree = AwaitTree(ALL, (1,), (), (), (AwaitTree(FIRST),))
    assert played(tree, done(1)) == [None]


def test_whether_results_count() -> None:
    assert not is_about_success(AwaitTree(ALL, (1,), (), (), (AwaitTree(FIRST, (2,)),)))
    assert is_about_success(AwaitTree(FIRST, (1,), (), (), (AwaitTree(ALL_SUCCEEDED, (2,)),)))


def test_size_counts_nodes_and_leaves() -> None:
    assert size_of(AwaitTree(ALL, (1, 2), (17,), ("go",), (AwaitTree(FIRST),))) == 6


def trees(depth: int = 3) -> st.SearchStrategy[AwaitTree]:
    children = st.just(()) if depth == 0 else st.lists(trees(depth - 1), max_size=3).map(tuple)
    numbers = st.lists(st.integers(1, 4), max_size=2, unique=True).map(tuple)
    names = st.lists(st.sampled_from("ab"), max_size=1).map(tuple)
    return st.builds(AwaitTree, st.sampled_from(Combinator), numbers, numbers, names, children)


LEAVES: list[Leaf] = [1, 2, 3, 4, -1, -2, -3, -4, "a", "b"]


def notification(leaf: Leaf, is_success: bool) -> Notification:
    result = Value(b"1") if is_success else NO
    if isinstance(leaf, str):
        return Signal(result, name=leaf)
    return Completion(0x800D, leaf, result) if leaf > 0 else Signal(result, index=-leaf)


@given(trees(), st.permutations(LEAVES), st.lists(st.booleans(), min_size=10, max_size=10))
def test_step_by_step_comes_to_the_same_as_all_at_once(
    tree: AwaitTree, order: list[Leaf], successes: list[bool]
) -> None:
    left = begin(tree)
    arrivals: dict[Leaf, Done] = {}
    for number, (leaf, is_success) in enumerate(zip(order, successes, strict=True), 1):
        expected = done_at(tree, arrivals)
        assert (left if isinstance(left, bool) else None) == (expected and expected[1])
        arrivals[leaf] = (number, is_success)
        if isinstance(left, AwaitTree):
            left = settle(left, notification(leaf, is_success))
