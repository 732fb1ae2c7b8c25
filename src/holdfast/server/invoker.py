"""Runs attempts: chooses a worker, opens the stream, carries messages both ways.

The invoker decides nothing about an invocation. What a handler says becomes records; what the
engine says becomes messages. An attempt that it loses is reported, and the engine decides.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    End,
    Entry,
    Error,
    FromHandler,
    Start,
    Suspension,
    ToHandler,
)
from holdfast.engine.decision import StartAttempt
from holdfast.engine.record import AttemptLost, AttemptResumed, HandlerSent
from holdfast.engine.row import InvocationRow
from holdfast.server.approval import LinkKeys
from holdfast.server.catalog import Catalog
from holdfast.server.clock import Alarm, Clock
from holdfast.server.gate import Gate, Gates
from holdfast.server.handle import KnownAttempt
from holdfast.server.partition import Partition
from holdfast.storage.base import Store, StoredState
from holdfast.transport.base import AttemptPort, HandlerStream, Refusal

_log = logging.getLogger(__name__)

ATTEMPTS_MAX = 1_000
"""Attempts in flight. More wait, in order."""

FAILED_MAX = 10_000
"""Failed attempts that are remembered until the next one of their invocation; the latest."""

EAGER_STATE_BYTES_MAX = 32 * 1024 * 1024
"""State that an attempt gets with its start. What is beyond it is read when it is asked for."""

_NO_STATE = StoredState({}, is_complete=False)
_SWEEP_S = 0.25
_CROWDED_S = 0.5


class _Line(NamedTuple):
    """Attempts that wait for the same: in order, and in the way of no others."""

    deployment_id: str
    gate: Gate | None


class Attempt:
    """One try at running a handler: the server's end of its stream (`ServerStream`)."""

    def __init__(self, invoker: Invoker, partition: Partition, action: StartAttempt) -> None:
        self.row = action.row
        self.entries = action.entries
        self.partition = partition
        self.active_at_s = 0.0
        self.live: KnownAttempt | None = None
        """What others see of it; set when it has begun on a worker."""
        self.is_input_closed = False
        self.inactivity_s = 60.0
        self.abort_s = 600.0
        self.arrival = 0
        """Its place among all that were started."""
        self.gate: Gate | None = None
        """What limits its kind; known when it is queued or opened."""
        self.place = ""
        """Id of the deployment that it is open on."""
        self._invoker = invoker
        self._epoch = partition.epoch
        self._port: AttemptPort | None = None
        self._deployment_id = ""
        self._stream: HandlerStream | None = None
        self._early: list[ToHandler] = []
        self._is_over = False
        """The handler has sent its terminal message, or the engine has ended the attempt."""
        self._is_closed = False
        # A restart may be pinned before its handler has said anything.
        is_pinned = self.row.deployment_id is not None and self.row.journal_length > 1
        self.protocol_version = self.row.protocol_version if is_pinned else None
        """See `AttemptStream`."""

    @property
    def number(self) -> int:
        """Number of the attempt within its invocation."""
        return self.row.attempt

    def open(
        self,
        port: AttemptPort,
        deployment_id: str,
        start: Start,
        entries: Sequence[Entry],
        at_s: float,
    ) -> None:
        """Begin on a worker."""
        self._port = port
        self._deployment_id = deployment_id
        self.live = KnownAttempt(deployment_id, self._invoker.now_ms())
        self.entries = None
        self.active_at_s = at_s
        self._stream = port.open(start, entries, self)
        if self._early:
            self._stream.send(self._early)
            self._early = []

    def is_open_on(self, port: AttemptPort) -> bool:
        """Whether this attempt runs on a worker."""
        return self._port is port

    def forward(self, notification: ToHandler) -> None:
        """Hand a recorded notification to the handler."""
        if self._stream is None:
            self._early.append(notification)
            return
        self.active_at_s = self._invoker.now_s()
        self._stream.send((notification,))

    def end(self, *, is_abort: bool) -> None:
        """The engine is done with this attempt."""
        self._is_over = True
        if is_abort and not self._is_closed:
            self._is_closed = True
            # Paused, perhaps. If it was killed, nobody asks.
            self._invoker.on_attempt_failed(self)
            if self._stream is not None:
                self._stream.abort()
            self._invoker.on_attempt_closed(self)

    def close_input(self) -> None:
        """Ask the handler to suspend when it waits."""
        self.is_input_closed = True
        if self._stream is not None:
            self._stream.close_input()

    def give_up(self, reason: str) -> None:
        """Abort an attempt that does not answer."""
        if self._stream is not None:
            self._stream.abort()
        self.on_closed(reason)

    # -- ServerStream ----------------------------------------------------------------------------

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """Propose what the handler said."""
        self._propose(messages, None)

    def on_messages_recorded(
        self, messages: Sequence[FromHandler], then: Callable[[], None]
    ) -> None:
        """Propose what the handler said, and call `then` when it is recorded."""
        self._propose(messages, then)

    def _propose(self, messages: Sequence[FromHandler], then: Callable[[], None] | None) -> None:
        if self._is_over:
            return
        self.active_at_s = self._invoker.now_s()
        row = self.row
        if isinstance(messages[-1], End | Error | Suspension):
            self._is_over = True
            if isinstance(messages[-1], Error):
                self._invoker.on_attempt_failed(self)
        record = HandlerSent(
            row.id,
            self._epoch,
            row.attempt,
            self._deployment_id,
            tuple(messages),
            row.created_at_ms,
            self.protocol_version or 0,
        )
        self.partition.submit(record, then)

    def on_closed(self, reason: str | None) -> None:
        """Report the attempt as lost unless it ended properly."""
        if self._is_closed:
            return
        reason = reason or "the handler ended its stream without saying how it ended"
        row, made_ms = self.row, self.row.created_at_ms
        self._lose(AttemptLost(row.id, self._epoch, row.attempt, reason, created_at_ms=made_ms))

    def on_refused(self, reason: str, refusal: Refusal) -> None:
        """Report that the other side did not run the handler."""
        if self._is_closed:
            return
        record = AttemptLost(
            self.row.id,
            self._epoch,
            self.row.attempt,
            reason,
            refusal.code,
            is_refused=True,
            retry_after_ms=refusal.retry_after_ms,
            is_counted=refusal.is_counted,
            created_at_ms=self.row.created_at_ms,
        )
        self._lose(record)

    def on_unheard(self) -> None:
        """Begin the next attempt in place of this one, which it ends (`Invoker.start`)."""
        if not self._is_over:
            # Nothing that the handler still says counts, so that its end cannot come in between.
            self._is_over = True
            self.partition.submit(AttemptResumed(self.row.id))

    def _lose(self, record: AttemptLost) -> None:
        self._is_closed = True
        if not self._is_over:
            self._is_over = True
            self._invoker.on_attempt_failed(self)
            self.partition.submit(record)
        self._invoker.on_attempt_closed(self)


