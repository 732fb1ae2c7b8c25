"""A server whose world runs like clockwork: what happens, and when, does not depend on crashes.

Each operation takes a time that follows from its journal key. Time passes only when the handler can
do nothing else; then the next thing happens. Bodies of steps wait at a gate for their time. So with
crashes and without, the results arrive in the same order, and the two journals have to be equal.
"""

from __future__ import annotations

import asyncio
from typing import Any

import xxhash

from holdfast.domain.message import (
    KIND_CALL,
    Call,
    Completion,
    Entry,
    Failure,
    Notification,
    Result,
    Run,
    Signal,
    Sleep,
    Value,
    Void,
    completion_kind,
)

from .fake_server import FakeServer

_IDLE_TURNS = 4
_DURATION_MS_MAX = 9_000


def duration_ms(name: str) -> int:
    """Return how long something takes that has this name."""
    return 1 + xxhash.xxh3_64_intdigest(name.encode()) % _DURATION_MS_MAX


class Clockwork(FakeServer):
    """See above. Bodies of steps have to `await server.gate(name)`, and names are unique."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._due: dict[str, int] = {}
        self._events: dict[str, Notification | None] = {}
        """What is still to happen, by name; None: the gate of a step opens."""
        self._happened: set[str] = set()
        self._gates: dict[str, asyncio.Event] = {}
        self._at_gates = 0
        self._idle_turns = 0
        self._unsent: list[Notification] = []
        """Recorded, and on its way to the attempt: a server never calls back in the same turn."""
        super().__init__(*args, **kwargs)

    # -- bodies -----------------------------------------------------------------------------------

    async def gate(self, name: str) -> None:
        """Wait for the time at which the step of this name ends."""
        gate = self._gates.setdefault(name, asyncio.Event())
        if f"step:{name}" not in self._happened:
            self._plan(f"step:{name}", None)
        self._at_gates += 1
        try:
            await gate.wait()
        finally:
            self._at_gates -= 1

    # -- the world --------------------------------------------------------------------------------

    def _plan(self, name: str, event: Notification | None, at_ms: int | None = None) -> None:
        if name not in self._happened and name not in self._events:
            self._due[name] = self.now_ms + duration_ms(name) if at_ms is None else at_ms
            self._events[name] = event

    def signal_later(self, index: int, result: Value | Failure | Void) -> None:
        self._plan(f"signal:{index}", Signal(result, index))

    def signal_named_later(self, name: str, result: Value | Failure) -> None:
        self._plan(f"named:{name}:{result}", Signal(result, None, name))

    def _take_call(self, call: Call) -> None:
        result = self._answer(call)
        if result is not None:
            self._plan(call.key, Completion(KIND_CALL, call.completion_id, result))

    def _on_command(self, command: Any) -> None:
        super()._on_command(command)
        if isinstance(command, Sleep):
            self._timers.clear()
            kind = completion_kind(command)
            completion = Completion(kind, command.completion_id, Void())
            self._plan(command.key, completion, command.wake_up_at_ms)

    def _completion(self, completion_id: int, result: Result, kind: int) -> Completion:
        # Time is that of the world, not the number of results so far.
        return Completion(kind, completion_id, result, self.now_ms)

    def record(self, entry: Entry) -> None:
        self.journal.append(entry)
        if isinstance(entry, Completion | Signal) and self._running and not self._is_input_closed:
            self._unsent.append(entry)
        if self._running and self._crash is not None and self._crash(len(self.journal)):
            self.crash()

    def _open(self) -> None:
        self._unsent.clear()
        super()._open()

    def _step_world(self) -> None:
        """A suspension is no reason to let time pass at once."""

    def _step(self) -> None:
        for notification in self._pending:
            assert isinstance(notification, Completion)
            self._plan(f"result {notification.completion_id}", notification)
        self._pending.clear()
        unsent, self._unsent = self._unsent, []
        if unsent and self._running and self.attempt is not None:
            self.attempt.send(unsent)
        if self._is_idle():
            self._idle_turns += 1
        else:
            self._idle_turns = 0
        if self._idle_turns >= _IDLE_TURNS and self._events:
            self._idle_turns = 0
            self._let_happen(min(self._events, key=lambda name: (self._due[name], name)))

    def _is_idle(self) -> bool:
        if not self._running:
            return self._is_suspended()
        attempt = self.attempt
        return (
            attempt is not None
            and not attempt.busy
            and not attempt.machine.outgoing
            and not attempt._is_tick_scheduled
            and len(attempt._bodies.running) <= self._at_gates
        )

    def _let_happen(self, name: str) -> None:
        event = self._events.pop(name)
        self._happened.add(name)
        self.now_ms = max(self.now_ms, self._due[name])
        match event:
            case None:
                self._gates[name.removeprefix("step:")].set()
            case Completion():
                self.complete(event.completion_id, event.result, event.kind)
            case Signal():
                self.record(Signal(event.result, event.index, event.name, self.now_ms))

    # -- looking ----------------------------------------------------------------------------------

    def steps(self) -> list[str]:
        return [e.name for e in self.journal if isinstance(e, Run)]
