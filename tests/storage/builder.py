"""Rows and batches with the parts that a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from holdfast.domain.ids import key_partition_key, print_invocation_id
from holdfast.domain.message import (
    KIND_CHILD_ID,
    KIND_RUN,
    ChildId,
    Completion,
    Entry,
    Input,
    Run,
    Signal,
    Value,
    Void,
)
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import Batch, Range, Row
from holdfast.engine.row import InvocationRow, JournalRow, Key, Status, Table
from holdfast.storage.base import Loaded, Store


def invocation_id(number: int) -> str:
    """Return a well-formed id; ids do not sort by number."""
    partition_key = key_partition_key(str(number)).to_bytes(8, "big")
    return print_invocation_id(partition_key + number.to_bytes(16, "big"))


def invocation(number: int, status: Status = Status.RUNNING, **fields: Any) -> InvocationRow:
    values: dict[str, Any] = {
        "id": invocation_id(number),
        "target": Target("greeter", "greet"),
        "service_kind": ServiceKind.SERVICE,
        "handler_kind": HandlerKind.PLAIN,
        "status": status,
        "created_at_ms": 1_000 + number,
        "modified_at_ms": 1_000 + number,
    }
    return InvocationRow(**(values | fields))


def entry(number: int, index: int, entry: Entry | None = None) -> JournalRow:
    return JournalRow(invocation_id(number), index, 5_000 + index, entry or Run(index, f"s{index}"))


def journal_input(number: int) -> JournalRow:
    return entry(number, 0, Input(Value(b'{"n": 1}'), headers=(("a", "b"),)))


def run_completion(completion_id: int, content: bytes = b"done") -> Completion:
    return Completion(KIND_RUN, completion_id, Value(content), at_ms=7)


def child_completion(completion_id: int, child: int) -> Completion:
    return Completion(KIND_CHILD_ID, completion_id, ChildId(invocation_id(child)))


def signal(index: int | None = None, name: str | None = None) -> Signal:
    return Signal(Void(), index=index, name=name)


def batch(
    partition: int,
    epoch: int,
    *rows: InvocationRow,
    put: dict[Key, Row | None] | None = None,
    ranges: Iterable[Range] = (),
    journal: Iterable[JournalRow] = (),
) -> Batch:
    keyed: dict[Key, Row | None] = {(Table.INVOCATION, row.id): row for row in rows}
    return Batch(partition, epoch, list(ranges), keyed | (put or {}), list(journal))


async def load(store: Store, key: Key, partition: int = 0) -> Loaded:
    return (await store.load(partition, [key]))[key]


async def values(store: Store, partition: int, service: str, key: str) -> dict[str, bytes]:
    state = await store.state(partition, service, key, 0)
    assert state.is_complete
    return {name: row.value for name, row in state.entries.items()}
