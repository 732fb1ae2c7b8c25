"""Known bugs of suspensions that wait for a tree; see `mutants`."""

from __future__ import annotations

from msgspec.structs import replace

from holdfast.domain.message import AwaitTree, Combinator, Notification, Void
from holdfast.engine import await_tree, lifecycle, suspension

from .mutants import Patch, mutant


@mutant
def tree_ignored() -> list[Patch]:
    """Whatever a suspended invocation waits for wakes it, as if there were no tree."""
    return [(lifecycle, "settle", lambda tree, arrived: True)]


@mutant
def tree_forgets() -> list[Patch]:
    """Of a tree only what comes after the suspension counts."""
    return [(suspension, "_arrived", lambda draft, row, message, is_about_success: [])]


@mutant
def tree_needs_all() -> list[Patch]:
    """Every node of a tree needs all of its children."""
    decide = await_tree._decide

    def greedy(rest: AwaitTree, done: list[bool]) -> AwaitTree | bool:
        left = decide(replace(rest, combinator=Combinator.ALL_COMPLETED), done)
        return replace(left, combinator=rest.combinator) if isinstance(left, AwaitTree) else left

    return [(await_tree, "_decide", greedy)]


@mutant
def tree_takes_failures_for_successes() -> list[Patch]:
    """How something has ended does not matter to a tree."""
    settle = await_tree.settle

    def careless(tree: AwaitTree, arrived: Notification) -> AwaitTree | bool:
        return settle(tree, replace(arrived, result=Void()))

    return [(lifecycle, "settle", careless), (suspension, "settle", careless)]
