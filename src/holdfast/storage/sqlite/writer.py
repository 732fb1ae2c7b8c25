"""The only connection that writes, and how commits are gathered.

Writes are cheap and the sync is slow. So the statements of a transaction run on the event loop,
where in WAL mode they touch memory only, and the COMMIT, which waits for the disk, runs in a thread
of its own: one hand-over for a whole group instead of one fight for the GIL per statement. What is
submitted meanwhile waits and becomes the next transaction.

    idle ──submit──▶ flush (BEGIN, statements) ──▶ COMMIT ──▶ finish ──▶ idle, flush or checkpoint

When the disk answers faster than the hand-over costs, COMMIT runs on the loop itself; the time of
the latest commits decides.

Whatever goes wrong after BEGIN, apart from work that refuses itself, poisons the writer: SQLite
cannot tell whether a failed COMMIT is on the disk, and neither can a retry (a second fsync may
succeed without having written what the first one lost). All waiting and later work fails; only
opening the file again tells what is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import NamedTuple, TypeVar, cast

import apsw

from holdfast.domain.errors import CorruptState, Fenced, StorageError
from holdfast.storage.sqlite.driver import Connection
from holdfast.storage.sqlite.failure import VALUE_ERRORS, not_open, not_storable, poisoned
from holdfast.storage.sqlite.query import QUERIES

_BEGIN = QUERIES["begin"]
_COMMIT = QUERIES["commit"]
_ROLLBACK = QUERIES["rollback"]

INLINE_SECONDS_MAX = 300e-6
"""A COMMIT this quick costs less on the loop than in the thread."""
CHECKPOINT_PAGES = 1000
"""Pages written since the last checkpoint that make the next one due: about 4 MB."""
BUSY_TIMEOUT_MS = 1000
"""How long a transaction waits for another program that writes to the file, against the rules."""
IDLE_SECONDS = 2.0
"""After this long without a commit the WAL is moved into the file. It keeps its size: syncing what
overwrites a file takes half as long as syncing what makes it grow."""

_REFUSALS = (apsw.TooBigError, apsw.MismatchError, apsw.ConstraintError)
"""Errors of SQLite that are about one value."""

_T = TypeVar("_T")


class _Submission(NamedTuple):
    """Work that waits for its transaction, or is in one."""

    work: Callable[[], object]
    future: asyncio.Future[object]


class _Outcome(NamedTuple):
    """Work that has run, with its result, in the open transaction."""

    submission: _Submission
    result: object


class _RefusedError(Exception):
    """One piece of work cannot be done; the transaction is rolled back, the others may go on."""

    def __init__(self, submission: _Submission, reason: StorageError) -> None:
        super().__init__()
        self.submission = submission
        self.reason = reason


class Writer:
    """Runs work in transactions, several pieces in one.

    All methods are called from the event loop on which it was made.

    Args:
        connection: Open, in WAL mode, used by nobody else while `is_busy`.
        path: For error messages.
        inline_seconds_max: From this mean duration on COMMIT goes to the thread; 0: always, inf:
            never.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        inline_seconds_max: float = INLINE_SECONDS_MAX,
    ) -> None:
        self.poison: BaseException | None = None
        """What failed; None while all is well."""
        self.is_busy = False
        """Whether the thread is using the connection."""
        self._connection = connection
        self._cursor = connection.cursor()
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Submission] = []
        self._is_scheduled = False
        self._is_closed = False
        self._drained: asyncio.Future[None] | None = None
        self._inline_seconds_max = inline_seconds_max
        # Nothing is known of this disk yet: begin as if it were slow.
        self._commit_seconds = min(2 * inline_seconds_max, 1.0)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        self._checkpointed_pages = self._pages()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._commit_count = 0
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="holdfast-commit", daemon=True)
        self._thread.start()

    # -- submitting --------------------------------------------------------------------------------

    def submit(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Run `work` in a transaction; the future has its result once that is durable.

        Args:
            work: Runs statements. May raise Fenced before it has written anything, or any other
                StorageError at any time: then none of it is written. May be run more than once.

        Raises:
            StorageError: HF4108 or HF4109; also through the future.
        """
        self.check()
        future: asyncio.Future[_T] = self._loop.create_future()
        self._waiting.append(_Submission(work, cast("asyncio.Future[object]", future)))
        if not self.is_busy and not self._is_scheduled:
            # Not at once: whoever else is ready in this turn of the loop shares the transaction.
            self._is_scheduled = True
            self._loop.call_soon(self._flush)
        return future

    def check(self) -> None:
        """Raise HF4108 or HF4109 unless all is well."""
        if self.poison is not None:
            raise poisoned(self._path, self.poison)
        if self._is_closed:
            raise not_open(self._path)

    # -- one transaction ---------------------------------------------------------------------------

    def _flush(self) -> None:
        assert not self.is_busy
        self._is_scheduled = False
        group, self._waiting = self._waiting, []
        try:
            outcomes = self._execute(group)
        except Exception as error:  # any failure here leaves the transaction in doubt
            self._fail(error, group)
            return
        if not outcomes:
            self._next()
        elif self._commit_seconds < self._inline_seconds_max:
            self._finish(outcomes, *self._commit())
        else:
            self._hand_over(partial(self._commit_in_thread, outcomes))

    def _execute(self, group: list[_Submission]) -> list[_Outcome]:
        """Run the work of a group in a new transaction; return what is in it, none if not open."""
        while True:
            self._cursor.execute(_BEGIN)
            try:
                outcomes = self._run_all(group)
            except _RefusedError as refused:
                self._cursor.execute(_ROLLBACK)
                _reject(refused.submission, refused.reason)
                continue
            if not outcomes:
                self._cursor.execute(_ROLLBACK)
            return outcomes

    def _run_all(self, group: list[_Submission]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        for submission in group:
            # Refused in an earlier try of this transaction, or nobody waits for it any more.
            if submission.future.done():
                continue
            try:
                outcomes.append(_Outcome(submission, submission.work()))
            except Fenced as error:
                _reject(submission, error)
            except CorruptState as error:
                raise _RefusedError(submission, error) from error
            except (*VALUE_ERRORS, *_REFUSALS) as error:
                # A value, not the database, is at fault: nobody else shall suffer for it.
                raise _RefusedError(submission, not_storable(error)) from error
        return outcomes

    def _commit(self) -> tuple[Exception | None, float]:
        began = perf_counter()
        try:
            self._cursor.execute(_COMMIT)
        except Exception as error:  # handed to the loop, which poisons the writer
            return error, 0.0
        return None, perf_counter() - began

    def _finish(self, outcomes: list[_Outcome], error: Exception | None, seconds: float) -> None:
        self.is_busy = False
        if error is not None:
            self._fail(error, [outcome.submission for outcome in outcomes])
            return
        self._commit_count += 1
        self._commit_seconds += (seconds - self._commit_seconds) / 4
        for submission, result in outcomes:
            if not submission.future.done():
                submission.future.set_result(result)
        if self._pages() - self._checkpointed_pages >= CHECKPOINT_PAGES:
            self._hand_over(self._checkpoint_in_thread)
            return
        if self._idle_timer is None:
            self._watch_idle()
        self._next()

    def _next(self) -> None:
        if self._waiting:
            if not self._is_scheduled:
                self._is_scheduled = True
                self._loop.call_soon(self._flush)
        elif self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _fail(self, error: Exception, group: list[_Submission]) -> None:
        self.is_busy = False
        self.poison = error
        with contextlib.suppress(apsw.Error):
            if self._connection.in_transaction:
                self._cursor.execute(_ROLLBACK)
        waiting, self._waiting = self._waiting, []
        for submission in (*group, *waiting):
            _reject(submission, poisoned(self._path, error))
        self._next()

    # -- the thread --------------------------------------------------------------------------------

    def _hand_over(self, job: Callable[[], None]) -> None:
        self.is_busy = True
        self._jobs.put(job)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _commit_in_thread(self, outcomes: list[_Outcome]) -> None:
        error, seconds = self._commit()
        self._report(self._finish, outcomes, error, seconds)

    def _checkpoint_in_thread(self) -> None:
        error: Exception | None = None
        try:
            # Waiting for a reader would keep commits waiting too. The next one will do it.
            self._connection.set_busy_timeout(0)
            with contextlib.suppress(apsw.BusyError):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        except Exception as cause:  # handed to the loop, which poisons the writer
            error = cause
        self._report(self._checkpointed, error)

    def _report(self, callback: Callable[..., None], *values: object) -> None:
        # The loop may be gone when a process ends without closing its store: nobody waits then.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *values)

    # -- checkpoints -------------------------------------------------------------------------------

    def _pages(self) -> int:
        return self._connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]

    def _checkpointed(self, error: Exception | None) -> None:
        self.is_busy = False
        if error is not None:
            self._fail(error, [])
            return
        # Also when a reader kept it from being complete: it is tried again after as many pages.
        self._checkpointed_pages = self._pages()
        self._next()

    def _watch_idle(self) -> None:
        self._idle_timer = self._loop.call_later(IDLE_SECONDS, self._on_idle, self._commit_count)

    def _on_idle(self, commit_count: int) -> None:
        self._idle_timer = None
        if self.poison is not None or self._is_closed:
            return
        if commit_count != self._commit_count or self.is_busy or self._waiting:
            self._watch_idle()
        else:
            self._hand_over(self._checkpoint_in_thread)

    # -- the end -----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish what was submitted, empty the WAL and stop. The connection stays open."""
        self._is_closed = True
        while self.is_busy or self._waiting:
            if self._drained is None or self._drained.done():
                self._drained = self._loop.create_future()
            await self._drained
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._jobs.put(None)
        self._thread.join()
        if self.poison is None:
            # A failure here loses nothing: what is in the WAL is durable there.
            with contextlib.suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def _reject(submission: _Submission, error: StorageError) -> None:
    if not submission.future.done():
        submission.future.set_exception(error)
