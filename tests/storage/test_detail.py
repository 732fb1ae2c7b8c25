"""Details and prompts: the part of the contract of stores that is about them."""

from __future__ import annotations

from hashlib import blake2b

import pytest

from holdfast.domain.detail import Cost, ModelCall, TokenUsage, ToolCall
from holdfast.engine.decision import Row
from holdfast.engine.limit import CHAIN_NODES_MAX
from holdfast.engine.row import (
    BlobRow,
    ContentRow,
    DetailRow,
    Key,
    Lookup,
    NodeRow,
    StoredDetail,
    StoredNode,
    Table,
)
from holdfast.storage.base import Loaded, Store
from holdfast.storage.scan import Comparison, Condition, Order, Scan, Source
from tests.storage.builder import batch, invocation, invocation_id

MODEL = ModelCall(
    provider="openai",
    request_model="gpt",
    settings={"temperature": 0.5, "stop": ["a"]},
    tool_calls=[{"name": "search"}],
    usage=TokenUsage(input=10, cached_input=3, output=0),
    cost=Cost(amount="0.001", table="t", table_date="2026-01-01"),
    finish_reasons=["stop"],
)
TOOL = ToolCall(name="search", call_id="1")


def hash_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


def chain(*messages: bytes) -> tuple[dict[Key, Row | None], list[bytes]]:
    rows: dict[Key, Row | None] = {}
    hashes: list[bytes] = []
    parent = b""
    for data in messages:
        blob = hash_of(data)
        node = hash_of(parent + blob)
        rows[Table.NODE, node] = NodeRow(parent, blob, 1)
        rows[Table.BLOB, blob] = BlobRow(1, len(data))
        rows[Table.CONTENT, blob] = ContentRow(data)
        hashes.append(node)
        parent = node
    return rows, hashes


async def load(store: Store, *keys: Key, partition: int = 0) -> list[Loaded]:
    loaded = await store.load(partition, keys)
    return [loaded[key] for key in keys]


@pytest.fixture
async def epoch(store: Store) -> int:
    """The epoch of partition 0."""
    return await store.acquire(0, "me", 1)


async def test_rows_are_written_replaced_and_deleted(store: Store, epoch: int) -> None:
    keys: list[Key] = [
        (Table.DETAIL, invocation_id(1), 2, 3),
        (Table.NODE, b"n" * 16),
        (Table.BLOB, b"b" * 16),
        (Table.CONTENT, b"b" * 16),
    ]
    first: list[Row] = [
        DetailRow(7, "s", MODEL, b"n" * 16, 4, b"b" * 16, "", is_failed=True),
        NodeRow(b"", b"b" * 16, 1),
        BlobRow(1, 5),
        ContentRow(b"a long text, " * 99),
    ]
    second: list[Row] = [
        DetailRow(8, "t", TOOL, omitted="off", is_copied=True),
        NodeRow(b"p" * 16, b"b" * 16, 2),
        BlobRow(2, 5),
        ContentRow(b""),
    ]
    assert await load(store, *keys) == [None] * 4
    for rows in (first, second):
        await store.commit(batch(0, epoch, put=dict(zip(keys, rows, strict=True))))
        assert await load(store, *keys) == rows
    assert await load(store, *keys[1:], partition=1) == [None] * 3
    await store.commit(batch(0, epoch, put=dict.fromkeys(keys)))
    assert await load(store, *keys) == [None] * 4


async def test_details_of_an_invocation(store: Store, epoch: int) -> None:
    places = [(1, 2), (1, 10), (2, 1), (10, 1)]
    rows = [DetailRow(n, "s", MODEL) for n in range(4)]
    put: dict[Key, Row | None] = {
        (Table.DETAIL, invocation_id(1), *place): row
        for place, row in reversed([*zip(places, rows, strict=True)])
    }
    put[Table.DETAIL, invocation_id(2), 1, 1] = DetailRow(9, "s", TOOL)
    await store.commit(batch(0, epoch, put=put))
    found = await load(store, (Lookup.DETAILS, invocation_id(1)))
    assert found == [
        tuple(StoredDetail(invocation_id(1), *p, r) for p, r in zip(places, rows, strict=True))
    ]
    assert await load(store, (Lookup.DETAILS, invocation_id(3))) == [()]


async def test_a_prompt_and_its_chain(store: Store, epoch: int) -> None:
    messages = [f'{{"n": {n}}}'.encode() for n in range(CHAIN_NODES_MAX + 10)]
    rows, hashes = chain(*messages)
    await store.commit(batch(0, epoch, put=rows))
    prompt, part, near, none = await load(
        store,
        (Lookup.PROMPT, hashes[-1]),
        (Lookup.PROMPT, hashes[2]),
        (Lookup.CHAIN, hashes[-1]),
        (Lookup.CHAIN, b"x"),
    )
    assert prompt == tuple(messages)
    assert part == tuple(messages[:3])
    assert (
        near
        == tuple(
            StoredNode(name, rows[Table.NODE, name])  # type: ignore[arg-type]
            for name in reversed(hashes[-CHAIN_NODES_MAX:])
        )
    )
    assert none == ()


async def scanned(store: Store, scan: Scan) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    async for page in store.scan(scan):
        for each in page:
            assert isinstance(each, StoredDetail)
            found.append((each.invocation_id, each.completion_id))
    return found


async def test_scans(store: Store, epoch: int) -> None:
    one, two = sorted((invocation_id(1), invocation_id(2)))
    put: dict[Key, Row | None] = {
        (Table.DETAIL, one, 1, 1): DetailRow(1, "a", MODEL),
        (Table.DETAIL, one, 2, 1): DetailRow(3, "a", TOOL),
        (Table.DETAIL, two, 1, 1): DetailRow(3, "b", MODEL),
        (Table.DETAIL, two, 2, 1): DetailRow(2, "b", MODEL),
    }
    await store.commit(batch(0, epoch, invocation(1), invocation(2), put=put))
    newest = Scan(Source.DETAIL, order=Order.NEWEST)
    assert await scanned(store, newest) == [(one, 2), (two, 1), (two, 2), (one, 1)]
    assert await scanned(store, newest._replace(limit=2)) == [(one, 2), (two, 1)]
    for condition, expected in {
        Condition("id", Comparison.IN, (one,)): [(one, 2), (one, 1)],
        Condition("kind", Comparison.IN, ("tool",)): [(one, 2)],
        Condition("name", Comparison.IN, ("gpt",)): [(two, 1), (two, 2), (one, 1)],
        Condition("service", Comparison.IN, ("b",)): [(two, 1), (two, 2)],
        Condition("at_ms", Comparison.BELOW, (3,)): [(two, 2), (one, 1)],
    }.items():
        assert await scanned(store, newest._replace(conditions=(condition,))) == expected