class Invoker:
    """All attempts of this server."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        clock: Clock,
        links: LinkKeys,
        *,
        inactivity_timeout_ms: int | None = None,
    ) -> None:
        """Prepare.

        Args:
            links: Signs what attempts are given to sign with.
            inactivity_timeout_ms: Overrides that of all handlers; 0 makes every wait a suspension.
        """
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._links = links
        self._inactivity_timeout_ms = inactivity_timeout_ms
        self._attempts: dict[str, Attempt] = {}
        self._open: set[Attempt] = set()
        self._failed: dict[str, KnownAttempt] = {}
        self._ports: dict[str, list[AttemptPort]] = {}
        self._waiting: dict[_Line, deque[Attempt]] = {}
        """Attempts that wait for a worker, or for a place."""
        self._gates = Gates()
        self._arrivals = 0
        self._pinned_arrivals: dict[str, int] = {}
        """By deployment: the last attempt of an invocation that is pinned to it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: Alarm | None = None
        self._alarm_at_s = 0.0
        self._is_stopped = False
        self._turn = 0
        self.now_s: Callable[[], float] = clock.monotonic_s
        self.now_ms: Callable[[], int] = clock.now_ms

    # -- workers ---------------------------------------------------------------------------------

    def add_port(self, deployment_id: str, port: AttemptPort) -> None:
        """Offer attempts to a worker."""
        self._ports.setdefault(deployment_id, []).append(port)
        self.route_again()

    def route_again(self) -> None:
        """Queue attempts where they wait now: deployment and limit may be others."""
        waiting, self._waiting = self._waiting, {}
        for attempt in sorted(
            (a for queue in waiting.values() for a in queue), key=attrgetter("arrival")
        ):
            self._waiting.setdefault(self._line_of(attempt), deque()).append(attempt)
        self._pump_all()

    def remove_port(self, port: AttemptPort) -> None:
        """Forget a worker; attempts that were open on it are lost."""
        for ports in self._ports.values():
            if port in ports:
                ports.remove(port)
        for attempt in [a for a in self._open if a.is_open_on(port)]:
            attempt.on_closed("the worker has left")
        self.route_again()

    def ports(self, deployment_id: str) -> Sequence[AttemptPort]:
        """Return the workers of a deployment."""
        return tuple(self._ports.get(deployment_id, ()))

    def open_count(self) -> int:
        """Return the number of attempts in flight."""
        return len(self._open)

    def use_of(self, deployment_id: str) -> tuple[int, int]:
        """Return how many attempts are open on a deployment, and the last that was pinned to it."""
        count = sum(attempt.place == deployment_id for attempt in self._open)
        return count, self._pinned_arrivals.get(deployment_id, 0)

    def known_attempts(self) -> dict[str, KnownAttempt]:
        """Return the attempts in flight, and the last that failed, by invocation id."""
        open_ones = {it.row.id: it.live for it in self._open if it.live is not None}
        return {**self._failed, **open_ones}

    def on_attempt_failed(self, attempt: Attempt) -> None:
        """Remember an attempt, for those who ask what its invocation waits for."""
        if attempt.live is not None:
            attempt.live = attempt.live._replace(is_running=False)
            self._failed[attempt.row.id] = attempt.live
            if len(self._failed) > FAILED_MAX:
                del self._failed[next(iter(self._failed))]

    def waiting_count(self) -> int:
        """Return the number of attempts that wait for a worker or a place."""
        return sum(len(queue) for queue in self._waiting.values())

    # -- actions ---------------------------------------------------------------------------------

    def start(self, partition: Partition, action: StartAttempt) -> None:
        """Run an attempt as soon as a worker can take it."""
        attempt = Attempt(self, partition, action)
        previous = self._attempts.get(attempt.row.id)
        if previous is not None:
            previous.end(is_abort=True)
        self._failed.pop(attempt.row.id, None)
        self._attempts[attempt.row.id] = attempt
        self._arrivals += 1
        attempt.arrival = self._arrivals
        if attempt.row.deployment_id is not None:
            self._pinned_arrivals[attempt.row.deployment_id] = attempt.arrival
        line = self._line_of(attempt)
        queue = self._waiting.get(line)
        if queue or not self._try_open(attempt, line.deployment_id):
            self._waiting.setdefault(line, deque()).append(attempt)
            self._arm()

    def forward(self, invocation_id: str, number: int, notification: ToHandler) -> None:
        """Hand a notification to an attempt, if it is the current one."""
        attempt = self._attempts.get(invocation_id)
        if attempt is not None and attempt.number == number:
            attempt.forward(notification)

    def end(self, invocation_id: str, number: int, *, is_abort: bool) -> None:
        """Close an attempt that is over for the engine."""
        attempt = self._attempts.get(invocation_id)
        if attempt is not None and attempt.number == number:
            attempt.end(is_abort=is_abort)
            # An abort has taken it out already.
            self._attempts.pop(invocation_id, None)

    def on_attempt_closed(self, attempt: Attempt) -> None:
        """Free the place of an attempt."""
        if attempt in self._open:
            self._open.discard(attempt)
            self._gates.leave(attempt.gate)
        if self._attempts.get(attempt.row.id) is attempt:
            del self._attempts[attempt.row.id]
        self._pump_all()

    @property
    def is_idle(self) -> bool:
        """Whether no journal is being read."""
        return not self._tasks

    async def stop(self) -> None:
        """Abort all attempts; their invocations go on with the next start."""
        self._is_stopped = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._waiting.clear()
        for attempt in list(self._open):
            attempt.end(is_abort=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- opening ---------------------------------------------------------------------------------

    def _pump_all(self) -> None:
        """Open waiting attempts; what has waited longest comes first."""
        heads = sorted((queue[0].arrival, line) for line, queue in self._waiting.items() if queue)
        for _, line in heads:
            self._pump(line)

    def _pump(self, line: _Line) -> None:
        """Open waiting attempts of one line, in order."""
        queue = self._waiting.get(line)
        while queue:
            # Taken out first: one that cannot be opened after all pumps again.
            attempt = queue.popleft()
            is_current = self._attempts.get(attempt.row.id) is attempt
            if is_current and not self._try_open(attempt, line.deployment_id):
                queue.appendleft(attempt)
                return
        if queue is not None and self._waiting.get(line) is queue:
            del self._waiting[line]

    def _line_of(self, attempt: Attempt) -> _Line:
        """Return where an attempt waits, and remember what limits it."""
        target = attempt.row.target
        attempt.gate = Gates.of(target, self._catalog.find(target.service, target.handler))
        return _Line(self._deployment_of(attempt.row), attempt.gate)

    def _deployment_of(self, row: InvocationRow) -> str:
        """Return the deployment that must run an invocation: the pinned one, else the latest."""
        if row.deployment_id is not None:
            return row.deployment_id
        handler = self._catalog.find(row.target.service, row.target.handler)
        return handler.deployment_id if handler is not None else ""

    def _try_open(self, attempt: Attempt, deployment_id: str) -> bool:
        if self._is_stopped or len(self._open) >= ATTEMPTS_MAX:
            return False
        if not self._gates.has_room(attempt.gate):
            return False
        port = self._choose_port(deployment_id)
        if port is None:
            return False
        row = attempt.row
        handler = self._catalog.find(row.target.service, row.target.handler)
        if handler is not None:
            attempt.inactivity_s = handler.manifest.inactivity_timeout_ms / 1000
            attempt.abort_s = handler.manifest.abort_timeout_ms / 1000
        if self._inactivity_timeout_ms is not None:
            attempt.inactivity_s = self._inactivity_timeout_ms / 1000
        attempt.place = deployment_id
        self._open.add(attempt)
        self._gates.enter(attempt.gate)
        self._arm()
        if attempt.entries is not None and row.target.key is None:
            start = self._start_message(row, len(attempt.entries))
            self._begin(attempt, port, deployment_id, start, attempt.entries)
        elif not self._begin_from_memory(attempt, port, deployment_id):
            task = asyncio.get_running_loop().create_task(
                self._read_and_begin(attempt, port, deployment_id)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    def _choose_port(self, deployment_id: str) -> AttemptPort | None:
        ports = [p for p in self._ports.get(deployment_id, ()) if not p.is_draining]
        if not ports:
            return None
        self._turn += 1
        return ports[self._turn % len(ports)]

    def _begin_from_memory(self, attempt: Attempt, port: AttemptPort, deployment_id: str) -> bool:
        """Begin without a read, if all that is needed is known. Returns whether it is."""
        row, recall = attempt.row, attempt.partition.recall
        entry = recall.take_input(row)
        if entry is None:
            return False
        state: StoredState | None = _NO_STATE
        if self._is_state_sent(row):
            service, key = row.target.service, row.target.key or ""
            state = recall.state(service, key, self._clock.now_ms())
        if state is None:
            return False
        self._begin(attempt, port, deployment_id, self._start_message(row, 1, state), (entry,))
        return True

    async def _read_and_begin(
        self, attempt: Attempt, port: AttemptPort, deployment_id: str
    ) -> None:
        """Read the journal, up to what the engine had decided, and the state; then begin."""
        row, index = attempt.row, attempt.partition.index
        try:
            journal = await self._store.journal(index, row.id)
            entries = [j.entry for j in journal[: row.journal_length]]
            state = await self._read_state(attempt)
            assert len(entries) == row.journal_length, (
                f"{len(entries)} entries are stored, {row.journal_length} were decided"
            )
        except Exception as error:
            # Whatever it is, this attempt must give its place back.
            _log.warning("a journal could not be read: %s", error, extra={"invocation_id": row.id})
            attempt.on_closed(f"the journal could not be read: {error}")
            return
        if self._attempts.get(row.id) is not attempt:
            attempt.on_closed(None)
            return
        start = self._start_message(row, len(entries), state)
        self._begin(attempt, port, deployment_id, start, entries)

    def _is_state_sent(self, row: InvocationRow) -> bool:
        """Whether an attempt gets its state with its start."""
        handler = self._catalog.find(row.target.service, row.target.handler)
        is_lazy = handler is not None and handler.manifest.is_state_lazy
        return row.target.key is not None and not is_lazy

    async def _read_state(self, attempt: Attempt) -> StoredState:
        """Read the state that an attempt gets with its start; the rest it asks for."""
        if not self._is_state_sent(attempt.row):
            return _NO_STATE
        service, key = attempt.row.target.service, attempt.row.target.key or ""
        now_ms, partition = self._clock.now_ms(), attempt.partition
        version = partition.recall.version
        found = await self._store.state(
            partition.index, service, key, now_ms, EAGER_STATE_BYTES_MAX
        )
        partition.recall.keep_state(service, key, found, version)
        return found

    def _begin(
        self,
        attempt: Attempt,
        port: AttemptPort,
        deployment_id: str,
        start: Start,
        entries: Sequence[Entry],
    ) -> None:
        try:
            attempt.open(port, deployment_id, start, entries, self.now_s())
        except Exception as error:
            _log.exception(
                "an attempt could not be opened", extra={"invocation_id": attempt.row.id}
            )
            attempt.on_closed(f"the attempt could not be opened: {error}")
            return
        if attempt.inactivity_s == 0:
            attempt.close_input()

    def _start_message(
        self, row: InvocationRow, known: int, state: StoredState = _NO_STATE
    ) -> Start:
        first = row.restarted
        return Start(
            invocation_id=row.id,
            service=row.target.service,
            handler=row.target.handler,
            key=row.target.key or "",
            known_entries=known,
            state={name: entry.value for name, entry in state.entries.items()},
            is_state_partial=not state.is_complete,
            retry_count=row.stale_retry_count,
            duration_ms=max(0, self._clock.now_ms() - row.last_entry_at_ms),
            random_seed=random_seed(row.id) if first is None else first.random_seed,
            attempt=row.attempt,
            created_at_ms=row.due_at_ms if first is None else first.began_at_ms,
            step_failures=row.step_failures,
            state_expiries={
                name: entry.expires_at_ms
                for name, entry in state.entries.items()
                if entry.expires_at_ms
            },
            approval_key=self._links.key_of(row.id),
            public_url=self._links.public_url,
        )

    # -- timeouts --------------------------------------------------------------------------------

    def _arm(self, delay_s: float = _SWEEP_S) -> None:
        at_s = self.now_s() + delay_s
        if self._is_stopped or (self._alarm is not None and self._alarm_at_s <= at_s):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at_s = at_s
        self._alarm = self._clock.call_later(delay_s, self._sweep)

    def _sweep(self) -> None:
        """Close the input of attempts that wait long, and give up those that do not react."""
        self._alarm = None
        now_s = self.now_s()
        # Attempts that only wait must not keep the places that what they wait for needs.
        is_crowded = len(self._open) >= ATTEMPTS_MAX and bool(self._waiting)
        full = {line.gate for line in self._waiting if line.gate is not None}
        next_s = now_s if self._waiting else math.inf
        for attempt in list(self._open):
            if attempt.active_at_s == 0:
                next_s = now_s
                continue
            patience_s = attempt.inactivity_s
            if attempt.is_input_closed:
                patience_s += attempt.abort_s
            elif is_crowded or attempt.gate in full:
                patience_s = min(patience_s, _CROWDED_S)
            if now_s - attempt.active_at_s <= patience_s:
                next_s = min(next_s, attempt.active_at_s + patience_s)
            elif attempt.is_input_closed:
                attempt.give_up("the handler did not react within its abort timeout")
            else:
                attempt.close_input()
                next_s = now_s
        if self._open:
            self._arm(max(_SWEEP_S, next_s - now_s))
