"""Details of steps: the model calls and tool calls that they were, and where prompts are kept.

A conversation sends all of its messages again with every call. So a prompt is kept as the last node
of a chain; a node is one message behind the node before it, and its hash says all that came before:

    detail ──head──▶ node ──parent──▶ node ──parent──▶ node        a later call adds two nodes
       └──answer──▶ blob      └─blob─▶ blob     └─blob─▶ blob      and shares all the others

Nodes and blobs are found by their hash, which is made here: what a worker says is content and
nothing else. Each counts who uses it, and goes when nobody does. Who uses what:

    node    details whose prompt it ends, and nodes that follow it
    blob    nodes of this message, and details whose answer it is

The content is a row of its own, so that counting does not write it again. A detail goes with its
journal, because it says what a step of it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple, cast

from msgspec.structs import replace

from holdfast.domain.detail import StepDetail, bounded
from holdfast.domain.message import Completion, Entry, Error, FromHandler, ProposeRunCompletion
from holdfast.engine.limit import DETAILS_MAX, FAILED_DETAILS_MAX
from holdfast.engine.row import (
    BlobRow,
    ContentRow,
    DetailRow,
    InvocationRow,
    Key,
    Lookup,
    NodeRow,
    StoredDetail,
    StoredNode,
    Table,
)
from holdfast.engine.view import Draft

_HASH_BYTES = 16
_PROBABLE_NEWS = 4
"""Messages at the end of a prompt that are probably not known: their blobs are loaded with it."""


class _Link(NamedTuple):
    """A message at its place in a prompt."""

    node: bytes
    parent: bytes
    blob: bytes
    data: bytes


# A footprint and each try to apply its record need the same hashes.
@lru_cache(maxsize=4)
def _links(messages: tuple[bytes, ...]) -> tuple[_Link, ...]:
    links: list[_Link] = []
    parent = b""
    for data in messages:
        blob = _hash(data)
        node = _hash(parent + blob)
        links.append(_Link(node, parent, blob, data))
        parent = node
    return tuple(links)


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=_HASH_BYTES).digest()


# -- keeping ---------------------------------------------------------------------------------------


def detail_keys(invocation_id: str, attempt: int, messages: Iterable[FromHandler]) -> list[Key]:
    """Return what keeping the details of these messages will probably need."""
    found: list[tuple[int, StepDetail]] = []
    for message in messages:
        if isinstance(message, ProposeRunCompletion):
            if message.detail is not None:
                found.append((message.completion_id, message.detail))
        elif isinstance(message, Error):
            found += ((failed.completion_id, failed.detail) for failed in message.failed_details)
    keys: list[Key] = []
    for completion_id, detail in found:
        keys.append((Table.DETAIL, invocation_id, completion_id, attempt))
        keys += _content_keys(bounded(detail))
    return keys


def _content_keys(detail: StepDetail) -> list[Key]:
    links = _links(detail.messages)
    keys: list[Key] = [(Table.NODE, link.node) for link in links]
    keys += [(Table.BLOB, link.blob) for link in links[-_PROBABLE_NEWS:]]
    if detail.answer is not None:
        keys.append((Table.BLOB, _hash(detail.answer)))
    return keys


def keep_detail(
    draft: Draft,
    row: InvocationRow,
    completion_id: int,
    detail: StepDetail,
    *,
    is_failed: bool = False,
) -> None:
    """Keep what a try of a step was. Of one try the first is kept."""
    if row.detail_count >= DETAILS_MAX:
        return
    key: Key = (Table.DETAIL, row.id, completion_id, row.attempt)
    if draft.fact(key) is not None:
        return
    detail = bounded(detail)
    links = _links(detail.messages)
    draft.require([(Table.NODE, link.node) for link in links])
    # Where a node is, all before it are.
    known = next((n for n in range(len(links), 0, -1) if _node(draft, links[n - 1].node)), 0)
    news = links[known:]
    used = [(link.blob, link.data) for link in news]
    answer = None
    if detail.answer is not None:
        answer = _hash(detail.answer)
        used.append((answer, detail.answer))
    draft.require([(Table.BLOB, blob) for blob, _ in used])
    if known:
        # By the first of the new ones, or by this detail.
        _use_node(draft, links[known - 1].node)
    for link in news:
        draft.rows[Table.NODE, link.node] = NodeRow(link.parent, link.blob, 1)
    for blob, data in used:
        _use_blob(draft, blob, data)
    draft.rows[key] = DetailRow(
        draft.at_ms,
        row.target.service,
        detail.call,
        links[-1].node if links else None,
        len(links),
        answer,
        detail.omitted,
        is_failed,
    )
    row.detail_count += 1


def keep_failed(draft: Draft, row: InvocationRow, error: Error) -> None:
    """Keep what the steps were that failed, but for those that fail again and again."""
    counts = {failure.completion_id: failure.count for failure in row.step_failures}
    for completion_id, detail in ((f.completion_id, f.detail) for f in error.failed_details):
        if 0 < counts.get(completion_id, 0) <= FAILED_DETAILS_MAX:
            keep_detail(draft, row, completion_id, detail, is_failed=True)


def _node(draft: Draft, node: bytes) -> NodeRow | None:
    return cast("NodeRow | None", draft.fact((Table.NODE, node)))


def _use_node(draft: Draft, node: bytes) -> None:
    known = _node(draft, node)
    assert known is not None, f"node {node.hex()} is used and does not exist"
    draft.rows[Table.NODE, node] = NodeRow(known.parent, known.blob, known.count + 1)


def _use_blob(draft: Draft, blob: bytes, data: bytes | None) -> None:
    known = cast("BlobRow | None", draft.fact((Table.BLOB, blob)))
    if known is not None:
        draft.rows[Table.BLOB, blob] = BlobRow(known.count + 1, known.size_bytes)
        return
    assert data is not None, f"blob {blob.hex()} is used and does not exist"
    draft.rows[Table.BLOB, blob] = BlobRow(1, len(data))
    draft.rows[Table.CONTENT, blob] = ContentRow(data)


# -- for a restart ---------------------------------------------------------------------------------


def copy_details(
    draft: Draft, source: InvocationRow, row: InvocationRow, entries: Sequence[Entry]
) -> None:
    """Have a restart keep the details of those steps whose results it keeps."""
    if not source.detail_count:
        return
    done = {entry.completion_id for entry in entries if isinstance(entry, Completion)}
    kept = [each for each in details_of(draft, source.id) if each.completion_id in done]
    heads = [each.row.head for each in kept if each.row.head is not None]
    answers = [each.row.answer for each in kept if each.row.answer is not None]
    draft.require(
        [*((Table.NODE, head) for head in heads), *((Table.BLOB, blob) for blob in answers)]
    )
    for head in heads:
        _use_node(draft, head)
    for answer in answers:
        _use_blob(draft, answer, None)
    for each in kept:
        key: Key = (Table.DETAIL, row.id, each.completion_id, each.attempt)
        draft.rows[key] = replace(each.row, is_copied=True)
    row.detail_count = len(kept)


def details_of(draft: Draft, invocation_id: str) -> list[StoredDetail]:
    """Return all details of an invocation."""
    stored = cast("tuple[StoredDetail, ...]", draft.view.fact((Lookup.DETAILS, invocation_id)))
    found = {(each.completion_id, each.attempt): each for each in stored}
    for rows in (draft.view.rows, draft.rows):
        for key, row in rows.items():
            if key[0] is not Table.DETAIL or key[1] != invocation_id:
                continue
            place = cast("tuple[int, int]", key[2:])
            if isinstance(row, DetailRow):
                found[place] = StoredDetail(invocation_id, *place, row)
            else:
                found.pop(place, None)
    return [found[place] for place in sorted(found)]


# -- forgetting ------------------------------------------------------------------------------------


def forget_details(draft: Draft, row: InvocationRow) -> None:
    """Forget all details of an invocation, and the content that nobody else uses."""
    if not row.detail_count:
        return
    details = details_of(draft, row.id)
    heads = [each.row.head for each in details if each.row.head is not None]
    blobs = [each.row.answer for each in details if each.row.answer is not None]
    for each in details:
        draft.rows[Table.DETAIL, row.id, each.completion_id, each.attempt] = None
    draft.require([(Lookup.CHAIN, head) for head in heads])
    stored: dict[bytes, NodeRow] = {}
    for head in heads:
        at = head
        while at:
            node = _stored_node(draft, stored, at)
            if node.count > 1:
                draft.rows[Table.NODE, at] = NodeRow(node.parent, node.blob, node.count - 1)
                break
            draft.rows[Table.NODE, at] = None
            blobs.append(node.blob)
            at = node.parent
    draft.require([(Table.BLOB, blob) for blob in blobs])
    for blob in blobs:
        _leave_blob(draft, blob)


def _stored_node(draft: Draft, stored: dict[bytes, NodeRow], at: bytes) -> NodeRow:
    for rows in (draft.rows, draft.view.rows):
        known = rows.get((Table.NODE, at))
        if known is not None:
            return cast("NodeRow", known)
    if at not in stored:
        chain = cast("tuple[StoredNode, ...]", draft.view.fact((Lookup.CHAIN, at)))
        stored.update((node.hash, node.row) for node in chain)
    assert at in stored, f"node {at.hex()} is used and does not exist"
    return stored[at]


def _leave_blob(draft: Draft, blob: bytes) -> None:
    known = cast("BlobRow | None", draft.fact((Table.BLOB, blob)))
    assert known is not None, f"blob {blob.hex()} is used and does not exist"
    if known.count > 1:
        draft.rows[Table.BLOB, blob] = BlobRow(known.count - 1, known.size_bytes)
    else:
        draft.rows[Table.BLOB, blob] = None
        draft.rows[Table.CONTENT, blob] = None
