"""The replay machine: what one attempt has said and heard, and what it may say next. Sans-IO.

An attempt begins with the journal so far. Its commands are kept by **key**: branch path, kind, name
and occurrence (`run:fetch weather#0`, `Weather.check[0]/run:fetch#1`). Its notifications are kept
in recorded order, and live ones are put behind them.

The shell calls a `sys_…` method for each durable operation of user code, with the branch's path and
the operation's key:

- The key is recorded: the record is *claimed*. Nothing is sent; ids and results are re-read.
- The key is new: a command is put in `outgoing`, and ids are allocated after the largest recorded.
- The key is new, but the branch still has recorded commands that were not claimed: the program has
  changed. `JournalMismatch`. Two recorded commands of a branch in another order do pass; so does a
  new command behind the recorded ones.

When all user code waits, the shell calls `take` and hands exactly one notification on. A
notification whose operation has not been made yet is held, and is handed over when it is made.
So the order in which user code sees results is the recorded order, on the first run and on replay.
Signals of one name are a queue: each goes to the one who has asked longest, or is held.

What is compared with the record: kind and name (both are in the key), and for calls service,
handler and object key. Parameters are not compared: the recorded ones were sent, and encoders may
change under a running invocation. `differences` lists them for debugging. For timers the recorded
time holds, for state reads the recorded value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import xxhash
from msgspec.structs import replace

from holdfast.domain.detail import StepDetail
from holdfast.domain.errors import UsageError
from holdfast.domain.message import (
    SIGNAL_CANCEL,
    SIGNAL_INDEX_FIRST,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    End,
    Entry,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
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
    Suspension,
    Value,
    Void,
)
from holdfast.sdk.asking import Asking
from holdfast.sdk.journal import branch_of
from holdfast.sdk.local_state import LocalState
from holdfast.sdk.program_clock import Readings
from holdfast.sdk.step_try import StepTries

_READS: tuple[type[GetEagerState | GetLazyState], ...] = (GetEagerState, GetLazyState)
_LISTINGS: tuple[type[GetEagerStateKeys | GetLazyStateKeys], ...] = (
    GetEagerStateKeys,
    GetLazyStateKeys,
)
_PROMISES: tuple[type[GetPromise | PeekPromise | CompletePromise], ...] = (
    GetPromise,
    PeekPromise,
    CompletePromise,
)
_SIGNAL_SPACE = 2**31


class Waiter(Protocol):
    """What waits for a result: a future or a timer of the shell."""

    def on_result(self, result: Result) -> None:
        """Take the result. Called at most once."""
        ...

    def on_failure(self, error: BaseException) -> None:
        """Fail instead. Called at most once, and not after `on_result`."""
        ...

    def is_awaited(self) -> bool:
        """Return whether user code waits for it, as opposed to merely holding it."""
        ...

    @property
    def is_shielded(self) -> bool:
        """Whether cancellations of the invocation pass over it."""
        ...


class Arrival(NamedTuple):
    """A notification whose turn has come."""

    waiter: Waiter
    result: Result


class Machine(Asking):
    """State of one attempt.

    Args:
        start: As received.
        entries: The journal so far, in recorded order; the first is Input.
    """

    def __init__(self, start: Start, entries: Sequence[Entry]) -> None:
        super().__init__(
            start.invocation_id, (e for e in entries if not isinstance(e, Completion | Signal))
        )
        self.start = start
        self.now_ms = start.created_at_ms
        """Time of the latest notification that was handed over: the program's clock."""
        self.cancel_count = 0
        """Cancellations whose turn has come and that user code has not seen."""
        self.cancel_message = ""
        """Why, of the latest one."""
        self.state = LocalState(start)
        self._clock = Readings(self._readings, entries)
        self.tries = StepTries(start, self._tries, entries, self._write)

        self._notifications: deque[Notification] = deque(
            e for e in entries if isinstance(e, Completion | Signal)
        )
        self.replay_left = len(self._notifications)
        """Recorded notifications whose turn has not come."""
        self._waiting: dict[int, Waiter] = {}
        self._held: dict[int, Result] = {}
        self._signals_waiting: dict[int, Waiter] = {}
        self._signals_held: dict[int, Result] = {}
        self._signal_keys: dict[int, str] = {}
        self._named_waiting: dict[str, list[Waiter]] = {}
        """By name of the signal, in the order in which they were made. No list is empty."""
        self._named_held: dict[str, deque[Result]] = {}
        self._wake_at_ms: dict[int, int] = {}
        self._calls: dict[int, tuple[int, str]] = {}
        """Calls without outcome, by completion id: completion id of the child's id, and key."""
        self._child_ids: dict[int, str] = {}
        self.given_up: dict[int, tuple[int, str]] = {}
        """Calls whose result user code gave up and that were not told; values as in `_calls`."""
        self.perhaps_given_up: list[int] = []
        """Calls that it gave up because of an error. It holds if the handler ends all the same."""

    # -- facts ------------------------------------------------------------------------------------

    @property
    def is_replaying(self) -> bool:
        """Whether something recorded is still to come."""
        return bool(self._recorded) or self.replay_left > 0

    def child_invocation_id(self, completion_id: int) -> str | None:
        """Return the id of a called invocation if its turn has come."""
        return self._child_ids.get(completion_id)

    # -- notifications ----------------------------------------------------------------------------

    def feed(self, notifications: Iterable[Notification]) -> None:
        """Put live notifications behind those that have not had their turn."""
        self._notifications.extend(notifications)

    @property
    def has_arrivals(self) -> bool:
        """Whether there are notifications that have not had their turn."""
        return bool(self._notifications)

    def pending(self) -> list[Notification]:
        """Return the recorded notifications whose turn has not come."""
        return list(self._notifications)[: self.replay_left]

    def take(self) -> Arrival | None:
        """Give the next notification its turn. Returns None if nobody waits for it.

        Call only when all user code waits, and look at `cancel_count` before each call: it is one
        of the things that may have arrived.
        """
        notification = self._notifications.popleft()
        if self.replay_left:
            self.replay_left -= 1
        self._clock.on_turn(notification)
        if notification.at_ms > self.now_ms:
            self.now_ms = notification.at_ms
        if isinstance(notification, Completion):
            return self._take_completion(notification)
        if notification.index == SIGNAL_CANCEL:
            self.cancel_count += 1
            why = notification.result
            self.cancel_message = why.message if isinstance(why, Failure) else "cancelled"
            return None
        return self._take_signal(notification)

    def _take_completion(self, completion: Completion) -> Arrival | None:
        number, result = completion.completion_id, completion.result
        wake_at_ms = self._wake_at_ms.pop(number, 0)
        if wake_at_ms > self.now_ms:
            # Servers that do not stamp notifications: the clock must still have passed the timer.
            self.now_ms = wake_at_ms
        if type(result) is ChildId:
            self._child_ids[number] = result.invocation_id
        else:
            self._calls.pop(number, None)
        waiter = self._waiting.pop(number, None)
        if waiter is None:
            self._held[number] = result
            return None
        return Arrival(waiter, result)

    def _take_signal(self, signal: Signal) -> Arrival | None:
        if signal.index is None:
            return self._take_named(signal.name or "", signal.result)
        waiter = self._signals_waiting.pop(signal.index, None)
        if waiter is None:
            self._signals_held.setdefault(signal.index, signal.result)
            return None
        return Arrival(waiter, signal.result)

    def _take_named(self, name: str, result: Result) -> Arrival | None:
        waiters = self._named_waiting.get(name)
        if waiters is None:
            self._named_held.setdefault(name, deque()).append(result)
            return None
        waiter = waiters[0]
        self.forget_named(name, waiter)
        return Arrival(waiter, result)

    def expect(self, completion_id: int, waiter: Waiter) -> None:
        """Register who waits for a completion. Hands over at once what is held."""
        result = self._held.pop(completion_id, None)
        if result is None:
            self._waiting[completion_id] = waiter
        else:
            waiter.on_result(result)

    def expect_signal(self, index: int, waiter: Waiter) -> None:
        """Register who waits for a signal. Hands over at once what is held."""
        result = self._signals_held.pop(index, None)
        if result is None:
            self._signals_waiting[index] = waiter
        else:
            waiter.on_result(result)

    def expect_named(self, name: str, waiter: Waiter) -> None:
        """Register who waits for the next signal of a name. Hands over at once what is held."""
        held = self._named_held.get(name)
        if held:
            waiter.on_result(held.popleft())
        else:
            self._named_waiting.setdefault(name, []).append(waiter)

    def forget(self, completion_id: int) -> None:
        """Nobody waits for this completion any more."""
        self._waiting.pop(completion_id, None)

    def forget_signal(self, index: int) -> None:
        """Nobody waits for this signal any more."""
        self._signals_waiting.pop(index, None)

    def forget_named(self, name: str, waiter: Waiter) -> None:
        """This one does not wait for a signal of this name any more."""
        left = [other for other in self._named_waiting.pop(name, ()) if other is not waiter]
        if left:
            self._named_waiting[name] = left

    def awaited(self) -> list[Waiter]:
        """Return what user code waits for, oldest operation of each kind first."""
        return [waiter for waiter in self._waiters() if waiter.is_awaited()]

    def drop_all(self) -> list[Waiter]:
        """Forget everything that is waited for, and return it."""
        waiters = self._waiters()
        self._waiting.clear()
        self._signals_waiting.clear()
        self._named_waiting.clear()
        return waiters

    def _waiters(self) -> list[Waiter]:
        named = (waiter for waiters in self._named_waiting.values() for waiter in waiters)
        return [*self._waiting.values(), *self._signals_waiting.values(), *named]

    # -- the clock --------------------------------------------------------------------------------

    def sys_now(self, key: str, at_ms: int) -> int:
        """Read the program's clock where the server does not say when things were recorded.

        Args:
            key: Of kind `now`.
            at_ms: Wall clock.

        Returns:
            Milliseconds since the epoch; never less than before.
        """
        read_ms = self._clock.recorded_ms(key)
        number = self._clock.begun(key)
        if read_ms is None:
            if number is None:
                if not self._clock.is_stale:
                    return self.now_ms
                number = self._allocate()
                self._clock.begin(key, number)
                self._emit(Run(number, "now", key, ""))
            read_ms = max(at_ms, self.now_ms)
            self.sys_propose(number, Value(b"%d" % read_ms))
        self._clock.is_stale = False
        self.now_ms = max(self.now_ms, read_ms)
        return self.now_ms

    # -- operations: all return what is needed to wait --------------------------------------------

    def sys_run(self, path: str, key: str, name: str, site: str) -> tuple[int, int]:
        """A step. Returns (completion id, command index). Without completion it runs again."""
        found = self._claim(path, key, "run", name, site, Run)
        if found is not None:
            return found[0].completion_id, found[1]
        number = self._allocate()
        return number, self._emit(Run(number, name, key, site))

    def sys_propose(
        self, completion_id: int, result: Outcome, detail: StepDetail | None = None
    ) -> None:
        """The result of a step, to be recorded."""
        self.outgoing.append(ProposeRunCompletion(completion_id, result, detail))

    def sys_sleep(self, path: str, key: str, name: str, wake_at_ms: int, site: str) -> int:
        """A timer. Returns the completion id. If it is recorded, the recorded time holds."""
        found = self._claim(path, key, "sleep", name, site, Sleep)
        if found is not None:
            command = found[0]
        else:
            command = Sleep(wake_at_ms, self._allocate(), name, key, site)
            self._emit(command)
        self._wake_at_ms[command.completion_id] = command.wake_up_at_ms
        if command.completion_id in self._held:
            self.now_ms = max(self.now_ms, command.wake_up_at_ms)
        return command.completion_id

    def sys_call(self, path: str, command: Call) -> Call:
        """A call. Returns it with the completion ids that count."""
        target = f"{command.service}/{command.handler}"
        found = self._claim(path, command.key, "call", target, command.site, Call)
        if found is not None:
            call = found[0]
            self._compare_call(path, call, command)
        else:
            child, number = self._allocate(), self._allocate()
            call = Call(
                command.service, command.handler, command.parameter, command.object_key,
                command.headers, command.idempotency_key, child, number,
                command.name, command.key, command.site, command.retry,
            )  # fmt: skip
            self._emit(call)
        if call.completion_id not in self._held:
            self._calls[call.completion_id] = (call.invocation_id_completion_id, call.key)
        return call

    def sys_send(self, path: str, command: OneWayCall) -> int:
        """A one-way call. Returns the completion id of the child's id."""
        target = f"{command.service}/{command.handler}"
        found = self._claim(path, command.key, "send", target, command.site, OneWayCall)
        if found is not None:
            self._compare_call(path, found[0], command)
            return found[0].invocation_id_completion_id
        number = self._allocate()
        send = OneWayCall(
            command.service, command.handler, command.parameter, command.object_key,
            command.headers, command.idempotency_key, command.invoke_at_ms, number,
            command.name, command.key, command.site, command.retry,
        )  # fmt: skip
        self._emit(send)
        return number

    def sys_attach(self, path: str, key: str, invocation_id: str, site: str) -> int:
        """Wait for another invocation. Returns the completion id."""
        found = self._claim(path, key, "attach", invocation_id, site, AttachInvocation)
        if found is not None:
            return found[0].completion_id
        number = self._allocate()
        self._emit(AttachInvocation(invocation_id, number, "", key, site))
        return number

    def sys_peek(self, path: str, key: str, invocation_id: str, site: str) -> int:
        """Ask for the outcome of another invocation. Returns the completion id."""
        found = self._claim(path, key, "output", invocation_id, site, GetInvocationOutput)
        if found is not None:
            return found[0].completion_id
        number = self._allocate()
        self._emit(GetInvocationOutput(invocation_id, number, "", key, site))
        return number

    def sys_get(
        self, path: str, key: str, name: str, site: str, at_ms: int = 0
    ) -> Void | Value | int:
        """A state read. Returns the value, or the completion id to wait for.

        Args:
            at_ms: The worker's time: entries that have expired by then do not exist.
        """
        found = self._claim(path, key, "get", name, site, _READS)
        if found is not None:
            command = found[0]
            return command.result if isinstance(command, GetEagerState) else command.completion_id
        # An eager read uses up an id, though it never shows: the protocol's rule.
        number = self._allocate()
        if self.state.is_known(name):
            content = self.state.get(name, max(at_ms, self.now_ms))
            result = Void() if content is None else Value(content)
            self._emit(GetEagerState(name, result, "", key, site))
            return result
        self._emit(GetLazyState(name, number, "", key, site))
        return number

    def sys_keys(self, path: str, key: str, site: str, at_ms: int = 0) -> StateKeys | int:
        """A listing of state names. Returns it, or the completion id to wait for."""
        found = self._claim(path, key, "keys", "", site, _LISTINGS)
        if found is not None:
            command = found[0]
            if isinstance(command, GetEagerStateKeys):
                return StateKeys(command.keys)
            return command.completion_id
        number = self._allocate()
        if self.state.is_complete:
            names = self.state.names(max(at_ms, self.now_ms))
            self._emit(GetEagerStateKeys(names, "", key, site))
            return StateKeys(names)
        self._emit(GetLazyStateKeys(number, "", key, site))
        return number

    def sys_set(
        self, path: str, key: str, name: str, content: bytes, site: str, expires_at_ms: int = 0
    ) -> None:
        """A state write. Recorded writes are in `Start.state` already."""
        if self._claim(path, key, "set", name, site, SetState) is None:
            self._emit(SetState(name, Value(content), "", key, site, expires_at_ms))
            self.state.put(name, content, expires_at_ms)

    def sys_clear(self, path: str, key: str, name: str, site: str) -> None:
        """Remove one state entry."""
        if self._claim(path, key, "clear", name, site, ClearState) is None:
            self._emit(ClearState(name, "", key, site))
            self.state.remove(name)

    def sys_clear_all(self, path: str, key: str, site: str) -> None:
        """Remove all state."""
        if self._claim(path, key, "clear_all", "", site, ClearAllState) is None:
            self._emit(ClearAllState("", key, site))
            self.state.clear()

    def sys_awakeable(self, key: str) -> int:
        """A promise for the outside. Returns its signal index: a function of the key.

        Raises:
            UsageError: HF0503, two keys of one attempt have the same index. Rename one.
        """
        index = SIGNAL_INDEX_FIRST + xxhash.xxh3_64_intdigest(key.encode()) % _SIGNAL_SPACE
        other = self._signal_keys.setdefault(index, key)
        if other != key:
            raise UsageError(
                f"The awakeables {other!r} and {key!r} of {self.start.invocation_id} have the same "
                f"signal index {index}",
                code="HF0503",
                hint="Give one of them a name: ctx.awakeable(name=…).",
            )
        return index

    def sys_complete_awakeable(
        self, path: str, key: str, awakeable_id: str, result: Outcome, site: str
    ) -> None:
        """Resolve or reject an awakeable of any invocation."""
        kind = "resolve" if isinstance(result, Value) else "reject"
        if self._claim(path, key, kind, awakeable_id, site, CompleteAwakeable) is None:
            self._emit(CompleteAwakeable(awakeable_id, result, "", key, site))

    def sys_cancel(self, path: str, key: str, invocation_id: str, site: str) -> None:
        """Cancel another invocation."""
        self._cancel(path, key, invocation_id, site, is_passed_on=False)

    def _cancel(
        self, path: str, key: str, invocation_id: str, site: str, *, is_passed_on: bool
    ) -> None:
        if self._claim(path, key, "cancel", invocation_id, site, SendSignal) is None:
            self._emit(
                SendSignal(invocation_id, Void(), SIGNAL_CANCEL, None, "", key, site, is_passed_on)
            )

    def sys_signal(
        self, path: str, key: str, invocation_id: str, name: str, result: Outcome, site: str
    ) -> None:
        """Send a named signal to another invocation."""
        kind = "send_signal" if isinstance(result, Value) else "reject_signal"
        if self._claim(path, key, kind, f"{invocation_id} {name}", site, SendSignal) is None:
            self._emit(SendSignal(invocation_id, result, None, name, "", key, site))

    def give_up(self, completion_id: int, *, is_failing: bool = False) -> None:
        """User code does not want the result of a call any more: `sys_tell_given_up` cancels it.

        Args:
            is_failing: It is because the attempt seems to fail, so it holds only if it does not.
        """
        if is_failing:
            self.perhaps_given_up.append(completion_id)
            return
        call = self._calls.pop(completion_id, None)
        if call is not None:
            self.given_up[completion_id] = call

    def sys_tell_given_up(self) -> None:
        """Cancel the invocations whose result was given up, as far as their ids are known.

        Call only when all user code waits, or has ended with an outcome: what an attempt gives up
        while it fails, the next attempt may want.
        """
        self.sys_withdraw()
        for number, (child, call_key) in list(self.given_up.items()):
            if child in self._child_ids:
                del self.given_up[number]
                child_id = self._child_ids[child]
                self._cancel(call_key, f"{call_key}/cancel#0", child_id, "", is_passed_on=True)

    def can_pass_cancel_on(self) -> bool:
        """Return whether the ids of all invocations that we wait for are known."""
        return all(child in self._child_ids for child, _ in self._calls.values())

    def sys_pass_cancel_on(self, occurrence: int) -> None:
        """Cancel all invocations that we called and that have not answered, once."""
        path = f"cancel[{occurrence}]"
        calls, self._calls = self._calls, {}
        for child, call_key in calls.values():
            name = call_key.replace("/", "|")
            child_id = self._child_ids[child]
            self._cancel(path, f"{path}/cancel:{name}#0", child_id, "", is_passed_on=True)

    def sys_promise(
        self, path: str, kind: str, command: GetPromise | PeekPromise | CompletePromise
    ) -> int:
        """An operation on a promise of the workflow key. Returns the completion id."""
        name, site = command.promise_name, command.site
        found = self._claim(path, command.key, kind, name, site, _PROMISES)
        if found is not None:
            return found[0].completion_id
        number = self._allocate()
        self._emit(replace(command, completion_id=number))
        return number

    # -- endings ----------------------------------------------------------------------------------

    def sys_output(self, result: Outcome) -> None:
        """The invocation's outcome, and the end. A recorded Output is not repeated.

        Raises:
            JournalMismatch: Recorded commands were never claimed.
        """
        key = "output#0"
        recorded = self._recorded.pop(key, None)
        if self._recorded:
            command, _ = next(iter(self._recorded.values()))
            raise self._mismatch(branch_of(command.key), "the handler has ended", command)
        if recorded is None:
            self._emit(Output(result, "", key, ""))
        self.outgoing.append(End())

    def suspension(self) -> Suspension:
        """Return what any one of would let user code go on; cancellation always does."""
        completions = {n for n, waiter in self._waiting.items() if waiter.is_awaited()}
        signals = {n for n, waiter in self._signals_waiting.items() if waiter.is_awaited()}
        names = {
            name
            for name, waiters in self._named_waiting.items()
            if any(waiter.is_awaited() for waiter in waiters)
        }
        if self.cancel_count:
            completions |= {c for c, _ in self._calls.values() if c not in self._child_ids}
        completions |= {c for c, _ in self.given_up.values() if c not in self._child_ids}
        return Suspension(
            tuple(sorted(completions)),
            tuple(sorted({SIGNAL_CANCEL} | signals)),
            tuple(sorted(names)),
        )
