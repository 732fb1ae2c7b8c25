"""Known bugs, planted into production code: proof that the simulation sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from holdfast.domain.errors import StorageError, StorageUnavailable
from holdfast.domain.message import KIND_RUN, Completion, SetState, Value, Void
from holdfast.engine import apply as apply_module
from holdfast.engine import lifecycle, on_handler_sent, on_invoke, on_record
from holdfast.engine.decision import Batch
from holdfast.engine.record import KILLED, Inbound, TimerFired
from holdfast.engine.row import SLOT_RETRY, SLOT_START, InvocationRow, LockRow, Status, Table
from holdfast.engine.view import Draft
from holdfast.sdk.machine import Machine
from holdfast.server import host as host_module
from holdfast.server import partition as partition_module
from holdfast.server.host import Host
from holdfast.server.invoker import Attempt
from holdfast.server.outbox import Outbox
from holdfast.server.partition import Partition
from holdfast.server.timer import Timers
from holdfast.storage.memory import MemoryStore, _Partition

Patch = tuple[Any, Any, Any]
MUTANTS: dict[str, Callable[[], list[Patch]]] = {}


def mutant(make: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    """Add a bug to the list; its docstring says what it is."""
    MUTANTS[make.__name__] = make
    return make


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run with the bug."""
    with ExitStack() as stack:
        for target, attribute, replacement in MUTANTS[name]():
            if isinstance(target, dict):
                stack.enter_context(patch.dict(target, {attribute: replacement}))
            else:
                stack.enter_context(patch.object(target, attribute, replacement))
        yield


# -- commit ----------------------------------------------------------------------------------------


@mutant
def act_before_commit() -> list[Patch]:
    """All actions are taken before their commit is durable."""
    return [(partition_module, "_is_early", lambda action: True)]


@mutant
def answer_before_commit() -> list[Patch]:
    """A client is told that its request is durable while the commit is under way."""
    finish = Partition._finish

    async def early(self: Partition, view: Any, drafts: Any) -> None:
        for proposal, draft in drafts:
            if proposal.answer is not None and not proposal.answer.done():
                proposal.answer.set_result(draft.answer)
        await finish(self, view, drafts)

    return [(Partition, "_finish", early)]


@mutant
def failed_commit_ignored() -> list[Patch]:
    """After a failed commit the partition goes on with the rows that it has in memory."""
    finish = Partition._finish

    async def careless(self: Partition, view: Any, drafts: Any) -> None:
        try:
            await finish(self, view, drafts)
        except StorageUnavailable:
            view.is_changed = lambda: False
            await finish(self, view, drafts)

    return [(Partition, "_finish", careless)]


@mutant
def rows_without_journal() -> list[Patch]:
    """A write is not atomic: rows are stored, journal entries not."""
    write = _Partition.write

    def partial(self: _Partition, batch: Batch) -> None:
        write(self, Batch(batch.partition, batch.epoch, batch.ranges, batch.rows, []))

    return [(_Partition, "write", partial)]


@mutant
def no_fence() -> list[Patch]:
    """Neither the store nor the engine looks at epochs."""

    def apply(self: MemoryStore, batch: Batch) -> None:
        self._partitions[batch.partition].check(batch)
        self._partitions[batch.partition].write(batch)

    return [(MemoryStore, "apply", apply), *_current(lambda row, attempt: row.attempt == attempt)]


# -- attempts --------------------------------------------------------------------------------------


def _current(rule: Callable[[InvocationRow, int], bool]) -> list[Patch]:
    def is_current(draft: Draft, row: InvocationRow | None, epoch: int, attempt: int) -> bool:
        return row is not None and row.status is Status.RUNNING and rule(row, attempt)

    return [(on_handler_sent, "is_current", is_current), (on_record, "is_current", is_current)]


@mutant
def stale_attempt_accepted() -> list[Patch]:
    """Messages of an older attempt enter the journal."""
    return _current(lambda row, attempt: True)


@mutant
def not_resumed() -> list[Patch]:
    """A new leader does not start what was running."""

    async def nothing(self: Host, partition: Partition) -> None: ...

    return [(Host, "_resume", nothing)]


@mutant
def suspension_race() -> list[Patch]:
    """A suspension is not checked against what has arrived meanwhile."""
    return [(Draft, "has_notification", lambda self, invocation_id, note: False)]


@mutant
def early_notification_lost() -> list[Patch]:
    """What is recorded while an attempt is being opened does not reach it."""
    forward = Attempt.forward

    def deaf(self: Attempt, notification: Any) -> None:
        if self._stream is not None:
            forward(self, notification)

    return [(Attempt, "forward", deaf)]


@mutant
def lost_attempt_not_reported() -> list[Patch]:
    """When a stream is cut nobody hears of it."""

    def silent(self: Attempt, reason: str | None) -> None:
        self._is_closed = self._is_over = True
        self._invoker.on_attempt_closed(self)

    return [(Attempt, "on_closed", silent)]


# -- timers ----------------------------------------------------------------------------------------


@mutant
def timer_fires_twice() -> list[Patch]:
    """A firing is applied although the timer's row is gone."""

    def on_timer_fired(draft: Draft, record: TimerFired) -> None:
        draft.rows[Table.TIMER, record.timer_at_ms, record.invocation_id, record.slot] = None
        row = draft.edit(record.invocation_id)
        if row is None or row.status is Status.COMPLETED:
            return
        if record.slot == SLOT_START:
            if row.status is Status.SCHEDULED:
                lifecycle.admit(draft, row)
        elif record.slot == SLOT_RETRY:
            if row.status is Status.BACKING_OFF:
                lifecycle.start(draft, row)
        else:
            number = int(record.slot[1:])
            lifecycle.deliver(draft, row, Completion(0x800C, number, Void(), draft.at_ms))

    return [(apply_module._HANDLERS, TimerFired, on_timer_fired)]


