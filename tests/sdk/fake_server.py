"""A server in memory for one invocation: keeps the journal, completes what is asked, and crashes.

Time is virtual: a timer fires when the handler can do nothing else. Every recorded notification is
sent to the open attempt; a crash loses everything that is not in the journal.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from holdfast.domain.ids import print_invocation_id
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    KIND_RUN,
    SIGNAL_CANCEL,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    Emit,
    Emitted,
    End,
    Entry,
    Error,
    Failure,
    FromHandler,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    Notification,
    OneWayCall,
    Outcome,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Result,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Start,
    StateKeys,
    StepFailures,
    Suspension,
    Value,
    Void,
    completion_kind,
)
from holdfast.sdk.app import App
from holdfast.sdk.attempt import Attempt

ID = print_invocation_id(bytes(range(24)))
BEGIN_MS = 1_700_000_000_000

Answer = Callable[[Call], Outcome | None]
"""What a called handler answers; None: nothing yet."""


def value(thing: Any) -> Value:
    return Value(b"" if thing is None else msgspec.json.encode(thing))


def echo(call: Call) -> Outcome | None:
    return Value(call.parameter)


class Stream:
    """The server's end of one attempt."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.is_cut = False
        self.batches: list[Sequence[FromHandler]] = []
        self.closed: list[str | None] = []

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        self.batches.append(messages)
        for message in messages:
            if self.is_cut:
                break
            self.server.on_message(self, message)

    def on_closed(self, reason: str | None) -> None:
        self.closed.append(reason)
        if not self.is_cut:
            self.server.on_closed(self)


