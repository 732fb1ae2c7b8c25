"""One partition's loop: collect records, decide, commit, act.

While a commit is on its way to disk the next records collect (group commit). Actions are taken
strictly after the commit, but for one kind: the first attempt of a new invocation of an unkeyed
service starts beside its own commit (`StartAttempt.entries`), because it shows nothing that a crash
could take back and can always be repeated.

A record that the engine cannot apply is refused, with its draft, and harms no other. A commit that
fails stops the partition: what was decided is unknown to be stored.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import cast

import msgspec
from msgspec.structs import replace

from holdfast.domain.errors import StorageError, StorageUnavailable, Unstorable
from holdfast.engine.apply import apply, footprint
from holdfast.engine.decision import Action, Answer, EndAttempt, Row, StartAttempt
from holdfast.engine.record import AttemptLost, HandlerSent, Record, TimerFired
from holdfast.engine.row import InvocationRow, Key, Lookup, Status, Table
from holdfast.engine.view import Draft, Fact, Missing, Stamp, View
from holdfast.server.catalog import Catalog
from holdfast.server.changes import Changes
from holdfast.server.clock import Clock
from holdfast.server.recall import Recall
from holdfast.storage.base import Store

_log = logging.getLogger(__name__)

BATCH_RECORDS_MAX = 512
"""Records of one commit. More wait for the next one."""

CACHE_ROWS_MAX = 50_000
"""Rows of active invocations and keys that one partition keeps in memory."""

QUEUE_RECORDS_MAX = 100_000
"""Records that may wait for a commit. Beyond it new requests are refused with 503."""

_LINGER_S = 0.001

_AT_REST = frozenset({Status.SCHEDULED, Status.SUSPENDED, Status.PAUSED, Status.COMPLETED})
_KEPT = frozenset({Table.INVOCATION, Table.LOCK, Table.INBOX, Table.DEDUP, Table.PARTITION})


class _Proposal(msgspec.Struct, frozen=True, gc=False):
    record: Record
    answer: asyncio.Future[Answer] | None


class Partition:
    """The leader of one partition."""

    def __init__(
        self,
        index: int,
        store: Store,
        catalog: Catalog,
        clock: Clock,
        *,
        act: Callable[[Partition, Action], None],
        on_stopped: Callable[[Partition, BaseException], None],
        changes: Changes,
    ) -> None:
        """Prepare; `lead` begins.

        Args:
            act: Takes one action. Called after the commit, in order of decision.
            on_stopped: Told once when the partition stopped by itself.
            changes: Hears of invocations that have changed.
        """
        self.index = index
        self.epoch = 0
        self.recall = Recall()
        """What need not be read from the store."""
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._act = act
        self._on_stopped = on_stopped
        self._changes = changes
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Proposal] = deque()
        self._under_way: list[_Proposal] = []
        """Taken from the queue, and neither committed nor answered yet."""
        self._waiter: asyncio.Future[None] | None = None
        """What the loop waits on while it has nothing to do. A future costs less than an Event."""
        self._facts: dict[Key, Fact] = {}
        self._stamped_at_ms = 0
        self._task: asyncio.Task[None] | None = None
        self._stopped: BaseException | None = None

    # -- for others ------------------------------------------------------------------------------

    async def lead(self, owner: str) -> None:
        """Take the lease: from now on no older leader can commit."""
        self.epoch = await self._store.acquire(self.index, owner, self._clock.now_ms())

    def start(self) -> None:
        """Begin to apply records."""
        self._task = self._loop.create_task(self._run(), name=f"partition {self.index}")

    async def stop(self) -> None:
        """Apply and commit what was proposed, then stop."""
        if self._stopped is None:
            self._stopped = StorageUnavailable("The server is stopping.", code="HF4011")
        self._wake()
        if self._task is not None:
            await self._task

    def submit(self, record: Record, then: Callable[[], None] | None = None) -> None:
        """Propose a record whose answer nobody waits for.

        Args:
            then: Called when its commit is durable; not when it never becomes so.
        """
        if self._stopped is None:
            answer: asyncio.Future[Answer] | None = None
            if then is not None:
                answer = self._loop.create_future()
                answer.add_done_callback(partial(_call_if_durable, then))
            self._queue.append(_Proposal(record, answer))
            self._wake()

    def propose(self, record: Record) -> asyncio.Future[Answer]:
        """Propose a record; the future is done when its commit is durable.

        Raises:
            StorageUnavailable: The partition has stopped; nothing was stored.
        """
        if self._stopped is not None:
            raise self._unavailable()
        if len(self._queue) >= QUEUE_RECORDS_MAX:
            raise StorageUnavailable(
                f"Partition {self.index} has {len(self._queue)} records waiting.",
                code="HF4012",
                hint="The server is overloaded; try again later.",
            )
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._queue.append(_Proposal(record, answer))
        self._wake()
        return answer

    def expect_new(self, invocation_id: str) -> None:
        """Say that an id was just made up, so that its absence need not be looked up."""
        self._facts[Table.INVOCATION, invocation_id] = None

    def cached_invocation(self, invocation_id: str) -> InvocationRow | None:
        """Return the committed row of an active invocation, if it is in memory."""
        return cast("InvocationRow | None", self._facts.get((Table.INVOCATION, invocation_id)))

    def _unavailable(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"Partition {self.index} is not led here: {self._stopped}",
            code="HF4010",
            hint="Try again; with an idempotency key nothing happens twice.",
        )

    @property
    def is_idle(self) -> bool:
        """Whether everything proposed is committed and acted on."""
        return not self._queue and not self._under_way

    # -- the loop --------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                if not self._queue:
                    if self._stopped is not None:
                        return
                    await self._woken()
                    continue
                await self._run_batch()
        except Exception as error:
            # A failed commit, or a bug in dispatch: both leave memory and store apart.
            self._fail(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _woken(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter
        self._waiter = None

    def _fail(self, error: BaseException) -> None:
        """Stop for good: a commit has failed, so what is stored is unknown."""
        self._stopped = error
        waiting, self._queue = self._queue, deque()
        for proposal in (*self._under_way, *waiting):
            if proposal.answer is not None and not proposal.answer.done():
                proposal.answer.set_exception(self._unavailable())
        self._on_stopped(self, error)

    async def _run_batch(self) -> None:
        view = View(self.index, self._store.partition_count, self.epoch, self._facts)
        drafts: list[tuple[_Proposal, Draft]] = []
        transient: list[Key] = []
        await self._decide_waiting(view, drafts, transient)
        is_urgent = any(not _is_early(a) for _, draft in drafts for a in draft.actions)
        if not is_urgent and await self._linger():
            await self._decide_waiting(view, drafts, transient)
        try:
            await self._finish(view, drafts)
        except Unstorable:
            # Nothing was written. One of them is at fault; the others must not suffer for it.
            for proposal, draft in drafts:
                await self._run_alone(proposal, draft, transient)
        self._under_way.clear()
        for key in transient:
            self._facts.pop(key, None)

    async def _run_alone(self, proposal: _Proposal, first: Draft, transient: list[Key]) -> None:
        """Apply one record once more, in a commit of its own, or refuse it.

        The same stamp leads to the same decision, so the attempts that it has begun are the right
        ones; the others are ended.
        """
        view = View(self.index, self._store.partition_count, self.epoch, self._facts)
        begun = [action for action in first.actions if _is_early(action)]
        stamp = Stamp(first.at_ms, first.entropy)
        draft = await self._decide(view, proposal, stamp, transient)
        wanted = [] if draft is None else [a for a in draft.actions if _is_early(a)]
        self._end(action for action in begun if action not in wanted)
        if draft is None:
            return
        view.merge(draft)
        for action in wanted:
            if action not in begun:
                self._act(self, action)
        try:
            await self._finish(view, [(proposal, draft)])
        except Unstorable as error:
            self._end(wanted)
            self._refuse(proposal, error)

    def _end(self, begun: Iterable[Action]) -> None:
        """End attempts of invocations that do not come to be."""
        for action in begun:
            assert isinstance(action, StartAttempt)
            self._act(self, EndAttempt(action.row.id, action.row.attempt, is_abort=True))

    async def _finish(self, view: View, drafts: list[tuple[_Proposal, Draft]]) -> None:
        """Commit a batch; then, and only then, act and answer."""
        if view.is_changed():
            await self._store.commit(view.batch())
            self.recall.note(view.rows, view.ranges, view.journal)
        self._remember(view)
        if self._changes.is_watched:
            self._changes.note(
                (cast(str, key[1]), cast("InvocationRow | None", row))
                for key, row in view.rows.items()
                if key[0] is Table.INVOCATION
            )
        for proposal, draft in drafts:
            for action in draft.actions:
                if not _is_early(action):
                    self._act(self, action)
            if proposal.answer is not None and not proposal.answer.done():
                proposal.answer.set_result(draft.answer)

    async def _decide_waiting(
        self, view: View, drafts: list[tuple[_Proposal, Draft]], transient: list[Key]
    ) -> None:
        """Apply the records that wait, up to a batch, and take the actions that may be early."""
        queue = self._queue
        room = BATCH_RECORDS_MAX - len(drafts)
        proposals = [queue.popleft() for _ in range(min(len(queue), room))]
        self._under_way += proposals
        await self._prefetch(proposals, transient)
        # Stamps never go back, whatever the clock does; it may have done so since a timer rang.
        rung = [p.record.timer_at_ms for p in proposals if type(p.record) is TimerFired]
        self._stamped_at_ms = max(self._stamped_at_ms, self._clock.now_ms(), *rung)
        entropy = self._clock.entropy(16)
        for number, proposal in enumerate(proposals):
            stamp = Stamp(self._stamped_at_ms, entropy + number.to_bytes(4, "big"))
            draft = await self._decide(view, proposal, stamp, transient)
            if draft is None:
                continue
            view.merge(draft)
            drafts.append((proposal, draft))
            for action in draft.actions:
                if _is_early(action):
                    self._act(self, action)

    async def _linger(self) -> bool:
        """Wait a moment for more records: no handler waits for this batch.

        New invocations, those that queue behind a busy key, and steps that have begun are recorded
        together with what comes next, instead of making it wait for a commit of their own.
        """
        if self._stopped is not None:
            return False
        if not self._queue:
            alarm = self._loop.call_later(_LINGER_S, self._wake)
            await self._woken()
            alarm.cancel()
        return bool(self._queue)

    async def _prefetch(self, proposals: list[_Proposal], transient: list[Key]) -> None:
        """Load what the records will probably need; note the keys to forget after the batch."""
        facts = self._facts
        wanted = [
            key for proposal in proposals for key in footprint(proposal.record) if key not in facts
        ]
        if wanted:
            await self._load(wanted)
            transient.extend(key for key in wanted if key[0] not in _KEPT)

    async def _load(self, keys: Sequence[Key]) -> None:
        stored: list[Key] = []
        for key in keys:
            if key[0] is Lookup.HANDLER:
                self._facts[key] = self._catalog.find(cast(str, key[1]), cast(str, key[2]))
            else:
                stored.append(key)
        if stored:
            self._facts.update(await self._store.load(self.index, stored))

    async def _decide(
        self, view: View, proposal: _Proposal, stamp: Stamp, transient: list[Key]
    ) -> Draft | None:
        """Apply one record, loading what it asks for. None: it was refused."""
        while True:
            try:
                return apply(view, proposal.record, stamp)
            except Missing as missing:
                await self._load(missing.keys)
                transient.extend(key for key in missing.keys if key[0] not in _KEPT)
            except StorageError:
                raise
            except Exception as error:
                _log.exception(
                    "a record could not be applied; it was refused",
                    extra={
                        "partition_id": self.index,
                        "record": type(proposal.record).__name__,
                    },
                )
                unavailable = StorageUnavailable(
                    f"Partition {self.index} could not apply a request; nothing was stored.",
                    code="HF4013",
                    hint="Try again; with an idempotency key nothing happens twice.",
                )
                unavailable.__cause__ = error
                self._refuse(proposal, unavailable)
                return None

    def _refuse(self, proposal: _Proposal, error: Exception) -> None:
        """Answer that a record was not applied. What it would have changed stays as it was."""
        if proposal.answer is not None and not proposal.answer.done():
            proposal.answer.set_exception(error)
        record = proposal.record
        if isinstance(record, HandlerSent):
            # What the handler says next would build on messages that are not there.
            reason = f"what the handler sent could not be recorded: {error}"
            lost = AttemptLost(record.invocation_id, record.epoch, record.attempt, reason)
            self.submit(replace(lost, created_at_ms=record.created_at_ms))

    def _remember(self, view: View) -> None:
        """Keep committed rows of what is active; forget the rest."""
        facts = self._facts
        for key, row in view.rows.items():
            if key[0] not in _KEPT:
                facts.pop(key, None)
                continue
            # Taken out first, so that the order of the dict is that of last use.
            facts.pop(key, None)
            if not _is_forgettable(key, row):
                facts[key] = row
        while len(facts) > CACHE_ROWS_MAX:
            del facts[next(iter(facts))]


def _is_early(action: Action) -> bool:
    return type(action) is StartAttempt and action.entries is not None


def _is_forgettable(key: Key, row: Row | None) -> bool:
    if row is None:
        # Nobody asks for a place in an inbox again; a key that is free now may be taken soon.
        return key[0] is Table.INBOX
    return type(row) is InvocationRow and row.status in _AT_REST


def _call_if_durable(then: Callable[[], None], answer: asyncio.Future[Answer]) -> None:
    if not answer.cancelled() and answer.exception() is None:
        then()