@mutant
def timer_fires_early() -> list[Patch]:
    """A timer rings 20 ms before its time."""
    ring = Timers._ring

    class Fast:
        def __init__(self, clock: Any) -> None:
            self._clock = clock

        def now_ms(self) -> int:
            return int(self._clock.now_ms()) + 20

    def early(self: Timers) -> None:
        clock = self._clock
        self._clock = Fast(clock)  # type: ignore[assignment]
        try:
            ring(self)
        finally:
            self._clock = clock

    return [(Timers, "_ring", early)]


@mutant
def timers_not_loaded() -> list[Patch]:
    """A new leader forgets the timers of the one before."""

    async def nothing(self: Timers) -> None: ...

    return [(Timers, "load", nothing)]


# -- between partitions ----------------------------------------------------------------------------


@mutant
def no_dedup() -> list[Patch]:
    """A message of another partition is taken in as often as it comes."""

    def on_inbound(draft: Draft, record: Inbound) -> None:
        apply_module._dispatch(draft, record.message)

    return [(apply_module._HANDLERS, Inbound, on_inbound)]


@mutant
def outbox_skips() -> list[Patch]:
    """A message between partitions that fails to arrive is not sent again."""
    send = Outbox._send

    async def once(self: Outbox, to_partition: int, messages: Any) -> None:
        try:
            await send(self, to_partition, messages)
        except StorageError:
            pass

    return [(Outbox, "_send", once)]


@mutant
def outbox_deletes_early() -> list[Patch]:
    """An outbox row is deleted when the message is sent, not when it is durable at the receiver."""

    async def hasty(self: Outbox, to_partition: int, messages: Any) -> None:
        receiver = self._route(to_partition)
        for sequence, message in messages:
            receiver.propose(Inbound(self._partition.index, sequence, message)).add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )
        await asyncio.sleep(0)

    return [(Outbox, "_send", hasty)]


# -- object keys -----------------------------------------------------------------------------------


@mutant
def kill_keeps_key() -> list[Patch]:
    """A killed invocation keeps its object key."""
    release = lifecycle._release

    def forgetful(draft: Draft, row: InvocationRow) -> None:
        if lifecycle.outcome_of(draft, row) != KILLED:
            release(draft, row)

    return [(lifecycle, "_release", forgetful)]


@mutant
def last_in_first_out() -> list[Patch]:
    """The key goes to the one that came last."""

    def release(draft: Draft, row: InvocationRow) -> None:
        service, key = row.target.service, row.target.key
        assert key is not None
        lock = draft.lock(service, key)
        assert lock is not None
        for sequence in reversed(range(lock.head, lock.tail)):
            waiting = draft.inbox(service, key, sequence)
            if waiting is None:
                continue
            draft.rows[Table.INBOX, service, key, sequence] = None
            draft.rows[Table.LOCK, service, key] = LockRow(
                waiting.invocation_id, lock.head, lock.tail
            )
            following = draft.edit(waiting.invocation_id)
            assert following is not None
            lifecycle.start(draft, following)
            return
        draft.rows[Table.LOCK, service, key] = None

    return [(lifecycle, "_release", release)]


@mutant
def no_key_lock() -> list[Patch]:
    """Invocations of one key run side by side."""

    def admit(draft: Draft, row: InvocationRow, entries: Any = None) -> None:
        key = row.target.key
        if key is not None and row.handler_kind == 1:
            draft.rows[Table.LOCK, row.target.service, key] = LockRow(row.id)
        lifecycle.start(draft, row, None if key else entries)

    return [(on_invoke, "admit", admit)]


# -- clients ---------------------------------------------------------------------------------------


@mutant
def idempotency_key_ignored() -> list[Patch]:
    """A repeated request makes another invocation."""
    original = host_module.idempotent_id
    count = iter(range(1_000_000))

    def another(target: Any, idempotency_key: str) -> str:
        return original(target, f"{idempotency_key}{next(count)}")

    return [(host_module, "idempotent_id", another)]


# -- the SDK ---------------------------------------------------------------------------------------


@mutant
def recorded_step_runs_again() -> list[Patch]:
    """Replay forgets the results of steps."""
    make = Machine.__init__

    def forgetful(self: Machine, start: Any, entries: Any) -> None:
        kept = [e for e in entries if not (isinstance(e, Completion) and e.kind == KIND_RUN)]
        make(self, start, kept)

    return [(Machine, "__init__", forgetful)]


@mutant
def replay_skips_an_entry() -> list[Patch]:
    """Replay does not see the last entry of the journal."""
    make = Machine.__init__

    def short(self: Machine, start: Any, entries: Any) -> None:
        make(self, start, entries[: max(1, len(entries) - 1)])

    return [(Machine, "__init__", short)]


@mutant
def state_written_again() -> list[Patch]:
    """Replay sends recorded state writes once more."""

    def sys_set(self: Machine, path: str, key: str, name: str, content: bytes, site: str) -> None:
        self._claim(path, key, "set", name, site, SetState)
        self._emit(SetState(name, Value(content), "", key, site))
        self.state[name] = content

    return [(Machine, "sys_set", sys_set)]
