"""What was answered survives the loss of power, and errors of the disk are never taken for success.

The self-tests at the end show that these tests can see: without syncs they find losses.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import NamedTuple

import apsw
import pytest

from holdfast.domain.errors import StorageError
from holdfast.storage.sqlite import SqliteStore
from holdfast.storage.sqlite import writer as writer_module
from tests.storage.sqlite.committer import check_steps, commit_step, committed
from tests.storage.sqlite.crash_disk import CrashDisk, CrashFile

PARTITIONS = 2
STATES_PER_LIFE = 50
LIVES = 6
"""Each life of the server begins with what a loss of power left of the one before."""


@pytest.fixture(autouse=True)
def frequent_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 30)


class Moment(NamedTuple):
    """A point in the log of a disk, and what was answered and asked by then."""

    position: int
    acked: tuple[int, ...]
    asked: tuple[int, ...]


def store_on(disk: CrashDisk, durability: str = "full") -> SqliteStore:
    # In the thread COMMIT would race with reads on the only connection.
    return SqliteStore(
        "/data.db",
        PARTITIONS,
        durability,
        inline_seconds_max=float("inf"),
        file=CrashFile(disk),
    )


async def live(
    store: SqliteStore, disk: CrashDisk, steps: int, pick: random.Random
) -> list[Moment]:
    """Commit on all partitions; return a moment for every commit asked and answered."""
    acked = [await committed(store, partition) for partition in range(PARTITIONS)]
    asked = acked.copy()
    moments = [Moment(len(disk.log), tuple(acked), tuple(asked))]

    def note() -> None:
        moments.append(Moment(len(disk.log), tuple(acked), tuple(asked)))

    async def work(partition: int) -> None:
        epoch = await store.acquire(partition, "me", 1)
        for step in range(acked[partition] + 1, acked[partition] + 1 + steps):
            for _ in range(pick.randrange(4)):
                await asyncio.sleep(0)
            asked[partition] = step
            note()
            await commit_step(store, partition, epoch, step)
            acked[partition] = step
            note()

    await asyncio.gather(*(work(partition) for partition in range(PARTITIONS)))
    return moments


def at(moments: list[Moment], position: int) -> tuple[Moment, Moment]:
    """Return the last moment up to a position, and the first one from it on.

    A commit writes after it was asked and before it was answered: the first says what was surely
    answered, the second what may have been asked.
    """
    before = [moment for moment in moments if moment.position <= position]
    after = [moment for moment in moments if moment.position >= position]
    return before[-1], (after or moments)[0 if after else -1]


async def check(files: dict[str, bytes], moments: list[Moment], position: int) -> None:
    """Open what is left and compare it with what was answered."""
    store = store_on(CrashDisk(files))
    await store.open()
    before, after = at(moments, position)
    for partition in range(PARTITIONS):
        stored = await check_steps(store, partition)
        assert before.acked[partition] <= stored <= after.asked[partition], (
            f"partition {partition}: answered {before.acked}, stored {stored}, asked {after.asked}"
        )
    await store.close()


def positions(moments: list[Moment], end: int, pick: random.Random, count: int) -> Iterator[int]:
    """Choose points where the power goes; answers are where a loss would show."""
    for _ in range(count):
        if pick.random() < 0.5:
            yield pick.choice(moments).position
        else:
            yield pick.randrange(moments[0].position, end + 1)


async def lose_power(seed: int, durability: str, *, is_lying: bool = False) -> list[Exception]:
    """Live and lose power again and again; return what went wrong."""
    pick = random.Random(seed)
    wrong: list[Exception] = []
    disk = CrashDisk(is_lying=is_lying)
    for _ in range(LIVES):
        store = store_on(disk, durability)
        await store.open()
        moments = await live(store, disk, 15, pick)
        if pick.random() < 0.5:
            await store.close()
        chosen = list(positions(moments, len(disk.log), pick, STATES_PER_LIFE))
        for position in chosen:
            files = disk.after_power_loss(pick, position)
            try:
                await check(files, moments, position)
            except (AssertionError, StorageError) as error:
                wrong.append(error)
        disk = CrashDisk(files, is_lying=is_lying)
        if wrong:
            break
    return wrong


async def test_full_durability_loses_nothing() -> None:
    seed = random.randrange(2**32)
    wrong = await lose_power(seed, "full")
    assert not wrong, f"seed {seed}"


@pytest.mark.nightly
async def test_full_durability_loses_nothing_for_long() -> None:
    for seed in range(100):
        assert not await lose_power(seed, "full"), f"seed {seed}"


# -- a loss of power while the database is being made ----------------------------------------------


async def test_power_is_lost_while_the_database_is_made() -> None:
    pick = random.Random(random.randrange(2**32))
    disk = CrashDisk()
    store = store_on(disk)
    await store.open()
    await store.close()
    for position in range(len(disk.log) + 1):
        again = store_on(CrashDisk(disk.after_power_loss(pick, position)))
        await again.open()
        assert again.partition_count == PARTITIONS
        assert await again.acquire(1, "me", 1) == 1
        await again.close()


# -- errors of the disk ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_failing_on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("failure", [apsw.IOError, apsw.FullError])
async def test_the_disk_fails_at_any_write_or_sync(
    failure: type[apsw.Error], is_failing_on: bool
) -> None:
    first = CrashDisk()
    store = store_on(first)
    await store.open()
    await store.close()
    prepared = {name: bytes(content) for name, content in first.files.items()}
    pick = random.Random(3)
    failures = 0
    for fail_at in range(1, 10_000):
        disk = CrashDisk(prepared)
        disk.failure, disk.is_failing_on = failure, is_failing_on
        disk.fail_at = fail_at
        store = store_on(disk)
        acked, asked = await live_until_failure(store)
        if not disk.has_failed:
            break
        failures += 1
        disk.fail_at, disk.is_failing_on = -1, False
        moments = [Moment(0, acked, asked), Moment(len(disk.log), acked, asked)]
        # The process ends, or the power goes at the same moment.
        left = {name: bytes(content) for name, content in disk.files.items()}
        await check(left, moments, len(disk.log))
        await check(disk.after_power_loss(pick, len(disk.log)), moments, len(disk.log))
    assert failures > 40


async def live_until_failure(store: SqliteStore) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Commit some steps, as far as the disk lets it; return what was answered and asked."""
    acked, asked = [0] * PARTITIONS, [0] * PARTITIONS
    failure = None
    try:
        await store.open()
        for step in range(1, 13):
            partition = step % PARTITIONS
            epoch = await store.acquire(partition, "me", 1)
            asked[partition] += 1
            await commit_step(store, partition, epoch, asked[partition])
            acked[partition] += 1
    except StorageError as error:
        failure = error
    assert failure is None or failure.code in ("HF4101", "HF4108")
    if failure is not None and failure.code == "HF4108":
        with pytest.raises(StorageError, match="HF4108"):
            await store.acquire(0, "me", 1)
    await store.close()
    return tuple(acked), tuple(asked)


# -- can these tests see? --------------------------------------------------------------------------


async def test_relaxed_durability_loses_answers() -> None:
    wrong = [error for seed in range(3) for error in await lose_power(seed, "relaxed")]
    assert wrong
    # Answers are lost, but what is there is whole.
    for error in wrong:
        assert "answered" in str(error), error


async def test_a_disk_that_lies_about_syncs_is_seen() -> None:
    wrong = [error for seed in range(3) for error in await lose_power(seed, "full", is_lying=True)]
    assert wrong
