"""Known bugs, planted into production code: proof that the simulation sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from holdfast.domain.errors import StorageUnavailable
from holdfast.domain.message import KIND_RUN, Completion, Run, SetState, Value, Void
from holdfast.domain.target import HandlerKind
from holdfast.engine import apply as apply_module
from holdfast.engine import (
    command,
    lifecycle,
    on_handler_sent,
    on_invoke,
    on_operation,
    on_record,
    promise,
    timeout,
)
from holdfast.engine.decision import Batch, DeleteJournal
from holdfast.engine.on_state import apply_edit
from holdfast.engine.record import (
    KILLED,
    CompletionSent,
    Inbound,
    PurgeRequested,
    StateEdited,
    TimerFired,
)
from holdfast.engine.row import (
    SLOT_ABORT,
    SLOT_RETRY,
    SLOT_START,
    SLOT_TIMEOUT,
    InvocationRow,
    LockRow,
    PromiseRow,
    Status,
    Table,
)
from holdfast.engine.view import Draft
from holdfast.sdk.local_state import LocalState
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
KIND_PROMISE = 0x8009
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
    def is_current(draft: Draft, row: InvocationRow | None, record: Any) -> bool:
        return row is not None and row.status is Status.RUNNING and rule(row, record.attempt)

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

        def call_at(self, at_ms: int, callback: Callable[[], None]) -> Any:
            return self._clock.call_at(at_ms - 20, callback)

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

    async def once(self: Outbox, to_partition: int, messages: Any) -> tuple[int, None]:
        await send(self, to_partition, messages)
        return len(messages), None

    return [(Outbox, "_send", once)]


@mutant
def outbox_deletes_early() -> list[Patch]:
    """An outbox row is deleted when the message is sent, not when it is durable at the receiver."""

    async def hasty(self: Outbox, to_partition: int, messages: Any) -> tuple[int, None]:
        receiver = self._route(to_partition)
        for sequence, message in messages:
            receiver.propose(Inbound(self._partition.index, sequence, message)).add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )
        await asyncio.sleep(0)
        return len(messages), None

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


# -- time limits -----------------------------------------------------------------------------------


@mutant
def limit_from_creation() -> list[Patch]:
    """The time of a delayed invocation runs before it may start."""

    def limit_time(draft: Draft, row: InvocationRow) -> None:
        if row.timeout_ms:
            lifecycle.put_timer(draft, row, row.created_at_ms + row.timeout_ms, SLOT_TIMEOUT)

    return [(on_invoke, "limit_time", limit_time)]


@mutant
def no_kill_after_the_limit() -> list[Patch]:
    """One that was cancelled for its limit is left alone."""

    def put_timer(draft: Draft, row: InvocationRow, at_ms: int, slot: str) -> None:
        if slot != SLOT_ABORT:
            lifecycle.put_timer(draft, row, at_ms, slot)

    return [(timeout, "put_timer", put_timer)]


# -- people ----------------------------------------------------------------------------------------


@mutant
def paused_wakes_up() -> list[Patch]:
    """What arrives for a paused invocation resumes it."""
    original = lifecycle.deliver

    def deliver(draft: Draft, row: InvocationRow, notification: Any) -> None:
        original(draft, row, notification)
        if row.status is Status.PAUSED:
            lifecycle.start(draft, row)

    return [(on_record, "deliver", deliver)]


@mutant
def restart_forgets_results() -> list[Patch]:
    """A restart keeps the journal up to its entry, and no later results of its commands."""
    original = on_operation.completion_ids_of

    def none_of(entry: Any) -> tuple[int, ...]:
        return () if isinstance(entry, Run) else original(entry)

    return [(on_operation, "completion_ids_of", none_of)]


@mutant
def purge_of_the_living() -> list[Patch]:
    """A purge takes what it finds, complete or not."""

    def on_purge(draft: Draft, record: PurgeRequested) -> None:
        row = draft.invocation(record.invocation_id)
        if row is not None:
            draft.rows[Table.INVOCATION, row.id] = None
            draft.delete_range(DeleteJournal(row.id))

    return [(apply_module._HANDLERS, PurgeRequested, on_purge)]


# -- signals ---------------------------------------------------------------------------------------


@mutant
def signal_between_attempts_overlooked() -> list[Patch]:
    """A named signal that comes while an attempt suspends wakes nobody."""
    original = on_handler_sent.on_suspension

    def deaf(draft: Draft, row: InvocationRow, message: Any) -> None:
        row.named_signal_index = -1
        original(draft, row, message)

    return [(on_handler_sent, "on_suspension", deaf)]


@mutant
def newest_signal_first() -> list[Patch]:
    """Of the signals that were kept, the last one is taken first."""
    original = Machine.expect_named

    def hasty(self: Machine, name: str, waiter: Any) -> None:
        self._named_held.get(name, []).reverse()  # type: ignore[attr-defined]
        original(self, name, waiter)

    return [(Machine, "expect_named", hasty)]


# -- clients ---------------------------------------------------------------------------------------


@mutant
def idempotency_key_ignored() -> list[Patch]:
    """A repeated request makes another invocation."""
    original = host_module.derived_id
    count = iter(range(1_000_000))

    def another(target: Any, kind: Any, idempotency_key: str | None) -> str | None:
        is_given = idempotency_key is not None
        return original(target, kind, f"{idempotency_key}{next(count)}" if is_given else None)

    return [(host_module, "derived_id", another)]


# -- workflows -------------------------------------------------------------------------------------


@mutant
def workflow_runs_again() -> list[Patch]:
    """Each request for the main handler of a workflow key makes an invocation of its own."""
    original = host_module.derived_id

    def own(target: Any, kind: Any, idempotency_key: str | None) -> str | None:
        return original(target, HandlerKind.SHARED, idempotency_key)

    return [(host_module, "derived_id", own)]


@mutant
def promise_completed_twice() -> list[Patch]:
    """A second completion of a promise counts, too."""

    def complete_promise(draft: Draft, row: InvocationRow, name: str, outcome: Any) -> Any:
        place = promise._place(row, name)
        known = promise._promise(draft, place)
        draft.rows[place] = PromiseRow(outcome)
        for sink in known.sinks:
            draft.send(CompletionSent(sink, outcome), sink.invocation_id)
        return Void()

    return [(command, "complete_promise", complete_promise)]


@mutant
def promise_keeps_who_has_left() -> list[Patch]:
    """An invocation that has ended still waits for its promises."""
    return [(lifecycle, "leave_promises", lambda draft, row: None)]


@mutant
def promise_wakes_one() -> list[Patch]:
    """A completed promise is told to the first who waits only."""
    original = command.complete_promise

    def complete_promise(draft: Draft, row: InvocationRow, name: str, outcome: Any) -> Any:
        result = original(draft, row, name, outcome)
        sent = [m for m in draft.follow_ups if isinstance(m, CompletionSent)]
        for message in sent[1:]:
            if message.sink.kind == KIND_PROMISE:
                draft.follow_ups.remove(message)
        return result

    return [(command, "complete_promise", complete_promise)]


@mutant
def promises_outlive_their_workflow() -> list[Patch]:
    """When a workflow is removed, its promises stay."""
    return [(lifecycle, "forget_promises", lambda draft, row: None)]


@mutant
def promise_that_nobody_owns() -> list[Patch]:
    """A promise that is completed without a main invocation has no retention."""
    return [(promise, "_keep", lambda draft, row: 0)]


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
def patch_not_recorded() -> list[Patch]:
    """The new way is taken, and the journal does not say so."""

    def sys_patched(self: Machine, patch_id: str, site: str) -> bool:
        return self._patches.setdefault(patch_id, not self._recorded)

    return [(Machine, "sys_patched", sys_patched)]


@mutant
def state_written_again() -> list[Patch]:
    """Replay sends recorded state writes once more."""

    def sys_set(
        self: Machine, path: str, key: str, name: str, content: bytes, site: str, expiry: int = 0
    ) -> None:
        self._claim(path, key, "set", name, site, SetState)
        self._emit(SetState(name, Value(content), "", key, site, expiry))
        self.state.put(name, content, expiry)

    return [(Machine, "sys_set", sys_set)]


@mutant
def completed_again() -> list[Patch]:
    """Every completion of an awakeable is recorded, not only the first."""
    return [(on_record, "_is_told", lambda *_: False)]


# -- state -----------------------------------------------------------------------------------------


@mutant
def edit_under_a_handler() -> list[Patch]:
    """An edit of state does not wait for the invocation that has the key."""

    def on_state_edited(draft: Draft, record: StateEdited) -> None:
        apply_edit(draft, record.service, record.key, record.edit)

    return [(apply_module._HANDLERS, StateEdited, on_state_edited)]


@mutant
def state_outlives_its_time() -> list[Patch]:
    """Handlers see entries that have expired."""

    def get(self: LocalState, name: str, at_ms: int) -> bytes | None:
        known = self._known.get(name)
        return None if known is None else known.content

    return [(LocalState, "get", get)]
