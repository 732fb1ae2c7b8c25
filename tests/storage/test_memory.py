from __future__ import annotations

import pytest

from holdfast.domain.errors import Fenced
from holdfast.engine.decision import Batch
from holdfast.engine.row import Status
from holdfast.storage.memory import MemoryStore
from tests.storage.builder import batch, invocation, invocation_id, journal_input


async def test_rows_survive_a_restart_of_the_server() -> None:
    store = MemoryStore()
    await store.open()
    epoch = await store.acquire(0, "me", 1)
    await store.commit(batch(0, epoch, invocation(1), journal=[journal_input(1)]))
    await store.close()
    await store.open()
    assert await store.with_status(0, Status.RUNNING, "", 9) == [invocation(1)]
    assert await store.acquire(0, "me", 1) == epoch + 1
    assert store.epoch(0) == epoch + 1
    assert not store.is_durable()


async def test_a_subclass_decides_when_a_commit_happens() -> None:
    class Held(MemoryStore):
        held: Batch | None = None

        async def commit(self, batch: Batch) -> None:
            self.held = batch

    store = Held()
    epoch = await store.acquire(0, "me", 1)
    await store.commit(batch(0, epoch, invocation(1)))
    assert await store.with_status(0, Status.RUNNING, "", 9) == []
    assert store.held is not None
    store.apply(store.held)
    assert [row.id for row in await store.with_status(0, Status.RUNNING, "", 9)] == [
        invocation_id(1)
    ]
    await store.acquire(0, "other", 2)
    with pytest.raises(Fenced):
        store.apply(store.held)
