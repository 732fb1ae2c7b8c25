"""The oracle: its own record of what is durable, and rules that the system must keep.

It is written from what was promised, not from the engine. It sees every batch at the moment when
it becomes durable, every action when it is dispatched, every message that reaches a handler, every
body of a step that runs, and every answer that reaches a client.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import NoReturn, Protocol, cast

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompletePromise,
    Completion,
    Emitted,
    Entry,
    FromHandler,
    GetInvocationOutput,
    GetPromise,
    Input,
    Notification,
    OneWayCall,
    Outcome,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SetState,
    Signal,
    Sleep,
)
from holdfast.domain.target import HandlerKind
from holdfast.engine.decision import (
    Action,
    Batch,
    DeleteJournal,
    EndAttempt,
    Forward,
    Publish,
    RegisterTimer,
    Respond,
    SendOutbox,
    StartAttempt,
)
from holdfast.engine.record import HandlerSent, OutboxRow
from holdfast.engine.row import (
    SLOT_RETRY,
    InvocationRow,
    JournalRow,
    LockRow,
    OriginKind,
    Status,
    Table,
)
from holdfast.storage.memory import MemoryStore

from .brief import LimitRules
from .desk import is_of_closed_approval
from .flow import FlowRules, is_of_main
from .life import Delivery, Life
from .prompt import PromptRules
from .shelf import SERVICE, ShelfRules
from .teller import TellerRules
from .wait import WaitRules

KeyName = tuple[str, str]
_ACTIVE = (Status.RUNNING, Status.SUSPENDED, Status.BACKING_OFF, Status.PAUSED)
_AT_REST = (Status.PAUSED, Status.COMPLETED)
_LEAVING = "left before it was durable"


class Violation(AssertionError):
    """An invariant does not hold."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
        self.what = what


class Time(Protocol):
    """What the oracle knows of time."""

    def server_ms(self) -> int:
        """The latest time that the server whose doing is checked has seen."""
        ...


