"""Who may commit, and what commits at the same time do: one contract for all stores."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.domain.errors import Fenced
from holdfast.engine.row import (
    DedupRow,
    Key,
    Status,
    Table,
)
from holdfast.storage.base import InvocationFilter, Store
from tests.storage.builder import (
    batch,
    invocation,
    invocation_id,
    journal_input,
    load,
)

# -- epochs ----------------------------------------------------------------------------------------


async def test_epochs_rise_per_partition(store: Store) -> None:
    assert [await store.acquire(0, "a", 1) for _ in range(3)] == [1, 2, 3]
    assert await store.acquire(1, "a", 1) == 1


@pytest.mark.parametrize("offset", [-1, 1])
async def test_a_commit_of_another_epoch_is_refused(store: Store, offset: int) -> None:
    await store.acquire(0, "a", 1)
    epoch = await store.acquire(0, "b", 2)
    with pytest.raises(Fenced, match=f"epoch {epoch};.*epoch {epoch + offset} .*HF4002"):
        await store.commit(batch(0, epoch + offset, invocation(1)))
    assert await load(store, (Table.INVOCATION, invocation_id(1))) is None


async def test_a_commit_without_any_leader_is_refused(store: Store) -> None:
    with pytest.raises(Fenced):
        await store.commit(batch(0, 1, invocation(1)))


async def test_a_fenced_commit_does_not_harm_the_others(store: Store) -> None:
    old = await store.acquire(0, "a", 1)
    new = await store.acquire(0, "b", 1)
    other = await store.acquire(1, "b", 1)
    answers = await asyncio.gather(
        store.commit(batch(0, new, invocation(1))),
        store.commit(batch(0, old, invocation(2))),
        store.commit(batch(1, other, invocation(3))),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), Fenced, type(None)]
    stored = await store.invocations(InvocationFilter(), None, 9)
    assert [row.id for row in stored] == [invocation_id(3), invocation_id(1)]


async def test_an_epoch_that_rises_meanwhile_fences(store: Store, epoch: int) -> None:
    answers = await asyncio.gather(
        store.commit(batch(0, epoch, invocation(1))),
        store.acquire(0, "b", 2),
        store.commit(batch(0, epoch, invocation(2))),
        store.commit(batch(0, epoch + 1, invocation(3))),
        return_exceptions=True,
    )
    assert answers[:2] == [None, epoch + 1]
    assert isinstance(answers[2], Fenced)
    assert answers[3] is None


# -- many at once ----------------------------------------------------------------------------------


async def test_commits_of_all_partitions_at_the_same_time(store: Store) -> None:
    async def work(partition: int) -> None:
        epoch = await store.acquire(partition, "me", 1)
        for step in range(40):
            number = partition * 1000 + step
            key: Key = (Table.INVOCATION, invocation_id(number))
            await store.commit(
                batch(partition, epoch, invocation(number), journal=[journal_input(number)])
            )
            # What was committed is seen at once, also while others commit.
            assert await load(store, key, partition) == invocation(number)
            assert await store.journal(partition, invocation_id(number)) == [journal_input(number)]

    await asyncio.gather(*(work(partition) for partition in range(store.partition_count)))
    for partition in range(store.partition_count):
        assert len(await store.with_status(partition, Status.RUNNING, "", 100)) == 40


async def test_commits_of_one_partition_are_applied_in_order(store: Store, epoch: int) -> None:
    key: Key = (Table.DEDUP, 1)
    await asyncio.gather(
        *(store.commit(batch(0, epoch, put={key: DedupRow(number)})) for number in range(50))
    )
    assert await load(store, key) == DedupRow(49)
