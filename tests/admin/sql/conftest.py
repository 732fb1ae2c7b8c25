"""A server with invocations in every status, on every store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.admin.app import create_admin_app
from holdfast.domain.detail import ModelCall, ToolCall
from holdfast.domain.ids import key_partition_key, partition_of
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    Call,
    ChildId,
    Completion,
    Failure,
    GetPromise,
    Input,
    Output,
    Run,
    Signal,
    Sleep,
    Value,
)
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.decision import Row
from holdfast.engine.row import (
    AttemptFailure,
    DetailRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    Origin,
    OriginKind,
    PromiseRow,
    StateRow,
    Status,
    Table,
    Waiting,
)
from holdfast.server.host import Host
from holdfast.storage.base import Store
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore
from tests.server.harness import ScriptedPort, hosting, request, until
from tests.storage.builder import batch, invocation, invocation_id

from .client import SqlClient

NOW_MS = 1_795_000_000_000
"""In 2026. What is seeded was made a few seconds after it."""

COMPLETED, FAILED, SUSPENDED, PAUSED, BACKING_OFF, PENDING, SCHEDULED = map(
    invocation_id, range(1, 8)
)


def made(number: int, status: Status, target: Target, **fields: object) -> InvocationRow:
    at_ms = NOW_MS + number * 1000
    is_keyed = target.key is not None
    return invocation(
        number,
        status,
        target=target,
        service_kind=ServiceKind.VIRTUAL_OBJECT if is_keyed else ServiceKind.SERVICE,
        handler_kind=HandlerKind.EXCLUSIVE if is_keyed else HandlerKind.PLAIN,
        created_at_ms=at_ms,
        modified_at_ms=at_ms + 500,
        retention_ms=86_400_000,
        **fields,
    )


FAILURE = AttemptFailure(500, "no stock", NOW_MS, "line 1\nline 2", 1, "ship", 0x0411)
ROWS = [
    made(
        1,
        Status.COMPLETED,
        Target("Echo", "run"),
        completed_at_ms=NOW_MS + 9000,
        output_index=8,
        journal_length=9,
        idempotency_key="once",
        expires_at_ms=2**50,
        deployment_id="dp_gone",
    ),
    made(
        2,
        Status.COMPLETED,
        Target("Box", "put", "k"),
        has_failed=True,
        output_index=1,
        journal_length=2,
        completed_at_ms=NOW_MS + 9000,
        expires_at_ms=2**50,
        origin=Origin(OriginKind.SERVICE, COMPLETED, "Echo/run"),
    ),
    made(
        3,
        Status.SUSPENDED,
        Target("Echo", "run"),
        waiting=Waiting((2, 3), (17,), ("go",)),
        journal_length=1,
        origin=Origin(OriginKind.RESTART, COMPLETED, "Echo/run"),
    ),
    made(4, Status.PAUSED, Target("Other", "do"), retry_count=3, last_failure=FAILURE),
    made(
        5,
        Status.BACKING_OFF,
        Target("Other", "do"),
        retry_count=2,
        retry_at_ms=2**42,
        last_failure=FAILURE,
        deployment_id="dp_gone",
    ),
    made(6, Status.PENDING, Target("Box", "put", "other"), inbox_sequence=4),
    made(7, Status.SCHEDULED, Target("Echo", "run"), execute_at_ms=2**42),
]
ENTRIES = [
    Input(Value(b'""'), (("a", "b"), ("Authorization", "secret"))),
    Sleep(1_795_424_193_042, 1, "nap"),
    Call("Box", "put", b"3", "k", (), None, 2, 3),
    Completion(0x800C, 1, Value(b"")),
    Completion(KIND_CHILD_ID, 2, ChildId(FAILED)),
    Completion(KIND_CALL, 3, Value(b'""')),
    Run(4, "charge"),
    Signal(Value(b'""'), index=17),
    Output(Value(b'""')),
]
JOURNAL = [
    *(JournalRow(COMPLETED, index, NOW_MS + index, entry) for index, entry in enumerate(ENTRIES)),
    JournalRow(FAILED, 0, NOW_MS, Input(Value(b"3"))),
    JournalRow(FAILED, 1, NOW_MS, Output(Failure(409, "killed"))),
    JournalRow(SUSPENDED, 0, NOW_MS, GetPromise("ready", 1)),
]
KEYED: dict[Key, Row] = {
    (Table.STATE, "Box", "k", "count"): StateRow(b"12"),
    (Table.STATE, "Box", "k", "raw"): StateRow(b"\xff\x00"),
    (Table.STATE, "Box", "l", "count"): StateRow(b'"x"', 2**50),
    (Table.STATE, "Box", "l", "old"): StateRow(b"1", 5),
    (Table.LOCK, "Box", "other"): LockRow(FAILED, 4, 5),
    (Table.LOCK, "Box", "free"): LockRow(None),
    (Table.PROMISE, "Signup", "ada", "ok"): PromiseRow(Value(b'"yes"')),
    (Table.PROMISE, "Signup", "ada", "no"): PromiseRow(Failure(500, "never")),
    (Table.PROMISE, "Signup", "ada", "open"): PromiseRow(),
}


DETAILS: dict[Key, Row] = {
    (Table.DETAIL, COMPLETED, 1, 1): DetailRow(
        NOW_MS, "Greeter", ModelCall(provider="openai", request_model="m")
    ),
    (Table.DETAIL, COMPLETED, 2, 1): DetailRow(NOW_MS, "Greeter", ToolCall(name="search")),
}


async def seed(store: Store) -> None:
    """Write all of it, each row to its partition."""
    for partition in range(store.partition_count):

        def is_here(key: str, partition: int = partition) -> bool:
            return partition_of(key_partition_key(key), store.partition_count) == partition

        numbers = {row.id: str(number) for number, row in enumerate(ROWS, 1)}
        epoch = await store.acquire(partition, "seed", 1)
        await store.commit(
            batch(
                partition,
                epoch,
                *(row for row in ROWS if is_here(numbers[row.id])),
                put={key: row for key, row in KEYED.items() if is_here(str(key[2]))}
                | {key: row for key, row in DETAILS.items() if is_here(numbers[str(key[1])])},
                journal=[entry for entry in JOURNAL if is_here(numbers[entry.invocation_id])],
            )
        )


@pytest.fixture
def port() -> ScriptedPort:
    return ScriptedPort()


@pytest.fixture(params=["memory", "sqlite"])
async def host(
    request: pytest.FixtureRequest, tmp_path: Path, port: ScriptedPort
) -> AsyncIterator[Host]:
    """A server with what is seeded and one invocation that runs: `Echo/run`."""
    store: Store = MemoryStore(2)
    if request.param == "sqlite":
        store = SqliteStore(tmp_path / "data.db", 2)
    await store.open()
    await seed(store)
    async with hosting(store, port) as host:  # type: ignore[arg-type]
        yield host
    await store.close()


@pytest.fixture
async def running(host: Host) -> str:
    """The id of an invocation that has an attempt."""
    made = await host.send(request(host))
    await until(lambda: host.known_attempts())
    return made.invocation_id


@pytest.fixture
def sql(host: Host) -> SqlClient:
    return SqlClient(create_admin_app(host))
