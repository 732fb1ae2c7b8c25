"""The end of an attempt that waits for something.

What it waits for is compared with what has arrived meanwhile: the handler may not have seen it
before it gave up. If that is enough, the next attempt begins at once; else the invocation sleeps,
and `lifecycle.deliver` wakes it.

Completions and awakeables come once, so that they are in the journal says all. A cancellation was
taken by the attempt that saw it. Of a name several signals may come, and only the handler knows
which of them it has taken: if there are any, and what is left depends on them, whatever is new is
told to it. It suspends once more when that was not enough.
"""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    AwaitTree,
    Completion,
    Notification,
    Signal,
    Suspension,
    Void,
)
from holdfast.engine.annex import put_waiting
from holdfast.engine.await_tree import begin, depth_of, is_about_success, settle
from holdfast.engine.command import Violation
from holdfast.engine.lifecycle import has_unseen_cancel, start
from holdfast.engine.limit import AWAIT_DEPTH_MAX
from holdfast.engine.row import (
    InvocationRow,
    Lookup,
    Status,
    Waiting,
    note_of_completion,
    note_of_signal,
)
from holdfast.engine.view import Draft


def on_suspension(draft: Draft, row: InvocationRow, message: Suspension) -> None:
    """Wait, or go on at once.

    Raises:
        Violation: There is nothing to wait for, or too deep a tree.
    """
    if not (message.completions or message.signals or message.named_signals):
        raise Violation("a suspension without anything to wait for [HF2010]")
    if message.tree is not None and depth_of(message.tree) > AWAIT_DEPTH_MAX:
        raise Violation(
            f"a suspension waits for a tree nested more than {AWAIT_DEPTH_MAX} times [HF2039]"
        )
    if message.tree is None:
        waiting = _wait_for_any(draft, row, message)
    else:
        waiting = _wait_for_tree(draft, row, message, message.tree)
    if waiting is None:
        start(draft, row)
        return
    row.status = Status.SUSPENDED
    row.retry_count = 0
    put_waiting(draft, row, waiting)


def suspension_notes(message: Suspension) -> tuple[str, ...]:
    """Return the notes of what a suspension waits for and what comes at most once."""
    return (
        *(note_of_completion(c) for c in message.completions),
        *(note_of_signal(s, None) for s in message.signals if s != SIGNAL_CANCEL),
    )


def _successes(message: Suspension) -> list[Notification]:
    """Return how what comes at most once would look as a success, in the order of the notes."""
    return [
        *(Completion(0, c, Void()) for c in message.completions),
        *(Signal(Void(), index=s) for s in message.signals if s != SIGNAL_CANCEL),
    ]


def _is_cancelled(row: InvocationRow, message: Suspension) -> bool:
    # Handlers always wait for a cancel, also when they had one.
    return SIGNAL_CANCEL in message.signals and has_unseen_cancel(row)


def _has_new_name(row: InvocationRow, message: Suspension) -> bool:
    # As with a cancel: only one that this attempt may not have seen is news.
    return bool(message.named_signals) and row.named_signal_index >= row.attempt_base


def _wait_for_any(draft: Draft, row: InvocationRow, message: Suspension) -> Waiting | None:
    """Return what to wait for; None: some of it is there."""
    if (
        _is_cancelled(row, message)
        or _has_new_name(row, message)
        or any(draft.has_notification(row.id, note) for note in suspension_notes(message))
    ):
        return None
    return Waiting(message.completions, message.signals, message.named_signals)


def _wait_for_tree(
    draft: Draft, row: InvocationRow, message: Suspension, tree: AwaitTree
) -> Waiting | None:
    """Return what to wait for; None: the tree is decided."""
    names = [note_of_signal(None, name) for name in message.named_signals]
    notes = [*suspension_notes(message), *names]
    draft.require([(Lookup.NOTIFICATION, row.id, note) for note in notes])
    arrived = _arrived(draft, row, message, is_about_success(tree))
    left = begin(tree)
    for _, notification in arrived:
        if isinstance(left, AwaitTree):
            left = settle(left, notification)
    if isinstance(left, bool):
        return None
    if any(draft.has_notification(row.id, note) for note in names):
        is_news = bool(arrived) and arrived[-1][0] >= row.attempt_base
        if is_news or _has_new_name(row, message):
            return None
        return Waiting(message.completions, message.signals, message.named_signals)
    return Waiting(message.completions, message.signals, message.named_signals, left)


def _arrived(
    draft: Draft, row: InvocationRow, message: Suspension, is_about_success: bool
) -> Sequence[tuple[int, Notification]]:
    """Return journal index and notification of what is there, but for names, in that order.

    Args:
        is_about_success: Whether their results count. Else they are not read.
    """
    arrived: list[tuple[int, Notification]] = []
    once = zip(suspension_notes(message), _successes(message), strict=True)
    for note, notification in once:
        index = draft.notification_index(row.id, note)
        if index is not None:
            arrived.append((index, notification))
    if is_about_success:
        entries = draft.entries_at(row, [index for index, _ in arrived])
        arrived = [
            (index, entry)
            for (index, _), entry in zip(arrived, entries, strict=True)
            if isinstance(entry, Completion | Signal)
        ]
    if _is_cancelled(row, message):
        arrived.append((row.cancel_index, Signal(Void(), index=SIGNAL_CANCEL)))
    return sorted(arrived, key=lambda item: item[0])
