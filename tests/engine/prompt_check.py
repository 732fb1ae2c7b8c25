"""What must hold of details, nodes, blobs and their content, whatever has happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from holdfast.engine.row import ContentRow, DetailRow, NodeRow, Table


def problems(rows: Mapping[Any, Any]) -> list[str]:
    """Return what is wrong with the rows of one partition; counts are made again from scratch."""
    details = {key: row for key, row in rows.items() if key[0] is Table.DETAIL}
    nodes = {key[1]: row for key, row in rows.items() if key[0] is Table.NODE}
    blobs = {key[1]: row for key, row in rows.items() if key[0] is Table.BLOB}
    contents = {key[1]: row for key, row in rows.items() if key[0] is Table.CONTENT}
    node_uses: Counter[bytes] = Counter()
    blob_uses: Counter[bytes] = Counter()
    found: list[str] = []
    lengths: Counter[str] = Counter()
    for key, row in details.items():
        assert isinstance(row, DetailRow)
        lengths[key[1]] += 1
        if (Table.INVOCATION, key[1]) not in rows:
            found.append(f"{key} is the detail of an invocation that is not there")
        if row.head is not None:
            node_uses[row.head] += 1
        if row.answer is not None:
            blob_uses[row.answer] += 1
    for key, row in rows.items():
        if key[0] is Table.INVOCATION and row.detail_count != lengths[key[1]]:
            found.append(f"{key[1]} counts {row.detail_count} details, has {lengths[key[1]]}")
    for name, node in nodes.items():
        assert isinstance(node, NodeRow)
        if node.parent:
            node_uses[node.parent] += 1
        blob_uses[node.blob] += 1
        if name != blake2b(node.parent + node.blob, digest_size=16).digest():
            found.append(f"node {name.hex()} has another hash")
    for what, uses, known in (("node", node_uses, nodes), ("blob", blob_uses, blobs)):
        for name in sorted({*uses, *known}):
            counted = known[name].count if name in known else None
            if counted != (uses[name] or None):
                found.append(f"{what} {name.hex()} counts {counted}, has {uses[name]} uses")
    if contents.keys() != blobs.keys():
        found.append("content without a blob, or a blob without content")
    for name, content in contents.items():
        assert isinstance(content, ContentRow)
        if name != blake2b(content.data, digest_size=16).digest():
            found.append(f"content {name.hex()} has another hash")
    return found


def prompt_of(rows: Mapping[Any, Any], head: bytes | None) -> list[bytes]:
    """Return the messages of a prompt."""
    messages: list[bytes] = []
    while head:
        node = rows[Table.NODE, head]
        messages.append(rows[Table.CONTENT, node.blob].data)
        head = node.parent
    return messages[::-1]
