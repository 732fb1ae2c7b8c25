"""What a suspended invocation waits for, when it is more than *any one*: version 7 of the protocol.

A tree has leaves, each something that can arrive, and nodes that say which of their children they
need (`Combinator`). It is evaluated by making it smaller: `settle` takes out what has arrived, and
returns a smaller tree or, once it is decided, whether that is a success. So the order of arrival
counts as it does in the handler, and nothing that has arrived is looked at twice.

    node                                done, as a success                done, as a failure
    FIRST_COMPLETED                     the first child that is done, as it is
    ALL_COMPLETED                       all children are done
    FIRST_SUCCEEDED_OR_ALL_FAILED       one child is, as a success        all are, as failures
    ALL_SUCCEEDED_OR_FIRST_FAILED       all are, as successes             one is, as a failure
    UNKNOWN                             inside of a tree: the first leaf below it, as it is

At the root UNKNOWN is FIRST_COMPLETED. A node that needs all of nothing is done; one that needs the
first of nothing never is.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from holdfast.domain.message import (
    AwaitTree,
    Combinator,
    Completion,
    Failure,
    Notification,
    Signal,
)

_ABOUT_SUCCESS = (
    Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED,
    Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED,
)


def begin(tree: AwaitTree) -> AwaitTree | bool:
    """Take out nodes that need nothing.

    Returns:
        The tree that is left, or whether it is a success: then it is decided already.
    """
    # What is below a node that is unknown is looked for as a whole: see `_settle_child`.
    begun = [c if c.combinator is Combinator.UNKNOWN else begin(c) for c in tree.children]
    children, done = _sorted(begun)
    return _decide(replace(tree, children=children), done)


def settle(tree: AwaitTree, arrived: Notification) -> AwaitTree | bool:
    """Take out what has arrived.

    Returns:
        The tree that is left, the same one when it does not wait for this; or whether it is a
        success: then it is decided.
    """
    is_success = not isinstance(arrived.result, Failure)
    rest = _without(tree, arrived)
    children, done = _sorted([_settle_child(child, arrived) for child in tree.children])
    if rest is not tree:
        done.insert(0, is_success)
    elif not done and all(a is b for a, b in zip(children, tree.children, strict=True)):
        return tree
    return _decide(replace(rest, children=children), done)


def is_about_success(tree: AwaitTree) -> bool:
    """Whether it matters how something ends, and not only that it does."""
    return tree.combinator in _ABOUT_SUCCESS or any(is_about_success(c) for c in tree.children)


def depth_of(tree: AwaitTree) -> int:
    """Return how deep nodes are nested; 1 for a node without any below it."""
    depth, level = 0, [tree]
    # Level by level: what comes from outside may be deeper than calls can be.
    while level:
        depth += 1
        level = [child for node in level for child in node.children]
    return depth


def size_of(tree: AwaitTree) -> int:
    """Return how many nodes and leaves there are."""
    leaves = len(tree.completions) + len(tree.signals) + len(tree.named_signals)
    return 1 + leaves + sum(size_of(child) for child in tree.children)


def _settle_child(child: AwaitTree, arrived: Notification) -> AwaitTree | bool:
    if child.combinator is not Combinator.UNKNOWN:
        return settle(child, arrived)
    return not isinstance(arrived.result, Failure) if _has(child, arrived) else child


def _sorted(children: list[AwaitTree | bool]) -> tuple[tuple[AwaitTree, ...], list[bool]]:
    """Return those that are not done, and how the others have ended."""
    rest = tuple(child for child in children if not isinstance(child, bool))
    return rest, [child for child in children if isinstance(child, bool)]


def _decide(rest: AwaitTree, done: list[bool]) -> AwaitTree | bool:
    """Return what a node comes to.

    Args:
        rest: The node, with those children and leaves that are not done.
        done: How the others have ended: all of them just now, none was done before.
    """
    is_empty = not (rest.completions or rest.signals or rest.named_signals or rest.children)
    match rest.combinator:
        case Combinator.UNKNOWN | Combinator.FIRST_COMPLETED:
            return done[0] if done else rest
        case Combinator.ALL_COMPLETED:
            return is_empty or rest
        case Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED:
            if any(done):
                return True
            return False if is_empty else rest
        case Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED:
            if not all(done):
                return False
            return is_empty or rest
        case _:
            assert_never(rest.combinator)


def _without(tree: AwaitTree, arrived: Notification) -> AwaitTree:
    """Return a node without a leaf that has arrived; itself when that is none of its leaves."""
    match arrived:
        case Completion(completion_id=number) if number in tree.completions:
            return replace(tree, completions=tuple(c for c in tree.completions if c != number))
        case Signal(index=None, name=name) if name in tree.named_signals:
            return replace(tree, named_signals=tuple(n for n in tree.named_signals if n != name))
        case Signal(index=index) if index in tree.signals:
            return replace(tree, signals=tuple(s for s in tree.signals if s != index))
        case _:
            return tree


def _has(tree: AwaitTree, arrived: Notification) -> bool:
    """Whether something is a leaf of a tree, wherever in it."""
    return _without(tree, arrived) is not tree or any(_has(c, arrived) for c in tree.children)
