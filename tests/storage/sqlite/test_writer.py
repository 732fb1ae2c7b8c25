from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from holdfast.domain.errors import Fenced, StorageError
from holdfast.engine.row import DedupRow, Key, StateRow, Status, Table
from holdfast.storage.base import InvocationFilter
from holdfast.storage.sqlite import SqliteStore
from holdfast.storage.sqlite import writer as writer_module
from holdfast.storage.sqlite.writer import Writer
from tests.storage.builder import batch, invocation, invocation_id, journal_input
from tests.storage.conftest import IN_THREAD, INLINE

DEDUP: Key = (Table.DEDUP, 1)


class Gate:
    """Holds the commits of a store back, in the thread where they happen."""

    def __init__(self, store: SqliteStore) -> None:
        assert store._opened is not None
        self.writer = store._opened.writer
        self.entered = threading.Semaphore(0)
        self.opened = threading.Semaphore(0)
        self._commit = self.writer._commit
        self.writer._commit = self.commit  # type: ignore[method-assign]

    def commit(self) -> tuple[Exception | None, float]:
        self.entered.release()
        assert self.opened.acquire(timeout=10)
        return self._commit()

    async def wait(self) -> None:
        """Wait until the next commit is in the thread."""
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


@pytest.fixture(params=[IN_THREAD, INLINE], ids=["thread", "inline"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "data.db", inline_seconds_max=request.param)
    await made.open()
    yield made
    await made.close()


@pytest.fixture
async def threaded(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "data.db", inline_seconds_max=IN_THREAD)
    await made.open()
    yield made
    await made.close()


def writer_of(store: SqliteStore) -> Writer:
    assert store._opened is not None
    return store._opened.writer


def count_transactions(store: SqliteStore) -> list[None]:
    """Return a list that grows with every commit."""
    assert store._opened is not None
    commits: list[None] = []
    connection = store._opened.writing
    assert isinstance(connection, apsw.Connection)
    connection.set_commit_hook(lambda: bool(commits.append(None)))
    return commits


# -- groups ----------------------------------------------------------------------------------------


async def test_what_is_submitted_together_shares_a_transaction(store: SqliteStore) -> None:
    epochs = await asyncio.gather(*(store.acquire(it, "me", 1) for it in range(4)))
    commits = count_transactions(store)
    await asyncio.gather(*(store.commit(batch(it, epochs[it], invocation(it))) for it in range(4)))
    assert len(commits) == 1
    await store.commit(batch(0, epochs[0], invocation(9)))
    assert len(commits) == 2


async def test_what_comes_during_a_commit_becomes_the_next_transaction(
    threaded: SqliteStore,
) -> None:
    epochs = [await threaded.acquire(it, "me", 1) for it in range(4)]
    commits = count_transactions(threaded)
    gate = Gate(threaded)
    first = asyncio.ensure_future(threaded.commit(batch(0, epochs[0], invocation(0))))
    await gate.wait()
    later = [
        asyncio.ensure_future(threaded.commit(batch(it, epochs[it], invocation(10 + it))))
        for it in (1, 2, 3)
    ]
    fenced = asyncio.ensure_future(threaded.commit(batch(1, 77, invocation(20))))
    await asyncio.sleep(0)
    # Not on the disk yet, so nobody may see it.
    assert await threaded.with_status(0, Status.RUNNING, "", 9) == []
    assert await threaded.invocations(InvocationFilter(), None, 9) == []
    assert not first.done()
    gate.opened.release()
    await first
    assert await threaded.with_status(0, Status.RUNNING, "", 9) == [invocation(0)]
    await gate.wait()
    assert not any(it.done() for it in later)
    gate.opened.release()
    await asyncio.gather(*later)
    assert len(commits) == 2
    with pytest.raises(Fenced):
        await fenced
    assert len(await threaded.invocations(InvocationFilter(), None, 9)) == 4


async def test_closing_finishes_what_is_under_way(threaded: SqliteStore) -> None:
    epochs = [await threaded.acquire(it, "me", 1) for it in range(2)]
    gate = Gate(threaded)
    first = asyncio.ensure_future(threaded.commit(batch(0, epochs[0], invocation(0))))
    await gate.wait()
    second = asyncio.ensure_future(threaded.commit(batch(1, epochs[1], invocation(1))))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(threaded.close())
    await asyncio.sleep(0)
    with pytest.raises(StorageError, match="HF4109"):
        await threaded.commit(batch(1, epochs[1], invocation(2)))
    gate.opened.release(2)
    await asyncio.gather(first, second, closing)
    await threaded.open()
    assert len(await threaded.invocations(InvocationFilter(), None, 9)) == 2


async def test_closing_finishes_what_has_not_begun(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    commit = asyncio.ensure_future(store.commit(batch(0, epoch, invocation(0))))
    closing = asyncio.ensure_future(store.close())
    await asyncio.gather(commit, closing)
    await store.open()
    assert len(await store.invocations(InvocationFilter(), None, 9)) == 1


async def test_closing_twice_at_once(threaded: SqliteStore) -> None:
    epoch = await threaded.acquire(0, "me", 1)
    gate = Gate(threaded)
    commit = asyncio.ensure_future(threaded.commit(batch(0, epoch, invocation(0))))
    await gate.wait()
    closing = [asyncio.ensure_future(threaded.close()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.opened.release()
    await asyncio.gather(commit, *closing)


async def test_a_group_of_fenced_commits_is_no_transaction(store: SqliteStore) -> None:
    commits = count_transactions(store)
    with pytest.raises(Fenced):
        await store.commit(batch(0, 1))
    assert commits == []
    assert not writer_of(store).is_busy
    assert await store.acquire(0, "me", 1) == 1


async def test_a_caller_that_is_cancelled_harms_nobody(threaded: SqliteStore) -> None:
    epoch = await threaded.acquire(0, "me", 1)
    gate = Gate(threaded)
    doomed = asyncio.ensure_future(threaded.commit(batch(0, epoch, invocation(0))))
    await gate.wait()
    doomed.cancel()
    gate.opened.release(2)
    await threaded.commit(batch(0, epoch, invocation(1)))
    # Its commit was under way, so it happened.
    assert len(await threaded.invocations(InvocationFilter(), None, 9)) == 2
    assert doomed.cancelled()


# -- where COMMIT runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inline_seconds_max", "seconds", "is_inline"),
    [(INLINE, 5.0, True), (IN_THREAD, 0.0, False), (1e-3, 1e-4, True), (1e-3, 5e-3, False)],
)
async def test_the_time_of_commits_decides_where_they_run(
    tmp_path: Path, inline_seconds_max: float, seconds: float, is_inline: bool
) -> None:
    store = SqliteStore(tmp_path / "data.db", inline_seconds_max=inline_seconds_max)
    await store.open()
    epoch = await store.acquire(0, "me", 1)
    writer = writer_of(store)
    commit = writer._commit
    threads: list[int] = []

    def timed() -> tuple[Exception | None, float]:
        threads.append(threading.get_ident())
        return commit()[0], seconds

    writer._commit = timed  # type: ignore[method-assign]
    for number in range(20):
        await store.commit(batch(0, epoch, invocation(number)))
    assert (threads[-1] == threading.get_ident()) is is_inline
    await store.close()


# -- what cannot be written ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        (Table.DEDUP, 2**63),
        (Table.STATE, "cart", "lone \ud800 surrogate", "x"),
        (Table.LOCK, 5.5, object()),
    ],
    ids=["integer", "text", "type"],
)
async def test_a_value_that_cannot_be_stored_harms_nobody(store: SqliteStore, key: Key) -> None:
    epoch = await store.acquire(0, "me", 1)
    row = StateRow(b"") if key[0] is Table.STATE else DedupRow(1)
    answers = await asyncio.gather(
        store.commit(batch(0, epoch, put={DEDUP: DedupRow(1)})),
        store.commit(batch(0, epoch, invocation(3), put={key: row})),
        store.commit(batch(0, epoch - 1, invocation(4))),
        store.commit(batch(0, epoch, invocation(5))),
        return_exceptions=True,
    )
    assert isinstance(answers[1], StorageError)
    assert answers[1].code == "HF4111"
    assert isinstance(answers[2], Fenced)
    assert answers[0] is answers[3] is None
    assert await store.load(0, [DEDUP]) == {DEDUP: DedupRow(1)}
    assert await store.invocations(InvocationFilter(), None, 9) == [invocation(5)]


async def test_a_key_that_cannot_be_stored_cannot_be_asked_for(store: SqliteStore) -> None:
    with pytest.raises(StorageError, match="HF4111"):
        await store.load(0, [DEDUP, (Table.STATE, "cart", "lone \ud800 surrogate", "x")])
    with pytest.raises(StorageError, match="HF4111"):
        await store.invocations(InvocationFilter(key="\ud800"), None, 1)
    assert await store.load(0, [DEDUP]) == {DEDUP: None}
    assert await store.acquire(0, "me", 1) == 1


async def test_a_value_that_has_no_encoding(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    row = invocation(1)
    row.idempotency_key = "\ud800"
    with pytest.raises(StorageError, match="HF4111"):
        await store.commit(batch(0, epoch, row))
    await store.commit(batch(0, epoch, invocation(1)))


# -- poison ----------------------------------------------------------------------------------------


def break_commit(store: SqliteStore, error: Exception) -> None:
    writer = writer_of(store)
    writer._commit = lambda: (error, 0.0)  # type: ignore[method-assign]


def break_begin(store: SqliteStore, error: Exception) -> None:
    def begin(group: object) -> None:
        raise error

    writer_of(store)._execute = begin  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("break_it", [break_commit, break_begin])
async def test_after_a_failed_write_nothing_is_answered(
    store: SqliteStore, break_it: Callable[[SqliteStore, Exception], None]
) -> None:
    epoch = await store.acquire(0, "me", 1)
    break_it(store, apsw.FullError("database or disk is full"))
    answers = await asyncio.gather(
        store.commit(batch(0, epoch, invocation(0))),
        store.commit(batch(0, epoch, invocation(1))),
        store.acquire(1, "me", 1),
        return_exceptions=True,
    )
    for answer in answers:
        assert isinstance(answer, StorageError)
        assert answer.code == "HF4108"
        assert "disk is full" in answer.message
        assert "outcome" in answer.message
        assert str(store.path) in answer.message
    # Each has its own: a traceback belongs to one raise.
    assert len({id(answer) for answer in answers}) == 3
    for later in (
        store.commit(batch(0, epoch, invocation(2))),
        store.load(0, [DEDUP]),
        store.timers(0, None, 1),
        store.invocations(InvocationFilter(), None, 1),
        store.deployments(),
    ):
        with pytest.raises(StorageError, match="HF4108"):
            await later
    await store.close()
    await store.open()
    assert await store.invocations(InvocationFilter(), None, 9) == []
    assert await store.acquire(0, "me", 1) == epoch + 1


async def test_waiting_commits_fail_with_the_one_under_way(threaded: SqliteStore) -> None:
    epoch = await threaded.acquire(0, "me", 1)
    gate = Gate(threaded)
    gate._commit = lambda: (apsw.IOError("sync failed"), 0.0)
    first = asyncio.ensure_future(threaded.commit(batch(0, epoch, invocation(0))))
    await gate.wait()
    second = asyncio.ensure_future(threaded.commit(batch(0, epoch, invocation(1))))
    await asyncio.sleep(0)
    gate.opened.release()
    for commit in (first, second):
        with pytest.raises(StorageError, match=r"sync failed.*HF4108"):
            await commit


_READ_ONLY_URI = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI


# -- checkpoints -----------------------------------------------------------------------------------


def wal_size(store: SqliteStore) -> int:
    path = store.path.with_name(store.path.name + "-wal")
    return path.stat().st_size if path.exists() else 0


async def test_the_wal_does_not_grow_without_end(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 50)
    epoch = await store.acquire(0, "me", 1)
    sizes: list[int] = []
    for number in range(400):
        await store.commit(batch(0, epoch, invocation(number), journal=[journal_input(number)]))
        assert await store.with_status(0, Status.RUNNING, invocation_id(number), 1) is not None
        sizes.append(wal_size(store))
    # Without checkpoints it is 10 MB. A reader may keep one from being complete.
    assert max(sizes) < 300 * 4120
    assert len(await store.with_status(0, Status.RUNNING, "", 1000)) == 400


async def test_a_checkpoint_that_a_reader_stops_is_tried_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 50)
    epoch = await store.acquire(0, "me", 1)
    assert store._opened is not None
    slow = store._opened.listing
    slow.execute("BEGIN").fetchall()
    slow.execute("SELECT count(*) FROM invocation").fetchall()
    for number in range(200):
        await store.commit(batch(0, epoch, invocation(number)))
    assert wal_size(store) > 200 * 4096
    slow.execute("COMMIT").fetchall()
    before = wal_size(store)
    for number in range(200, 600):
        await store.commit(batch(0, epoch, invocation(number)))
    assert wal_size(store) <= before + 100 * 4120


async def test_in_idle_time_the_wal_is_moved_into_the_file_and_keeps_its_size(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "IDLE_SECONDS", 0.01)
    epoch = await store.acquire(0, "me", 1)
    for number in range(20):
        await store.commit(batch(0, epoch, invocation(number)))
    size = wal_size(store)
    assert size > 20 * 4096
    async with asyncio.timeout(10):
        while not is_checkpointed(store):
            await asyncio.sleep(0.005)
    await store.commit(batch(0, epoch, invocation(20)))
    assert wal_size(store) == size
    assert len(await store.invocations(InvocationFilter(), None, 99)) == 21


def is_checkpointed(store: SqliteStore) -> bool:
    """Whether the file alone, without its WAL, has every invocation."""
    copy = store.path.with_name("copy.db")
    copy.write_bytes(store.path.read_bytes())
    # The copy has no WAL, so what is read is what the file has.
    other = apsw.Connection(f"file:{copy}?immutable=1", flags=_READ_ONLY_URI)
    try:
        return other.execute("SELECT count(*) FROM invocation").fetchall()[0][0] == 20
    except apsw.SQLError:
        return False
    finally:
        other.close()


async def test_a_failed_checkpoint_poisons(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "CHECKPOINT_PAGES", 1)
    epoch = await store.acquire(0, "me", 1)

    def fail() -> None:
        writer._report(writer._checkpointed, apsw.IOError("disk I/O error"))

    writer = writer_of(store)
    monkeypatch.setattr(writer, "_checkpoint_in_thread", fail)
    # The commit itself is durable, and answered so.
    await store.commit(batch(0, epoch, invocation(1)))
    with pytest.raises(StorageError, match="HF4108"):
        await store.commit(batch(0, epoch, invocation(2)))
