"""Suspensions that wait for a tree, as handlers of version 7 do, and the rule for them.

Our SDK waits for any one of what is open. On its way to the server some of that becomes a tree: of
sleeps and calls, which all end some day, several may be needed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    SIGNAL_INDEX_FIRST,
    AskApproval,
    AwaitTree,
    Call,
    Combinator,
    Completion,
    Entry,
    Failure,
    FromHandler,
    Signal,
    Sleep,
    Suspension,
)
from holdfast.engine.decision import Batch
from holdfast.engine.record import HandlerSent
from holdfast.engine.row import InvocationRow, Status, Table
from tests.engine.await_model import Done, Leaf, done_at

if TYPE_CHECKING:
    from .checker import Oracle

_SHARE = 0.7


class Combining:
    """Makes trees of what one attempt waits for."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._ending: set[int] = set()
        """Completion ids of what ends by itself."""
        self._asked: set[int] = set()
        """Signal indexes of approvals, which nobody may ever decide."""

    def look(self, entries: Iterable[Entry | FromHandler]) -> None:
        """Look at what is in the journal, or on its way there."""
        for entry in entries:
            if isinstance(entry, Sleep | Call):
                self._ending.add(entry.completion_id)
            elif isinstance(entry, AskApproval):
                self._asked.add(entry.index)

    def combined(self, messages: Sequence[FromHandler]) -> tuple[FromHandler, ...]:
        """Return messages of the handler, perhaps with a tree."""
        last = messages[-1]
        if not isinstance(last, Suspension) or self._random.random() > _SHARE:
            return tuple(messages)
        ending = self._ending
        together = AwaitTree(
            self._combinator(),
            tuple(c for c in last.completions if c in ending),
            tuple(s for s in last.signals if s >= SIGNAL_INDEX_FIRST and s not in self._asked),
        )
        if len(together.completions) + len(together.signals) < 2:
            return tuple(messages)
        tree = AwaitTree(
            Combinator.FIRST_COMPLETED,
            tuple(c for c in last.completions if c not in ending),
            tuple(s for s in last.signals if s < SIGNAL_INDEX_FIRST or s in self._asked),
            last.named_signals,
            (self._nested(together),),
        )
        return (*messages[:-1], replace(last, tree=tree))

    def _combinator(self) -> Combinator:
        return self._random.choice(list(Combinator)[2:])

    def _nested(self, node: AwaitTree) -> AwaitTree:
        """Move some leaves to a node of their own."""
        if len(node.completions) < 2 or self._random.random() < 0.5:
            return node
        cut = self._random.randint(1, len(node.completions) - 1)
        below = AwaitTree(self._combinator(), node.completions[cut:])
        return replace(node, completions=node.completions[:cut], children=(self._nested(below),))


class _Asleep(NamedTuple):
    """A suspended invocation."""

    tree: AwaitTree
    row: InvocationRow
    """As it was when it suspended."""


class WaitRules:
    """A tree that is decided wakes its invocation, and nothing else does."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._said: dict[tuple[str, int, int], AwaitTree | None] = {}
        """What an attempt waited for in the end, by invocation, epoch and attempt."""
        self._asleep: dict[str, _Asleep] = {}

    def on_sent(self, record: HandlerSent) -> None:
        """A handler's messages were proposed."""
        last = record.messages[-1]
        if isinstance(last, Suspension):
            self._said[record.invocation_id, record.epoch, record.attempt] = last.tree

    def on_commit(self, batch: Batch) -> None:
        """A batch is about to be written; the oracle knows its entries and rows."""
        for key, row in batch.rows.items():
            if key[0] is not Table.INVOCATION:
                continue
            known = self._asleep.pop(str(key[1]), None)
            if not isinstance(row, InvocationRow):
                continue
            if known is not None and row.created_at_ms == known.row.created_at_ms:
                self._check(known, row)
                if row.status is Status.SUSPENDED and row.attempt == known.row.attempt:
                    self._asleep[row.id] = known
                    continue
            tree = self._said.get((row.id, batch.epoch, row.attempt))
            if row.status is Status.SUSPENDED and tree is not None:
                asleep = self._asleep[row.id] = _Asleep(tree, copy(row))
                self._check(asleep, row)

    def _check(self, asleep: _Asleep, row: InvocationRow) -> None:
        arrivals, is_sure = self._arrivals(asleep)
        is_decided = done_at(asleep.tree, arrivals) is not None
        if row.status is Status.SUSPENDED and row.attempt == asleep.row.attempt and is_decided:
            self._oracle.fail("S34", f"{row.id} sleeps; {asleep.tree} is decided by {arrivals}")
        is_woken = row.attempt > asleep.row.attempt and row.id not in self._oracle.may_resume
        if is_woken and is_sure and not is_decided:
            self._oracle.fail("S34", f"{row.id} was woken; {asleep.tree} has only {arrivals}")

    def _arrivals(self, asleep: _Asleep) -> tuple[dict[Leaf, Done], bool]:
        """Return what has arrived, and whether that is sure: of a name some may be taken."""
        arrivals: dict[Leaf, Done] = {}
        is_sure = True
        for index, entry in enumerate(self._oracle.lives[asleep.row.id].entries):
            is_new = index >= asleep.row.attempt_base
            done = (index, not isinstance(getattr(entry, "result", None), Failure))
            match entry:
                case Completion(completion_id=number):
                    arrivals.setdefault(number, done)
                case Signal(index=None, name=str() as name):
                    is_sure &= is_new or name not in asleep.tree.named_signals
                    if is_new:
                        arrivals.setdefault(name, done)
                case Signal(index=int() as number) if is_new or number != SIGNAL_CANCEL:
                    arrivals.setdefault(-number, done)
                case _:
                    pass
        return arrivals, is_sure
