"""When a tree is decided, told from the times at which its leaves arrived.

The engine makes trees smaller as things arrive; this looks at all of it at once, so that the two
can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from holdfast.domain.message import AwaitTree, Combinator

Leaf = int | str
"""Completion id, negative signal index, or name of a signal."""
Done = tuple[int, bool]
"""At what time, and whether as a success."""


def leaves_of(tree: AwaitTree) -> Iterator[Leaf]:
    """Return the leaves of one node."""
    yield from tree.completions
    yield from (-index for index in tree.signals)
    yield from tree.named_signals


def all_leaves_of(tree: AwaitTree) -> Iterator[Leaf]:
    """Return the leaves of a whole tree."""
    yield from leaves_of(tree)
    for child in tree.children:
        yield from all_leaves_of(child)


def done_at(tree: AwaitTree, arrivals: Mapping[Leaf, Done], *, is_root: bool = True) -> Done | None:
    """Return when and how a tree was decided; None: it is not."""
    if tree.combinator is Combinator.UNKNOWN and not is_root:
        return _first([arrivals.get(leaf) for leaf in all_leaves_of(tree)])
    parts = [arrivals.get(leaf) for leaf in leaves_of(tree)]
    parts += [done_at(child, arrivals, is_root=False) for child in tree.children]
    done = [part for part in parts if part is not None]
    last = max((at for at, _ in done), default=0) if len(done) == len(parts) else None
    match tree.combinator:
        case Combinator.UNKNOWN | Combinator.FIRST_COMPLETED:
            return _first(parts)
        case Combinator.ALL_COMPLETED:
            return None if last is None else (last, True)
        case Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED:
            wanted = True
        case Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED:
            wanted = False
    decisive = [part for part in done if part[1] is wanted]
    if decisive:
        return _first(decisive)
    return None if last is None else (last, not wanted)


def _first(parts: list[Done | None] | list[Done]) -> Done | None:
    done = [part for part in parts if part is not None]
    return min(done, key=lambda part: part[0], default=None)