class Oracle:
    """All rules."""

    def __init__(self, store: MemoryStore, time: Time) -> None:
        self._store = store
        self._time = time
        self.epochs = [0] * store.partition_count
        self.lives: dict[str, Life] = {}
        self.past_lives: list[Life] = []
        self.promised: dict[str, str] = {}
        """Child invocation → the one whose journal says that it was made."""
        self.timers: set[tuple[int, str, str]] = set()
        self.outbox: set[tuple[int, int]] = set()
        self.holders: dict[KeyName, set[str]] = {}
        self.waiting: dict[KeyName, dict[str, tuple[int, int]]] = {}
        self.state: dict[KeyName, dict[str, bytes]] = {}
        self.increments: dict[KeyName, int] = {}
        self.commit_count = 0
        self.seen: dict[tuple[str, int, str], str] = {}
        self.step_runs = 0
        self.may_resume: set[str] = set()
        """Invocations that a person has asked to resume."""
        self.may_purge: set[str] = set()
        self.may_purge_journal: set[str] = set()
        self.flow = FlowRules(self)
        self.limits, self.shelf = LimitRules(self.fail), ShelfRules(self)
        self.waits = WaitRules(self)
        self.prompts = PromptRules(self.fail, store.partition_count)
        self.teller = TellerRules(self, store)
        self._sent: dict[int, tuple[object, HandlerSent]] = {}
        self._begun: list[tuple[KeyName, Life]] = []
        """Whose first attempt began in the batch that is being checked."""
        self.first: Violation | None = None

    def fail(self, invariant: str, what: str) -> NoReturn:
        """Report a violation. The first one counts, whoever swallows the exception."""
        violation = Violation(invariant, what)
        if self.first is None:
            self.first = violation
        raise violation

    # -- what becomes durable ----------------------------------------------------------------------

    def on_acquired(self, partition: int, epoch: int) -> None:
        """A server leads a partition."""
        if epoch <= self.epochs[partition]:
            self.fail("S20", f"partition {partition}: epoch {epoch} after {self.epochs[partition]}")
        self.epochs[partition] = epoch

    def on_sent(self, record: HandlerSent) -> None:
        """A handler's messages were proposed: remember who said what."""
        self.teller.on_sent(record)
        for message in record.messages:
            said: FromHandler | Outcome = message
            if isinstance(message, ProposeRunCompletion):
                said = message.result
            self._sent[id(said)] = (said, record)
        self.waits.on_sent(record)

    def on_commit(self, batch: Batch) -> None:
        """A batch is about to be written."""
        self.commit_count += 1
        current = self.epochs[batch.partition]
        if batch.epoch != current:
            self.fail("S20", f"a commit of epoch {batch.epoch} was accepted in {current}")
        for range_ in batch.ranges:
            if isinstance(range_, DeleteJournal):
                row = batch.rows.get((Table.INVOCATION, range_.invocation_id))
                life = self.lives.get(range_.invocation_id)
                if (
                    isinstance(row, InvocationRow)
                    and life is not None
                    and life.row is not None
                    and life.row.created_at_ms == row.created_at_ms
                ):
                    self._on_journal_purged(life)
                else:
                    self._on_removed(range_.invocation_id)
        before = {
            inv: (copy(life.row), len(life.entries))
            for inv in {
                *(j.invocation_id for j in batch.journal),
                *(str(key[1]) for key in batch.rows if key[0] is Table.INVOCATION),
            }
            if (life := self.lives.get(inv)) is not None
        }
        self.flow.on_commit(batch, self._time.server_ms())
        self.limits.on_commit(batch)
        self.shelf.on_commit(batch, self._time.server_ms())
        self.prompts.on_commit(batch)
        for place, journal_row in enumerate(batch.journal):
            self._on_entry(batch, journal_row, place, before.get(journal_row.invocation_id))
        self._begun.clear()
        for key, row in batch.rows.items():
            if key[0] is Table.INVOCATION:
                if isinstance(row, InvocationRow):
                    self._on_row(row, before.get(row.id))
                elif str(key[1]) in self.lives:
                    self.fail("S28", f"the row of {key[1]} was removed, its journal not")
            elif key[0] is Table.TIMER and row is not None:
                self.timers.add(cast("tuple[int, str, str]", key[1:]))
            elif key[0] is Table.OUTBOX and isinstance(row, OutboxRow):
                self.outbox.add((batch.partition, cast("int", key[1])))
        self._check_keys()
        self.waits.on_commit(batch)

    def _on_removed(self, invocation_id: str) -> None:
        life = self.lives.pop(invocation_id, None)
        if life is None or life.row is None or life.row.status is not Status.COMPLETED:
            self.fail("S28", f"{invocation_id} was removed, but it is not complete")
        is_purged = invocation_id in self.may_purge
        if life.row.expires_at_ms > self._time.server_ms() and not is_purged:
            self.fail("S28", f"{invocation_id} was removed before its retention had passed")
        life.is_removed = True
        self.past_lives.append(life)
        if life.row.handler_kind is HandlerKind.WORKFLOW:
            key = (life.row.target.service, life.row.target.key or "")
            self.state.pop(key, None)
            self.flow.on_removed(*key)

    def _on_journal_purged(self, life: Life) -> None:
        if life.id not in self.may_purge_journal or life.outcome is None:
            self.fail("S28", f"the journal of {life.id} was removed")
        life.entries = []
        life.is_journal_purged = True

    def _on_entry(
        self,
        batch: Batch,
        stored: JournalRow,
        place: int,
        before: tuple[InvocationRow | None, int] | None,
    ) -> None:
        inv, entry = stored.invocation_id, stored.entry
        life = self.lives.get(inv)
        if life is None:
            life = self.lives[inv] = Life(inv)
            life.arrival = (self.commit_count, place)
        if stored.index != len(life.entries):
            self.fail("S02/S03", f"{inv}: entry {stored.index} after {len(life.entries)} entries")
        row = before[0] if before is not None else None
        if life.is_journal_purged:
            if not isinstance(entry, Output) or entry.result != life.outcome:
                self.fail("S28", f"{inv}: a purge has left {entry}")
            life.entries.append(entry)
            return
        if row is not None and row.status is Status.COMPLETED:
            self.fail("S12", f"{inv}: entry {stored.index} after its end: {entry}")
        is_copied = _is_copied(batch, stored)
        if not is_copied:
            self._check_sender(batch, stored, row)
        life.entries.append(entry)
        if not isinstance(entry, Completion | Signal) and entry.key:
            if entry.key in life.keys:
                self.fail("S04", f"{inv}: {entry.key} is recorded twice")
            life.keys.add(entry.key)
        match entry:
            case Completion():
                self._on_completion(life, stored, entry, is_copied=is_copied)
                if isinstance(invocation := batch.rows.get((Table.INVOCATION, inv)), InvocationRow):
                    self.flow.on_completion(invocation, life.commands[entry.completion_id], entry)
            case Signal(index=int() as index):
                life.is_cancelled |= index == SIGNAL_CANCEL
                if index != SIGNAL_CANCEL and index in life.signals:
                    self.fail("S16", f"{inv}: awakeable {index} is completed twice")
                if index != SIGNAL_CANCEL:
                    life.signals[index] = entry.result
            case Run(completion_id=number, name=name):
                life.commands[number] = entry
                life.steps[name] = number
            case Sleep() | AttachInvocation() | GetInvocationOutput():
                life.commands[entry.completion_id] = entry
            case GetPromise() | PeekPromise() | CompletePromise():
                life.commands[entry.completion_id] = entry
            case Call():
                life.commands[entry.completion_id] = entry
                life.commands[entry.invocation_id_completion_id] = entry
            case OneWayCall():
                life.commands[entry.invocation_id_completion_id] = entry
            case SetState() | ClearState() | ClearAllState() if not is_copied:
                self._on_state(batch, life, entry)
            case _:
                pass

    def _check_sender(self, batch: Batch, stored: JournalRow, row: InvocationRow | None) -> None:
        said: object = stored.entry
        if isinstance(said, Completion):
            said = said.result
        known = self._sent.pop(id(said), None)
        if known is None or known[0] is not said:
            return
        record = known[1]
        is_old = row is not None and record.attempt < row.attempt
        if record.epoch != batch.epoch or is_old or record.invocation_id != stored.invocation_id:
            now = None if row is None else row.attempt
            self.fail(
                "S22",
                f"{stored.invocation_id}: {stored.entry} of attempt {record.attempt} in epoch"
                f" {record.epoch} entered the journal in attempt {now}, epoch {batch.epoch}",
            )

    def _on_completion(
        self, life: Life, stored: JournalRow, entry: Completion, *, is_copied: bool
    ) -> None:
        number = entry.completion_id
        command = life.commands.get(number)
        if command is None:
            self.fail("S02", f"{life.id}: {entry} completes nothing")
        if number in life.completed:
            names = {Run: "S04", Sleep: "S14", Call: "S17"}
            self.fail(names.get(type(command), "S04"), f"{life.id}: a second {entry}")
        life.completed.add(number)
        if isinstance(command, Sleep) and not is_copied:
            now_ms = self._time.server_ms()
            if stored.at_ms < command.wake_up_at_ms or now_ms < command.wake_up_at_ms:
                self.fail("S13", f"{life.id}: {command} fired at {stored.at_ms}, now {now_ms}")
        if isinstance(entry.result, ChildId) and not is_copied:
            child = entry.result.invocation_id
            parent = self.promised.setdefault(child, life.id)
            if parent != life.id and not is_of_main(command):
                self.fail("S17", f"{child} has two parents: {parent}, {life.id}")

    def _on_state(
        self, batch: Batch, life: Life, entry: SetState | ClearState | ClearAllState
    ) -> None:
        row = batch.rows.get((Table.INVOCATION, life.id)) or life.row
        assert isinstance(row, InvocationRow)
        key: KeyName = (row.target.service, row.target.key or "")
        is_main = row.handler_kind is HandlerKind.WORKFLOW
        if not is_main and life.row is not None and life.id not in self.holders.get(key, ()):
            self.fail("S06", f"{life.id} wrote state of {key}, held by {self.holders.get(key)}")
        state = self.state.setdefault(key, {})
        match entry:
            case SetState():
                state[entry.state_key] = entry.value.content
                self.increments[key] = self.increments.get(key, 0) + 1
            case ClearState():
                state.pop(entry.state_key, None)
            case ClearAllState():
                state.clear()

    def _on_row(self, row: InvocationRow, before: tuple[InvocationRow | None, int] | None) -> None:
        life = self.lives.get(row.id)
        if life is None:
            self.fail("S09", f"{row.id} has a row and no journal")
        old = before[0] if before is not None else None
        if row.journal_length != len(life.entries):
            self.fail(
                "S09", f"{row.id}: row says {row.journal_length}, journal {len(life.entries)}"
            )
        if old is None:
            parent = row.origin.invocation_id
            is_known = self.promised.get(row.id) == parent or (
                row.handler_kind is HandlerKind.WORKFLOW and row.id in self.promised
            )
            if row.origin.kind is OriginKind.SERVICE and not is_known:
                self.fail("S17", f"{row.id} exists, but the journal of {parent} does not know it")
            if row.origin.kind is OriginKind.RESTART:
                self._on_restarted(life, row)
        else:
            is_moved = row.output_index != old.output_index and not life.is_journal_purged
            if old.status is Status.COMPLETED and (row.status is not old.status or is_moved):
                self.fail("S12", f"{row.id}: {old.status.name} became {row.status.name}")
            is_woken = old.status is Status.PAUSED and row.status not in _AT_REST
            if is_woken and row.id not in self.may_resume and not life.is_cancelled:
                self.fail("S29", f"{row.id} was paused, and nobody has resumed it")
            if row.attempt < old.attempt:
                self.fail("S22", f"{row.id}: attempt {old.attempt} became {row.attempt}")
            for attempt in range(old.attempt + 1, row.attempt + 1):
                life.base[attempt] = before[1] if before is not None else 0
        was_scheduled = old is not None and old.status is Status.SCHEDULED
        if was_scheduled and row.status not in (Status.SCHEDULED, Status.COMPLETED):
            if row.execute_at_ms > self._time.server_ms():
                self.fail("S13", f"{row.id} began before {row.execute_at_ms}")
            life.arrival = (self.commit_count, -1)
        if row.status is Status.COMPLETED and life.outcome is None:
            output = life.entries[row.output_index] if row.output_index is not None else None
            if not isinstance(output, Output) or row.output_index != len(life.entries) - 1:
                self.fail("S03", f"{row.id}: {output} is not its last entry")
            life.outcome = output.result
        self._on_turn(life, row, old)
        life.row = copy(row)

    def _on_restarted(self, life: Life, row: InvocationRow) -> None:
        """Compare the kept part of a journal with where it comes from."""
        sources = (self.lives.get(row.origin.invocation_id or ""), *reversed(self.past_lives))
        source = next(s for s in sources if s is not None and s.id == row.origin.invocation_id)
        if source.outcome is None or source.is_journal_purged:
            self.fail("S30", f"{row.id} was made of {source.id}, which was not there")
        index, count = 0, 1
        if row.restarted is not None:
            index, count = row.restarted.from_index, row.restarted.entry_count
        kept, later = source.entries[: index + 1], source.entries[index + 1 :]
        made = {
            getattr(entry, name)
            for entry in kept
            if not isinstance(entry, Completion)
            for name in ("completion_id", "invocation_id_completion_id")
            if hasattr(entry, name)
        }
        kept += [e for e in later if isinstance(e, Completion) and e.completion_id in made]
        if life.entries[:count] != kept or any(isinstance(e, Output) for e in kept):
            self.fail("S30", f"{row.id} has kept {life.entries[:count]} of {source.entries}")

    def _on_turn(self, life: Life, row: InvocationRow, old: InvocationRow | None) -> None:
        """Keep who holds an object key, and who waits for it."""
        if row.handler_kind is not HandlerKind.EXCLUSIVE or row.target.key is None:
            return
        key: KeyName = (row.target.service, row.target.key)
        holders = self.holders.setdefault(key, set())
        waiting = self.waiting.setdefault(key, {})
        assert life.arrival is not None
        had_begun = old is not None and old.attempt > 0
        if row.attempt > 0 and not had_begun:
            self._begun.append((key, life))
        if row.status is Status.PENDING:
            waiting[row.id] = life.arrival
        else:
            waiting.pop(row.id, None)
        if row.status in _ACTIVE:
            holders.add(row.id)
        else:
            holders.discard(row.id)

    def _check_keys(self) -> None:
        for key, life in self._begun:
            came = life.arrival
            assert came is not None
            for other, arrival in self.waiting[key].items():
                # Of what arrives in one commit, delayed starts (-1) have no order that we know.
                is_known = arrival[0] < came[0] or -1 not in (arrival[1], came[1])
                if is_known and arrival < came:
                    self.fail("S07", f"{key}: {life.id} began before {other}, which came first")
        for key, holders in self.holders.items():
            if len(holders) > 1:
                self.fail("S06", f"{key} has two holders: {sorted(holders)}")

    def after_commit(self, batch: Batch) -> None:
        """A batch has been written: compare what is stored with what should be."""
        held = self._store._partitions[batch.partition]
        for inv in {j.invocation_id for j in batch.journal}:
            stored = len(held.journals.get(inv, ()))
            expected = len(self.lives[inv].entries)
            if stored != expected:
                self.fail("S09", f"{inv}: {stored} entries stored of {expected}")
        for key, row in batch.rows.items():
            if held.rows.get(key) != row:
                self.fail("S09", f"{key}: stored {held.rows.get(key)}, written {row}")
            if key[0] is Table.STATE:
                name = (str(key[1]), str(key[2]))
                stored = {n: state.value for n, state in held.states.get(name, {}).items()}
                if name[0] != SERVICE and stored != self.state.get(name, {}):
                    self.fail("S09", f"state of {name} is not what its journals say")
            elif key[0] is Table.LOCK:
                holder = row.holder if isinstance(row, LockRow) else None
                active = self.holders.get((str(key[1]), str(key[2])), set())
                if active != ({holder} if holder else set()):
                    self.fail("S06", f"{key} is locked by {holder}, used by {sorted(active)}")

    # -- what leaves -------------------------------------------------------------------------------

    def on_action(self, partition: int, action: Action) -> None:
        """An action is about to be taken."""
        match action:
            case StartAttempt(row, entries):
                life = self.lives.get(row.id)
                if entries is not None and life is None:
                    if row.target.key is not None or row.attempt != 1:
                        self.fail("DURABLE", f"{row.id}: a start that may not be early {_LEAVING}")
                elif life is None or life.row is None or life.row.attempt < row.attempt:
                    self.fail("DURABLE", f"{row.id}: the start of {row.attempt} {_LEAVING}")
            case Publish():
                self.teller.on_publish(partition, action)
            case Forward(inv, attempt, Emitted() as emitted):
                self.teller.on_stored(partition, inv, attempt, emitted)
            case Forward(inv, _, notification):
                life = self.lives.get(inv)
                if life is None or not any(e == notification for e in reversed(life.entries)):
                    self.fail("DURABLE", f"{inv}: {notification} {_LEAVING}")
            case EndAttempt(inv, number, _):
                life = self.lives.get(inv)
                row_ = None if life is None else life.row
                if row_ is not None and row_.status is Status.RUNNING and row_.attempt == number:
                    self.fail("DURABLE", f"{inv}: the end of attempt {number} {_LEAVING}")
            case Respond(inv, outcome):
                life = self.lives.get(inv)
                if life is None or life.outcome != outcome:
                    self.fail("DURABLE", f"{inv}: its outcome {_LEAVING}")
            case RegisterTimer(at_ms, inv, slot):
                if not self._is_timer_known(at_ms, inv, slot):
                    self.fail("DURABLE", f"{inv}: timer {slot} {_LEAVING}")
            case SendOutbox(sequence):
                if (partition, sequence) not in self.outbox:
                    self.fail("DURABLE", f"outbox message {sequence} {_LEAVING}")

    def _is_timer_known(self, at_ms: int, invocation_id: str, slot: str) -> bool:
        # One of an invocation that ended, of a retry that a person took back, or of an approval
        # that has ended, in the same commit was never written, and is harmless.
        life = self.lives.get(invocation_id)
        if life is None or life.row is None or life.outcome is not None:
            return True
        is_taken_back = slot == SLOT_RETRY and life.row.retry_at_ms != at_ms
        is_taken_back |= is_of_closed_approval(self._store, invocation_id, slot)
        return (at_ms, invocation_id, slot) in self.timers or is_taken_back

    def on_inbound(self, sender: int, sequence: int) -> None:
        """A message between partitions is delivered."""
        if (sender, sequence) not in self.outbox:
            self.fail("DURABLE", f"outbox message {sequence} of {sender} {_LEAVING}")

    def on_timer(self, at_ms: int, invocation_id: str, slot: str) -> None:
        """A timer rings."""
        if not self._is_timer_known(at_ms, invocation_id, slot):
            self.fail("DURABLE", f"timer {slot} of {invocation_id} {_LEAVING}")
        if at_ms > self._time.server_ms():
            self.fail("S13", f"timer {slot} of {invocation_id} rang early")

    def on_open(
        self, inv: str, attempt: int, entries: Sequence[Entry], *, is_keyed: bool
    ) -> Delivery:
        """An attempt is opened on a worker."""
        delivery = Delivery(inv, attempt, sum(past.id == inv for past in self.past_lives))
        life = self.lives.get(inv)
        if life is None:
            is_early = len(entries) == 1 and isinstance(entries[0], Input) and attempt == 1
            if is_keyed or not is_early:
                self.fail("DURABLE", f"{inv}: attempt {attempt} of what is not durable")
        else:
            if list(entries) != life.entries[: len(entries)]:
                self.fail("DURABLE", f"{inv}: attempt {attempt} replays what is not its journal")
            if len(entries) < life.base.get(attempt, 0):
                self.fail("S02", f"{inv}: attempt {attempt} replays {len(entries)} entries only")
            delivery.life = life
        delivery.position = len(entries)
        delivery.completions = {e.completion_id for e in entries if isinstance(e, Completion)}
        return delivery

    def on_delivery(self, delivery: Delivery, notifications: Sequence[Notification]) -> None:
        """Notifications are sent to an attempt: the journal's, in order, without a gap."""
        life = delivery.life = delivery.life or self.lives.get(delivery.invocation_id)
        for notification in notifications:
            entries = [] if life is None else life.entries
            position = delivery.position
            while position < len(entries) and not isinstance(
                entries[position], Completion | Signal
            ):
                position += 1
            if position >= len(entries):
                self.fail("DURABLE", f"{delivery.invocation_id}: {notification} {_LEAVING}")
            if entries[position] != notification:
                self.fail(
                    "S02",
                    f"{delivery.invocation_id}: attempt {delivery.attempt} got {notification},"
                    f" its next is {entries[position]}",
                )
            delivery.position = position + 1
            if isinstance(notification, Completion):
                delivery.completions.add(notification.completion_id)

    # -- what handlers do --------------------------------------------------------------------------

    def on_step(self, delivery: Delivery, name: str) -> None:
        """The body of a step runs."""
        self.step_runs += 1
        life = delivery.life or self.lives.get(delivery.invocation_id)
        number = None if life is None else life.steps.get(name)
        if number is not None and number in delivery.completions:
            self.fail("S05", f"{delivery.invocation_id}: step {name} ran again, result known")

    def on_seen(self, delivery: Delivery, place: str, value: object) -> None:
        """User code got a result."""
        known = self.seen.setdefault((*delivery.whose, place), repr(value))
        if known != repr(value):
            self.fail("S04", f"{delivery.invocation_id}: {place} was {known}, now {value!r}")

    def on_awakeable(self, inv: str, index: int, content: bytes) -> None:
        """User code got the value of an awakeable: the first that was recorded."""
        first = self.lives[inv].signals.get(index)
        if first is None or first.content != content:
            self.fail("S16", f"{inv}: awakeable {index} gave {content!r}, recorded was {first}")


def _is_copied(batch: Batch, stored: JournalRow) -> bool:
    """Whether an entry comes from the journal of which a restart has kept a part."""
    row = batch.rows.get((Table.INVOCATION, stored.invocation_id))
    if not isinstance(row, InvocationRow) or row.restarted is None:
        return False
    return stored.index < row.restarted.entry_count
