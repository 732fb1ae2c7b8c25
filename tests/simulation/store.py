"""The database of a run. It outlives servers; each server reaches it through its own session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.domain.errors import StorageUnavailable
from holdfast.engine.decision import Batch
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import InvocationRow, JournalRow, Key, Status, StreamRow
from holdfast.storage.base import (
    ApprovalFilter,
    ApprovalPlace,
    InvocationFilter,
    Loaded,
    StoredApproval,
    StoredDeployment,
    StoredState,
    Timer,
)
from holdfast.storage.memory import MemoryStore

from .faults import CrashPoint

if TYPE_CHECKING:
    from .world import Server, World

T = TypeVar("T")


class SimStore(MemoryStore):
    """What is durable, watched by the oracle."""

    def __init__(self, world: World, partition_count: int) -> None:
        super().__init__(partition_count)
        self._world = world

    def apply(self, batch: Batch) -> None:
        super().apply(batch)
        self._world.oracle.on_commit(batch)
        self._world.oracle.after_commit(batch)

    async def acquire(self, partition: int, owner: str, at_ms: int) -> int:
        epoch = await super().acquire(partition, owner, at_ms)
        self._world.oracle.on_acquired(partition, epoch)
        return epoch


class Session:
    """Implements `Store` for one server. When the server is dead it reads and writes nothing."""

    def __init__(self, world: World, server: Server) -> None:
        self._world = world
        self._server = server
        self._store = world.store
        self.partition_count = world.store.partition_count

    async def _pass(self, latency_s: float) -> None:
        """Take a while; the dead never come back."""
        if latency_s:
            await asyncio.sleep(self._world.random.random() * 2 * latency_s)
        if self._server.process.is_dead:
            await self._never()

    async def _never(self) -> None:
        await self._world.loop.create_future()

    async def _read(self) -> None:
        await self._pass(self._world.faults.read_latency_s)

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def acquire(self, partition: int, owner: str, at_ms: int) -> int:
        await self._pass(self._world.faults.commit_latency_s)
        self._world.checked = self._server
        return await self._store.acquire(partition, owner, at_ms)

    async def commit(self, batch: Batch) -> None:
        world, faults = self._world, self._world.faults
        world.commit_number += 1
        number = world.commit_number
        point = faults.crash_at_commit.get(number) if world.is_chaos else None
        await self._pass(faults.commit_latency_s)
        if point is CrashPoint.BEFORE_COMMIT:
            world.crash(self._server, f"before commit {number}")
            await self._never()
        failing = faults.failing_commits.get(number) if world.is_chaos else None
        if failing is False:
            raise StorageUnavailable("The disk failed (simulated, not written).")
        world.checked = self._server
        world.trace(
            "commit", number, batch.partition, batch.epoch, len(batch.rows), len(batch.journal)
        )
        self._store.apply(batch)
        if point is CrashPoint.AFTER_COMMIT:
            world.crash(self._server, f"after commit {number}")
            await self._never()
        await self._pass(faults.commit_latency_s)
        if failing:
            raise StorageUnavailable("The disk failed (simulated, written).")

    async def load(self, partition: int, keys: Iterable[Key]) -> dict[Key, Loaded]:
        await self._read()
        return await self._store.load(partition, keys)

    async def journal(self, partition: int, invocation_id: str) -> list[JournalRow]:
        await self._read()
        return await self._store.journal(partition, invocation_id)

    async def stream(
        self, partition: int, invocation_id: str, name: str, after: int, size_bytes_max: int
    ) -> list[tuple[int, StreamRow]]:
        # Small pages, and an answer that is older than what happens until it is there.
        found = await self._store.stream(partition, invocation_id, name, after, 30)
        await self._read()
        return found

    async def state(
        self, partition: int, service: str, key: str, at_ms: int, size_bytes_max: int | None = None
    ) -> StoredState:
        await self._read()
        return await self._store.state(partition, service, key, at_ms, size_bytes_max)

    async def state_keys(
        self, partition: int, service: str, at_ms: int, after: str, limit: int
    ) -> list[str]:
        await self._read()
        return await self._store.state_keys(partition, service, at_ms, after, limit)

    async def expired_state(
        self, partition: int, at_ms: int, limit: int
    ) -> list[tuple[str, str, str]]:
        await self._read()
        return await self._store.expired_state(partition, at_ms, limit)

    async def timers(self, partition: int, after: Timer | None, limit: int) -> list[Timer]:
        await self._read()
        return await self._store.timers(partition, after, limit)

    async def outbox(self, partition: int, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        await self._read()
        return await self._store.outbox(partition, after, limit)

    async def with_status(
        self, partition: int, status: Status, after: str, limit: int
    ) -> list[InvocationRow]:
        await self._read()
        return await self._store.with_status(partition, status, after, limit)

    async def expired(self, partition: int, at_ms: int, limit: int) -> list[str]:
        await self._read()
        return await self._store.expired(partition, at_ms, limit)

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        await self._read()
        return await self._store.invocations(query, before, limit)

    async def approvals(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        await self._read()
        return await self._store.approvals(query, before, limit)

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        await self._pass(self._world.faults.commit_latency_s)
        await self._store.put_deployment(deployment)

    async def deployments(self) -> Sequence[StoredDeployment]:
        await self._read()
        return await self._store.deployments()

    async def keep_secret(self, name: str, secret: bytes) -> bytes:
        await self._pass(self._world.faults.commit_latency_s)
        return await self._store.keep_secret(name, secret)

    def is_durable(self) -> bool:
        return True


def tables(store: MemoryStore) -> dict[str, list[Any]]:
    """Return the keys of all rows that are left, by table."""
    found: dict[str, list[Any]] = {}
    for index, partition in enumerate(store._partitions):
        for key in partition.rows:
            assert hasattr(key[0], "name")
            found.setdefault(key[0].name, []).append((index, *key[1:]))
    return found