class FakeServer:
    """Runs one invocation to its end.

    Args:
        app: Serves the handler.
        target: `Service/handler`.
        crash: Asked after each recorded entry, with the length of the journal: crash now?
        is_request_response: Close the input of each attempt at once.
        answer: Of called handlers.
        seed: For the order in which calls and signals are completed.
    """

    def __init__(
        self,
        app: App,
        target: str,
        arg: Any = None,
        *,
        key: str = "",
        state: dict[str, bytes] | None = None,
        is_state_partial: bool = False,
        crash: Callable[[int], bool] | None = None,
        is_request_response: bool = False,
        answer: Answer = echo,
        seed: int = 0,
        journal: Sequence[Entry] | None = None,
        attempts_max: int = 5_000,
    ) -> None:
        self.app = app
        self.service, self.handler = target.split("/")
        self.key = key
        self.state = dict(state or {})
        self.is_state_partial = is_state_partial
        self.journal: list[Entry] = list(journal or [Input(value(arg))])
        self.outcome: Outcome | None = None
        self.errors: list[Error] = []
        self.suspensions: list[Suspension] = []
        self.signals_sent: list[SendSignal] = []
        self.completed_awakeables: list[CompleteAwakeable] = []
        self.streams: list[Stream] = []
        self.attempt: Attempt | None = None
        self.now_ms = BEGIN_MS
        self.output: Value | Failure | Void = Void()
        """Of other invocations, when it is asked for."""
        self.is_patient = False
        """Whether timers wait until they are fired by hand."""
        self.emits: list[Emit] = []
        self.is_behind = False
        """Whether chunks are stored by hand."""
        self.is_retrying = True
        self.is_time_taken = False
        """Whether the waits between attempts take their time."""
        """Whether failed attempts are repeated."""
        self._crash = crash
        self._is_request_response = is_request_response
        self._answer = answer
        self._random = random.Random(seed)
        self._pending: list[Notification] = []
        self._timers: list[Sleep] = []
        self._open_calls: list[Call] = []
        self.promises: dict[str, Outcome] = {}
        self._promise_gets: list[GetPromise] = []
        self._step_failures: dict[int, tuple[int, int]] = {}
        self._attempts_max = attempts_max
        self._children = 0
        self._wake = asyncio.Event()
        self._running = False
        self._is_input_closed = False
        app.clock = lambda: self.now_ms
        self._restore()

    def _restore(self) -> None:
        """Derive from the journal what is still to come, as after a crash of the server."""
        done = {e.completion_id for e in self.journal if isinstance(e, Completion)}
        for entry in list(self.journal):
            if isinstance(entry, Sleep) and entry.completion_id not in done:
                self._timers.append(entry)
            if isinstance(entry, Call | OneWayCall):
                self._children += 1
                if entry.invocation_id_completion_id not in done:
                    self._child(entry.invocation_id_completion_id)
            if isinstance(entry, Call) and entry.completion_id not in done:
                self._take_call(entry)
            if isinstance(entry, AttachInvocation) and entry.completion_id not in done:
                self._take_attach(entry)
            if isinstance(entry, GetInvocationOutput) and entry.completion_id not in done:
                self.complete(entry.completion_id, self.output, completion_kind(entry))
            is_first = isinstance(entry, CompletePromise) and self.resolve_promise(
                entry.promise_name, entry.result
            )
            is_of_promise = isinstance(entry, GetPromise | PeekPromise | CompletePromise)
            if is_of_promise and entry.completion_id not in done:
                self._take_promise(entry, is_first=is_first)

    # -- running ----------------------------------------------------------------------------------

    async def run(self) -> Any:
        """Run to the end and return the decoded result; raises AssertionError on failure."""
        outcome = await self.finish()
        assert isinstance(outcome, Value), outcome
        return msgspec.json.decode(outcome.content) if outcome.content else None

    async def finish(self) -> Outcome:
        """Run to the end and return the outcome."""
        while self.outcome is None:
            if not self._running:
                if self.errors and not self.is_retrying:
                    raise AssertionError(self.errors[-1].message)
                if not self._is_suspended():
                    self._open()
            await asyncio.sleep(0)
            self._step()
        return self.outcome

    async def settle(self, turns: int = 50) -> None:
        """Open an attempt if none is open, and let everything happen that can."""
        if not self._running and self.outcome is None:
            self._open()
        for _ in range(turns):
            await asyncio.sleep(0)
            if self._running:
                self._step()

    def store_chunks(self, count: int) -> None:
        """Tell the attempt, in a turn of its own, that chunks are stored."""
        attempt = self.attempt
        assert attempt is not None
        asyncio.get_running_loop().call_soon(attempt.send, (Emitted(count),))

    def _step(self) -> None:
        """Let the world do one thing, or nothing."""
        attempt = self.attempt
        is_idle = not self._running or (
            attempt is not None and not attempt.busy and not attempt._bodies.running
        )
        if self._pending and (is_idle or self._random.random() < 0.3):
            index = self._random.randrange(len(self._pending))
            self.record(self._pending.pop(index))
        elif is_idle and self._timers and not self.is_patient:
            self.fire_timer()

    def fire_timer(self) -> None:
        """Let time pass until the next timer."""
        timer = min(self._timers, key=lambda sleep: sleep.wake_up_at_ms)
        self._timers.remove(timer)
        self.now_ms = max(self.now_ms, timer.wake_up_at_ms)
        self.complete(timer.completion_id, Void(), completion_kind(timer))

    def _is_suspended(self) -> bool:
        if not self.suspensions or self.attempt is not None:
            return False
        waits = self.suspensions[-1]
        arrived = {
            ("c", entry.completion_id) if isinstance(entry, Completion) else ("s", entry.index)
            for entry in self.journal
            if isinstance(entry, Completion | Signal)
        }
        arrived |= {("n", e.name) for e in self.journal[self._replayed :] if isinstance(e, Signal)}
        wanted = {("c", n) for n in waits.completions} | {("s", n) for n in waits.signals}
        wanted |= {("n", name) for name in waits.named_signals}
        return not (arrived & wanted - self._seen_signals(arrived))

    def _seen_signals(self, arrived: set[tuple[str, Any]]) -> set[tuple[str, Any]]:
        # A cancellation that was there when the attempt suspended does not resume it again.
        return {("s", SIGNAL_CANCEL)} if self._cancel_seen else set()

    _cancel_seen = False
    _replayed = 0
    """How much of the journal the last attempt began with."""

    def _open(self) -> None:
        assert len(self.streams) < self._attempts_max, "too many attempts"
        self._cancel_seen = any(isinstance(e, Signal) and e.index == 1 for e in self.journal)
        self._replayed = len(self.journal)
        stream = Stream(self)
        self.streams.append(stream)
        failures = tuple(StepFailures(c, n, t) for c, (n, t) in self._step_failures.items())
        start = Start(
            ID, self.service, self.handler, self.key, len(self.journal), dict(self.state),
            self.is_state_partial, 0, 0, 42, len(self.streams), BEGIN_MS, failures,
        )  # fmt: skip
        self._running = True
        handler = self.app.open(start, tuple(self.journal), stream)
        self.attempt = handler if isinstance(handler, Attempt) else None
        self._is_input_closed = self._is_request_response
        if self._is_request_response:
            handler.close_input()

    def crash(self) -> None:
        """Lose the open attempt."""
        if self._running:
            stream, attempt = self.streams[-1], self.attempt
            stream.is_cut = True
            self._running = False
            self.attempt = None
            assert attempt is not None
            asyncio.get_running_loop().call_soon(attempt.abort)

    def close_input(self) -> None:
        self._is_input_closed = True
        assert self.attempt is not None
        self.attempt.close_input()

    # -- what the handler says --------------------------------------------------------------------

    def on_message(self, stream: Stream, message: FromHandler) -> None:
        match message:
            case ProposeRunCompletion(completion_id, result):
                assert not any(
                    isinstance(e, Completion) and e.completion_id == completion_id
                    for e in self.journal
                ), "a step was proposed twice"
                self.complete(completion_id, result, KIND_RUN)
            case Suspension():
                self.suspensions.append(message)
                self.attempt = None
                self._running = False
                self._step_world()
            case Error():
                self.errors.append(message)
                for number in message.failed_steps:
                    count, since_ms = self._step_failures.get(number, (0, self.now_ms))
                    self._step_failures[number] = (count + 1, since_ms)
                if self.is_time_taken:
                    self.now_ms += message.next_retry_delay_ms or 0
                self.attempt = None
                self._running = False
                if message.behavior == 2:
                    self.outcome = Failure(message.code, message.message)
            case Emit():
                # Streams are no part of the journal.
                self.emits.append(message)
                if not self.is_behind and message.chunks:
                    self.store_chunks(len(message.chunks))
            case End():
                output = [e for e in self.journal if isinstance(e, Output)][-1]
                self.outcome = output.result
                self._running = False
            case _:
                self._on_command(message)

    def _step_world(self) -> None:
        if self._pending:
            return
        if self._timers and not self.is_patient:
            self.fire_timer()

    def _on_command(self, command: Any) -> None:
        keys = [e.key for e in self.journal if not isinstance(e, Completion | Signal)]
        assert command.key not in keys, f"{command.key} is recorded twice"
        self.record(command)
        match command:
            case Sleep():
                self._timers.append(command)
            case Call():
                self._child(command.invocation_id_completion_id)
                self._take_call(command)
            case OneWayCall():
                self._child(command.invocation_id_completion_id)
            case GetLazyState():
                content = self.state.get(command.state_key)
                found = Void() if content is None else Value(content)
                self.complete(command.completion_id, found, completion_kind(command))
            case GetLazyStateKeys():
                names = StateKeys(tuple(sorted(self.state)))
                self.complete(command.completion_id, names, completion_kind(command))
            case SetState():
                self.state[command.state_key] = command.value.content
            case ClearState():
                self.state.pop(command.state_key, None)
            case ClearAllState():
                self.state.clear()
            case SendSignal():
                self.signals_sent.append(command)
            case CompleteAwakeable():
                self.completed_awakeables.append(command)
            case GetPromise() | PeekPromise():
                self._take_promise(command)
            case CompletePromise(promise_name=name, result=result):
                is_first = self.resolve_promise(name, result)
                self._take_promise(command, is_first=is_first)
            case GetInvocationOutput():
                kind = completion_kind(command)
                self.complete(command.completion_id, self.output, kind)
            case AttachInvocation():
                self._take_attach(command)
            case _:
                pass

    def resolve_promise(self, name: str, outcome: Outcome) -> bool:
        """Complete a promise as another invocation does; return whether it was the first."""
        if name in self.promises:
            return False
        self.promises[name] = outcome
        gets, self._promise_gets = self._promise_gets, []
        for get in gets:
            self._take_promise(get)
        return True

    def _take_promise(
        self, command: GetPromise | PeekPromise | CompletePromise, *, is_first: bool = False
    ) -> None:
        outcome = self.promises.get(command.promise_name)
        result: Result
        match command:
            case GetPromise():
                if outcome is None:
                    self._promise_gets.append(command)
                    return
                result = outcome
            case PeekPromise():
                result = Void() if outcome is None else outcome
            case CompletePromise():
                result = Void() if is_first else Failure(409, "promise already completed")
        self._pending.append(
            self._completion(command.completion_id, result, completion_kind(command))
        )

    def _take_attach(self, command: AttachInvocation) -> None:
        kind = completion_kind(command)
        self._pending.append(self._completion(command.completion_id, value("attached"), kind))

    def _take_call(self, call: Call) -> None:
        result = self._answer(call)
        if result is None:
            self._open_calls.append(call)
        else:
            self._pending.append(self._completion(call.completion_id, result, KIND_CALL))

    def _child(self, completion_id: int) -> None:
        self._children += 1
        child = print_invocation_id(self._children.to_bytes(24, "big"))
        self.complete(completion_id, ChildId(child), KIND_CHILD_ID)

    def on_closed(self, stream: Stream) -> None:
        pass

    # -- recording --------------------------------------------------------------------------------

    def record(self, entry: Entry) -> None:
        """Put an entry in the journal, and send it if it is a notification; then perhaps crash."""
        self.journal.append(entry)
        is_notification = isinstance(entry, Completion | Signal)
        if is_notification and self.attempt is not None and not self._is_input_closed:
            self.attempt.send([entry])
        if self._running and self._crash is not None and self._crash(len(self.journal)):
            self.crash()

    def complete(self, completion_id: int, result: Result, kind: int = 0) -> None:
        self.record(self._completion(completion_id, result, kind))

    def signal(self, index: int, result: Value | Failure | Void) -> None:
        self.now_ms += 1
        self.record(Signal(result, index, None, self.now_ms))

    def signal_later(self, index: int, result: Value | Failure | Void) -> None:
        """Let the signal come at a random moment, once."""
        if any(isinstance(e, Signal) and e.index == index for e in [*self._pending, *self.journal]):
            return
        self._pending.append(Signal(result, index, None, self.now_ms))

    def signal_named(self, name: str, result: Value | Failure) -> None:
        self.now_ms += 1
        self.record(Signal(result, None, name, self.now_ms))

    def signal_named_later(self, name: str, result: Value | Failure) -> None:
        """Let the signal come at a random moment, once for each value."""
        known = [e for e in [*self._pending, *self.journal] if isinstance(e, Signal)]
        if not any(e.name == name and e.result == result for e in known):
            self._pending.append(Signal(result, None, name, self.now_ms))

    def cancel(self) -> None:
        self.signal(SIGNAL_CANCEL, Void())

    def answer_calls(self, result: Outcome) -> None:
        calls, self._open_calls = self._open_calls, []
        for call in calls:
            self.complete(call.completion_id, result, KIND_CALL)

    def _completion(self, completion_id: int, result: Result, kind: int) -> Completion:
        self.now_ms += 1
        return Completion(kind, completion_id, result, self.now_ms)

    # -- looking ----------------------------------------------------------------------------------

    def commands(self) -> list[str]:
        """Keys of recorded commands, in order, without Input."""
        return [e.key for e in self.journal[1:] if not isinstance(e, Completion | Signal)]

    def runs(self) -> list[Run]:
        return [e for e in self.journal if isinstance(e, Run)]
