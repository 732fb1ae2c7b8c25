"""A process that commits in a loop, to be killed: `python -m tests.storage.sqlite.committer PATH`.

Every partition counts its own commits in its outbox counter. A line `partition number` is printed
for each commit that was answered.
"""

from __future__ import annotations

import asyncio
import sys

from holdfast.engine.row import Key, PartitionRow, Table
from holdfast.storage.base import Store
from holdfast.storage.sqlite import SqliteStore
from holdfast.storage.sqlite import writer as writer_module
from tests.storage.builder import batch, entry, invocation, journal_input

COUNTER: Key = (Table.PARTITION,)
STRIDE = 1_000_000


def number_of(partition: int, step: int) -> int:
    """Return the invocation that a partition makes in a step, from 1."""
    return partition * STRIDE + step


async def committed(store: Store, partition: int) -> int:
    """Return how many commits of a partition are stored."""
    row = (await store.load(partition, [COUNTER]))[COUNTER]
    return row.outbox_next if isinstance(row, PartitionRow) else 0


async def commit_step(store: Store, partition: int, epoch: int, step: int) -> None:
    """Make one invocation, and add an entry to the one before."""
    number = number_of(partition, step)
    journal = [journal_input(number)]
    if step > 1:
        journal.append(entry(number - 1, 1))
    await store.commit(
        batch(
            partition,
            epoch,
            invocation(number),
            put={COUNTER: PartitionRow(step)},
            journal=journal,
        )
    )


async def check_steps(store: Store, partition: int) -> int:
    """Check that what is stored is whole: every step up to the last, and nothing else.

    Returns:
        How many commits of the partition are stored.
    """
    count = await committed(store, partition)
    for step in range(1, count + 1):
        number = number_of(partition, step)
        expected = [journal_input(number)] + ([entry(number, 1)] if step < count else [])
        row = invocation(number)
        assert await store.load(partition, [(Table.INVOCATION, row.id)]) == {
            (Table.INVOCATION, row.id): row
        }
        assert await store.journal(partition, row.id) == expected, f"step {step} of {count}"
    following = invocation(number_of(partition, count + 1)).id
    assert await store.load(partition, [(Table.INVOCATION, following)]) == {
        (Table.INVOCATION, following): None
    }
    return count


async def _work(store: Store, partition: int) -> None:
    epoch = await store.acquire(partition, "committer", 1)
    step = await committed(store, partition)
    while True:
        step += 1
        await commit_step(store, partition, epoch, step)
        print(partition, step, flush=True)


async def _main(path: str) -> None:
    writer_module.CHECKPOINT_PAGES = 100
    store = SqliteStore(path)
    await store.open()
    await asyncio.gather(*(_work(store, partition) for partition in range(store.partition_count)))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
