from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast.storage.base import Store
from holdfast.storage.memory import MemoryStore
from holdfast.storage.sqlite import SqliteStore

INLINE = float("inf")
IN_THREAD = 0.0


@pytest.fixture(params=["memory", "sqlite inline", "sqlite thread", "sqlite relaxed"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every store, open, with two partitions."""
    made: Store
    if request.param == "memory":
        made = MemoryStore(partition_count=2)
    else:
        made = SqliteStore(
            tmp_path / "data.db",
            partition_count=2,
            durability="relaxed" if "relaxed" in request.param else "full",
            inline_seconds_max=IN_THREAD if "thread" in request.param else INLINE,
        )
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def epoch(store: Store) -> int:
    """The epoch of partition 0."""
    return await store.acquire(0, "me", 1)
