"""Details, nodes, blobs and their content: to columns and back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from holdfast.domain.detail import Call, ModelCall
from holdfast.engine.decision import Row
from holdfast.engine.row import (
    BlobRow,
    ContentRow,
    DetailRow,
    Lookup,
    NodeRow,
    StoredDetail,
    StoredNode,
    Table,
)
from holdfast.storage.sqlite.driver import Bindings, Found

TABLES: dict[Table, str] = {
    Table.DETAIL: "detail",
    Table.NODE: "node",
    Table.BLOB: "blob",
    Table.CONTENT: "content",
}
"""Names of their tables."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DetailRow).decode


def columns_of(row: Row) -> Bindings | None:
    """Return the columns behind the key of a row; None: it is of another table."""
    match row:
        case DetailRow(call=call):
            kind = "model" if isinstance(call, ModelCall) else "tool"
            return row.at_ms, kind, row.service, name_of(call), _encode(row)
        case NodeRow():
            return row.parent, row.blob, row.count
        case BlobRow():
            return row.count, row.size_bytes
        case _:
            return None


def name_of(call: Call) -> str:
    """Return the name of the model or the tool."""
    if isinstance(call, ModelCall):
        return call.response_model or call.request_model
    return call.name


def _detail(found: Found) -> DetailRow | None:
    return _decode(found[0][0]) if found else None


def _node(found: Found) -> NodeRow | None:
    return NodeRow(*found[0]) if found else None


def _blob(found: Found) -> BlobRow | None:
    return BlobRow(*found[0]) if found else None


def _content(found: Found) -> ContentRow | None:
    return ContentRow(found[0][0]) if found else None


def stored_details(found: Found) -> tuple[StoredDetail, ...]:
    """Return details with their keys."""
    return tuple(
        StoredDetail(invocation_id, completion_id, attempt, _decode(data))
        for invocation_id, completion_id, attempt, data in found
    )


def _chain(found: Found) -> tuple[StoredNode, ...]:
    return tuple(StoredNode(hash_, NodeRow(*columns)) for hash_, *columns in found)


def _prompt(found: Found) -> tuple[bytes, ...]:
    return tuple(row[0] for row in found)


ANSWERS: dict[
    Table | Lookup,
    tuple[
        str,
        Callable[
            [Found],
            DetailRow
            | NodeRow
            | BlobRow
            | ContentRow
            | tuple[StoredDetail, ...]
            | tuple[StoredNode, ...]
            | tuple[bytes, ...]
            | None,
        ],
    ],
] = {
    Table.DETAIL: ("load_detail", _detail),
    Table.NODE: ("load_node", _node),
    Table.BLOB: ("load_blob", _blob),
    Table.CONTENT: ("load_content", _content),
    Lookup.DETAILS: ("details", stored_details),
    Lookup.CHAIN: ("chain", _chain),
    Lookup.PROMPT: ("prompt", _prompt),
}
"""By table or lookup: the name of its statement, and how its rows are read."""
