"""What the store in memory knows of details: by invocation, and along the chains of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from holdfast.domain.detail import ModelCall
from holdfast.engine.decision import Row
from holdfast.engine.limit import CHAIN_NODES_MAX
from holdfast.engine.row import (
    ContentRow,
    DetailRow,
    Key,
    Lookup,
    NodeRow,
    StoredDetail,
    StoredNode,
    Table,
)
from holdfast.storage.scan import Condition, is_met

Answer = tuple[StoredDetail, ...] | tuple[StoredNode, ...] | tuple[bytes, ...] | None


class Details:
    """An index on the rows of one partition."""

    def __init__(self, rows: Mapping[Key, Row]) -> None:
        self._rows = rows
        self._places: dict[str, set[tuple[int, int]]] = {}
        """By invocation: completion id and attempt."""

    def put(self, key: Key) -> None:
        """The row of this key is there."""
        _, invocation_id, *place = cast("tuple[Table, str, int, int]", key)
        self._places.setdefault(invocation_id, set()).add(cast("tuple[int, int]", tuple(place)))

    def delete(self, key: Key) -> None:
        """The row of this key is gone."""
        _, invocation_id, *place = cast("tuple[Table, str, int, int]", key)
        self._places[invocation_id].discard(cast("tuple[int, int]", tuple(place)))

    def answer(self, key: Key) -> Answer:
        """Answer a lookup; None: it is not about details."""
        match key[0]:
            case Lookup.DETAILS:
                return tuple(self._of(cast("str", key[1])))
            case Lookup.CHAIN:
                chain = list(self._chain(cast("bytes", key[1])))
                return tuple(chain[:CHAIN_NODES_MAX])
            case Lookup.PROMPT:
                return tuple(self._messages(cast("bytes", key[1])))[::-1]
            case _:
                return None

    def _of(self, invocation_id: str) -> Iterator[StoredDetail]:
        for place in sorted(self._places.get(invocation_id, ())):
            row = self._rows[Table.DETAIL, invocation_id, *place]
            yield StoredDetail(invocation_id, *place, cast("DetailRow", row))

    def _chain(self, at: bytes) -> Iterator[StoredNode]:
        while (node := self._rows.get((Table.NODE, at))) is not None:
            assert isinstance(node, NodeRow)
            yield StoredNode(at, node)
            at = node.parent

    def _messages(self, head: bytes) -> Iterator[bytes]:
        for node in self._chain(head):
            content = self._rows[Table.CONTENT, node.row.blob]
            assert isinstance(content, ContentRow)
            yield content.data

    def scan(self, conditions: Sequence[Condition]) -> Iterator[StoredDetail]:
        """Iterate over the details that meet conditions."""
        for invocation_id in sorted(self._places):
            for each in self._of(invocation_id):
                call = each.row.call
                is_model = isinstance(call, ModelCall)
                fields: dict[str, str | int] = {
                    "id": invocation_id,
                    "service": each.row.service,
                    "kind": "model" if is_model else "tool",
                    "name": call.response_model or call.request_model
                    if isinstance(call, ModelCall)
                    else call.name,
                    "at_ms": each.row.at_ms,
                }
                if all(is_met(c, fields[c.column]) for c in conditions):
                    yield each
