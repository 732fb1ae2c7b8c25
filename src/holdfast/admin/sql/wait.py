"""What a suspended invocation waits for, as JSON in Restate's shape."""

from __future__ import annotations

import msgspec

from holdfast.domain.message import AwaitTree, Combinator
from holdfast.engine.row import Waiting

_encode = msgspec.json.Encoder().encode

_COMBINATORS = {
    Combinator.UNKNOWN: "Unknown",
    Combinator.FIRST_COMPLETED: "FirstCompleted",
    Combinator.ALL_COMPLETED: "AllCompleted",
    Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED: "FirstSucceededOrAllFailed",
    Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED: "AllSucceededOrFirstFailed",
}


def waiting_json(waiting: Waiting | None) -> str | None:
    """Return what is waited for: a tree of ids, by how the program combines them.

    Before version 7 of the protocol nobody says how: `{"Unknown": […]}`, any of them.
    """
    if waiting is None:
        return None
    tree = waiting.tree or AwaitTree(
        Combinator.UNKNOWN, waiting.completions, waiting.signals, waiting.named_signals
    )
    return _encode(_shape(tree)).decode()


def _shape(tree: AwaitTree) -> dict[str, list[object]]:
    members: list[object] = [
        *({"Single": {"CompletionId": id_}} for id_ in tree.completions),
        *({"Single": {"SignalIndex": index}} for index in tree.signals),
        *({"Single": {"SignalName": name}} for name in tree.named_signals),
        *(_shape(child) for child in tree.children),
    ]
    return {_COMBINATORS[tree.combinator]: members}
