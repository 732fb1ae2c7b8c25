"""One attempt: the machine, driven by an event loop.

States, in order:

    open        user code runs; results are handed over one by one, each when all user code waits
    unwinding   the terminal message is out, or the server stopped the attempt; user code ends
    over        nothing of it is left on the loop; the server's end has been told

User code is *busy* while callbacks of it are scheduled (`sdk.loop` counts them). Everything that
the attempt does on its own account happens in `_pump`, when it is not busy: hand over the next
notification; else start the steps that replay left open; else send what was collected; else, if
nothing more can come, fail or suspend.

Bodies of steps that a journal holds without result start only when replay is through. Until then a
recorded cancellation or timeout may still take them back, as it did the first time.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from holdfast.domain.errors import UsageError
from holdfast.domain.message import (
    SIGNAL_CANCEL,
    DelayRule,
    Entry,
    Error,
    Failure,
    Notification,
    Outcome,
    Signal,
    Start,
    ToHandler,
    Value,
)
from holdfast.sdk.bodies import CODE_USER, Bodies, delay_of, describe, stack_of
from holdfast.sdk.branch import Branch, call_site, place
from holdfast.sdk.context import Context
from holdfast.sdk.emitter import Emitter
from holdfast.sdk.foreign import completed_start, error_without_rule
from holdfast.sdk.future import DurableFuture, DurableTimer
from holdfast.sdk.host import Host
from holdfast.sdk.interrupt import ENDED, Aborted, Cancelled, Interrupt, Suspended
from holdfast.sdk.journal import CODE_MISMATCH, JournalMismatch
from holdfast.sdk.loop import HandlerTask, hooks_of
from holdfast.sdk.machine import Machine
from holdfast.sdk.result import child_id, failure_of
from holdfast.sdk.retryable import AskedDelay, asked_delay
from holdfast.sdk.step import Step
from holdfast.sdk.trace import begin_attempt

if TYPE_CHECKING:
    from holdfast.sdk.handler import Handler
    from holdfast.transport.base import ServerStream

_logger = logging.getLogger(__name__)

_REAP_ROUNDS = 6
_REAP_ROUND_S = 5.0

_reapers: set[asyncio.Task[None]] = set()
"""Kept alive here: the loop holds tasks weakly."""


class Attempt:
    """The handler's end of one attempt; see `HandlerStream`.

    Args:
        handler: What to run.
        start: As received.
        entries: The journal so far.
        stream: The server's end.
        host: Clock and threads.

    Raises:
        LocalProtocolError: The journal cannot be replayed by this SDK.
    """

    def __init__(
        self,
        handler: Handler[Any, Any],
        start: Start,
        entries: Sequence[Entry],
        stream: ServerStream,
        host: Host,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        if not start.has_extensions:
            start = completed_start(start, entries, host.now_ms())
        self.machine = Machine(start, entries)
        self.handler = handler
        self.host = host
        self.context = Context(self)
        self.emitter = Emitter(self)
        self.is_open = True
        self.is_counting = True
        """Whether callbacks of user code are counted: until the attempt is over."""
        self.busy = 0
        """Callbacks of user code that are scheduled or running. Kept by `sdk.loop`."""
        self._thread = threading.get_ident()
        self._hooks = hooks_of(self.loop)
        self._stream = stream
        self._outside = contextvars.copy_context()
        self._outside.run(place.set, None)
        self._time_floor_s = 0.0
        self._seeds = 0
        self._bodies = Bodies(self)
        self._tasks: set[asyncio.Future[Any]] = set()
        """Tasks of user code, and bodies that were cancelled."""
        self._is_tick_scheduled = False
        self._is_pumping = False
        self._is_input_closed = False
        self._cancels_passed_on = 0
        self._failure: Error | None = None
        self._interrupt: Interrupt = Aborted("the handler has ended")
        self._reason: str | None = None
        self._error = ""
        """Why the attempt, or the invocation with it, has failed."""
        self._reaper: asyncio.Task[None] | None = None
        self._is_main_over = False
        context = self._outside.copy()
        context.run(place.set, Branch(self, ""))
        self.trace = begin_attempt(str(handler), start, entries)
        if self.trace is not None:
            self.trace.enter(context)
        self._root: asyncio.Task[None] = HandlerTask(self._main(), loop=self.loop, context=context)

    # -- the server calls -------------------------------------------------------------------------

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`."""
        if not self.is_open:
            return
        notifications = self.emitter.sift(notifications)
        self.machine.feed(notifications)
        if self._failure is not None and any(map(_is_cancel, notifications)):
            # It waits for other steps before it fails, and a cancellation should not wait for them.
            self._fail_at_once(self._failure)
        else:
            self._pump()

    def close_input(self) -> None:
        """See `HandlerStream`."""
        self._is_input_closed = True
        if self.is_open:
            self._pump()

    def abort(self) -> None:
        """See `HandlerStream`."""
        if self.is_open:
            self.machine.outgoing.clear()
            self._end(Aborted("the server closed it"), "aborted")

    @property
    def is_idle(self) -> bool:
        """Whether it waits for what the server knows of, and for nothing else."""
        return (
            not self.busy
            and not self._bodies.running
            and not self.machine.outgoing
            and self.emitter.is_idle
            and bool(self.machine.awaited())
        )

    # -- the loop's hooks call --------------------------------------------------------------------

    def on_quiescent(self) -> None:
        """All user code waits."""
        if self.is_open:
            self._pump()
        elif self.is_counting:
            self._reap()

    def add_task(self, task: asyncio.Future[Any]) -> None:
        """User code made a task."""
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def next_seed(self) -> tuple[int, int]:
        """Return a pair that is the same on replay and differs from all others."""
        self._seeds += 1
        return self.machine.start.random_seed, self._seeds

    @property
    def time_s(self) -> float:
        """The program's clock in seconds since the epoch. Moves when results are handed over."""
        is_here = threading.get_ident() == self._thread
        if not self.machine.now_ms and is_here and not self.machine.start.has_extensions:
            # In no branch: whoever asks first asks for all.
            self.machine.sys_now("start/now#0", self.host.now_ms())
        return max(self.machine.now_ms / 1000, self._time_floor_s)

    def read_clock(self, branch: Branch) -> None:
        """User code asks for the time: have the clock show it, as far as it is known."""
        is_here = threading.get_ident() == self._thread
        # Contexts travel to threads, where a look at the loop's clock must change nothing.
        if is_here and not self.machine.start.has_extensions:
            self.machine.sys_now(branch.key("now"), self.host.now_ms())

    def pass_time(self, until_s: float) -> None:
        """A timer has fired, so its time has come; rounding must not leave the clock before it."""
        self._time_floor_s = max(self._time_floor_s, until_s)

    def start_timer(
        self,
        branch: Branch,
        when_s: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> DurableTimer:
        """Make `loop.call_at` durable."""
        delay_ms = max(0, math.ceil((when_s - self.time_s) * 1000 - 1e-3))
        context = contextvars.copy_context() if context is None else context
        timer = DurableTimer(self, when_s, callback, args, context)
        timer.started(self.sleep(branch, "", delay_ms, call_site()))
        return timer

    # -- the context calls ------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise what ended the attempt, if something did.

        Raises:
            UsageError: HF0502, called in a thread: contexts travel there, but the loop does not.
        """
        if not self.is_open:
            raise self._interrupt
        if threading.get_ident() != self._thread:
            raise UsageError(
                "A durable call in a thread of its own",
                code="HF0502",
                hint="Make it in the handler's coroutines, and run blocking functions as steps: "
                "ctx.run(name, function).",
            )

    def mismatch(self, error: JournalMismatch) -> NoReturn:
        """End the attempt because the program differs from its journal."""
        self.machine.outgoing.clear()
        self._bodies.drop_deferred()
        self._fail_at_once(error.to_error())
        raise self._interrupt from error

    def sleep(self, branch: Branch, name: str, delay_ms: int, site: str) -> int:
        """Begin a durable timer and return its completion id."""
        wake_at_ms = self.host.now_ms() + delay_ms
        try:
            return self.machine.sys_sleep(
                branch.path, branch.key("sleep", name), name, wake_at_ms, site
            )
        except JournalMismatch as error:
            self.mismatch(error)

    def run(self, branch: Branch, step: Step, site: str) -> DurableFuture[Any]:
        """Begin a step, or take its result from the journal."""
        machine, leaf = self.machine, step.leaf
        leaf.invocation_id = machine.start.invocation_id
        leaf.step_key = branch.key("run", step.name)
        try:
            step.completion_id, step.command_index = machine.sys_run(
                branch.path, leaf.step_key, step.name, site
            )
        except JournalMismatch as error:
            self.mismatch(error)
        leaf.writer = self.emitter.writer_of(leaf.step_key, step.command_index)
        if machine.start.has_extensions:
            step.leaf.details = self.host.details
        future: DurableFuture[Any] = DurableFuture(self, step.completion_id, step.decode)
        machine.expect(step.completion_id, future)
        if not future.done():
            if machine.replay_left:
                self._bodies.defer(step, future)
            elif self._failure is None:
                self._bodies.start(step, future)
        return future

    def child_id(self, completion_id: int) -> DurableFuture[str]:
        """Return a future for the id of a called invocation."""
        future: DurableFuture[str] = DurableFuture(self, completion_id, child_id)
        known = self.machine.child_invocation_id(completion_id)
        if known is None:
            self.machine.expect(completion_id, future)
        else:
            future.set_result(known)
        return future

    def give_up(self, completion_id: int, *, is_failing: bool) -> None:
        """User code gave up the result of a call: cancel the called invocation."""
        if self.is_open:
            self.machine.give_up(completion_id, is_failing=is_failing)

    def cancel_step(self, completion_id: int) -> None:
        """Nobody wants the result of a step any more: stop its body."""
        self._bodies.cancel(completion_id)

    # -- the bodies of steps call -----------------------------------------------------------------

    def asked_delay(self, error: BaseException) -> AskedDelay | None:
        """Return when a failure asks to be tried again."""
        return asked_delay(error, self.host.now_ms())

    def keep(self, task: asyncio.Task[None]) -> None:
        """A body was cancelled: the attempt is not over before it is."""
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done, context=self._outside)

    # -- the handler ------------------------------------------------------------------------------

    async def _main(self) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await self._invoke()
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            # Whatever else it is, including SystemExit, must not take the process down.
            if self.is_open:
                self._fail_for(error)
        finally:
            self._is_main_over = True
        if outcome is not None and self.is_open:
            self._finish(outcome)

    async def _invoke(self) -> Outcome:
        outcome: Outcome
        try:
            outcome = Value(await self.handler.invoke(self.context, self.machine.input))
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            failure = failure_of(error)
            if failure is None:
                raise
            outcome = failure
        machine = self.machine
        for number in machine.perhaps_given_up:
            machine.give_up(number)
        machine.sys_tell_given_up()
        while self.is_open and machine.given_up:
            # Calls that were given up before their ids were known. No place for a cancellation.
            child, _ = next(iter(machine.given_up.values()))
            future = self.child_id(child)
            future.is_shielded = True
            await future
            machine.sys_tell_given_up()
        return outcome

    def _fail_for(self, error: BaseException) -> None:
        asked = self.asked_delay(error)
        delay_ms, rule = (None, DelayRule.UNCOUNTED) if asked is None else delay_of(asked)
        self.fail(
            Error(
                CODE_USER,
                describe(error),
                stack_of(error),
                next_retry_delay_ms=delay_ms,
                delay_rule=rule,
            )
        )

    def _finish(self, outcome: Outcome) -> None:
        try:
            self.machine.sys_output(outcome)
        except JournalMismatch as error:
            self.machine.outgoing.clear()
            self._fail_at_once(error.to_error())
            return
        self._flush()
        self._error = outcome.message if isinstance(outcome, Failure) else ""
        self.is_open = False
        self.emitter.end(self._interrupt)
        self._bodies.stop()
        if not self._tasks:
            self._over()

    def _on_task_done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not self.is_open and not task.cancelled():
            task.exception()  # Mark it retrieved: nobody is left to look at it.

    # -- the pump ---------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Do what can be done while all user code waits. Called at any time."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self.is_open and not self.busy and (self._hand_over() or self._settle()):
                pass
        finally:
            self._is_pumping = False

    def _hand_over(self) -> bool:
        """Hand over one result. Returns whether there was something to do."""
        machine = self.machine
        if self._failure is not None:
            return False
        if machine.given_up or machine.asks_given_up:
            machine.sys_tell_given_up()
        if machine.cancel_count and self._raise_cancelled():
            return True
        if not machine.has_arrivals:
            return False
        arrival = machine.take()
        if arrival is not None:
            arrival.waiter.on_result(arrival.result)
        return True

    def _settle(self) -> bool:
        """Nothing to hand over now. Returns whether something has come up meanwhile."""
        if self._failure is None:
            self._bodies.start_deferred()
        if self.machine.outgoing:
            if self._bodies.has_fresh:
                # A body that ends at once is recorded together with its step.
                self.schedule_tick()
            else:
                self._flush()
                if self.machine.has_arrivals and self._failure is None:
                    return True
        if self._bodies.running or not self.is_open:
            return False
        if self._failure is not None:
            self._fail_at_once(self._failure)
        elif self._is_input_closed and not self.machine.has_arrivals:
            self._suspend()
        return False

    def _raise_cancelled(self) -> bool:
        """Raise a cancellation where user code waits, if it does."""
        machine = self.machine
        if not machine.can_pass_cancel_on():
            return False
        waiters = [
            waiter
            for waiter in machine.awaited()
            if not waiter.is_shielded
            and (not isinstance(waiter, DurableTimer) or waiter.is_sleep())
        ]
        if not waiters:
            return False
        try:
            machine.sys_pass_cancel_on(self._cancels_passed_on)
        except JournalMismatch as error:
            machine.outgoing.clear()
            self._fail_at_once(error.to_error())
            return True
        self._cancels_passed_on += 1
        machine.cancel_count -= 1
        for waiter in waiters:
            waiter.on_failure(Cancelled(machine.cancel_message))
            if isinstance(waiter, DurableFuture):
                waiter.release()
        return True

    def _suspend(self) -> None:
        suspension = self.machine.suspension()
        if suspension.completions or len(suspension.signals) > 1 or suspension.named_signals:
            self._bodies.guards.withdraw(is_suspending=True)
            self.machine.outgoing.append(suspension)
            self._flush()
            self._end(Suspended(), None)
        # Otherwise user code waits for something that is not durable: let it.

    # -- sending ----------------------------------------------------------------------------------

    def schedule_tick(self) -> None:
        """Send what is collected, at the end of this turn of the loop."""
        if not self._is_tick_scheduled:
            self._is_tick_scheduled = True
            self._hooks.call_soon(self._tick, context=self._outside)

    def _tick(self) -> None:
        self._is_tick_scheduled = False
        self._bodies.has_fresh = False
        if self.is_open:
            self._flush()
            self._pump()

    def _flush(self) -> None:
        """Send what was collected."""
        messages = self.emitter.put_before(self.machine.outgoing)
        if messages:
            self.machine.outgoing = []
            self._call_outside(self._stream.on_messages, messages)

    def _call_outside(self, call: Callable[..., None], *args: Any) -> None:
        """Call the server without a trace of user code: tasks it makes are not the handler's."""
        if place.get() is None:
            call(*args)
        else:
            self._outside.copy().run(call, *args)

    # -- the end ----------------------------------------------------------------------------------

    def fail(self, error: Error) -> None:
        """Let the bodies that run end, so that what they cost is not lost; then fail.

        Of several errors the first is told, unless a later one ends or pauses the invocation.
        """
        if self._failure is None or error.behavior > self._failure.behavior:
            self._failure = error
            self._bodies.drop_deferred()
        self.schedule_tick()

    def _fail_at_once(self, error: Error) -> None:
        if error.code != CODE_MISMATCH:
            self._bodies.guards.withdraw(is_suspending=False)
        failed = self._bodies.failed
        start = self.machine.start
        if not start.has_extensions:
            error = error_without_rule(error, start, self.host.retry_of(self.handler))
        if failed:
            # Each is counted by its own policy, whichever error is told.
            error = msgspec.structs.replace(
                error,
                related_completion_id=failed[0],
                failed_steps=tuple(failed),
                failed_details=tuple(self._bodies.failed_details),
            )
        self._error = error.message
        self.machine.outgoing.append(error)
        self._flush()
        self._end(Aborted(f"it failed: {error.message}"), None)

    def _end(self, interrupt: Interrupt, reason: str | None) -> None:
        """Unwind user code."""
        self.is_open = False
        self._interrupt = interrupt
        self._reason = reason
        self.emitter.end(interrupt)
        for waiter in self.machine.drop_all():
            waiter.on_failure(interrupt)
        self._bodies.stop()
        if not self.busy:
            self._reap()

    def _reap(self) -> None:
        """User code has had its chance to end by itself: cancel what is left of it."""
        if self._reaper is not None:
            return
        if not self._leftovers():
            self._over()
            return
        self._reaper = asyncio.Task(
            self._reap_leftovers(), loop=self.loop, context=self._outside.copy()
        )
        _reapers.add(self._reaper)
        self._reaper.add_done_callback(_reapers.discard)

    async def _reap_leftovers(self) -> None:
        for _ in range(_REAP_ROUNDS):
            leftovers = self._leftovers()
            if not leftovers:
                break
            for task in leftovers:
                task.cancel(ENDED)
            await asyncio.wait(leftovers, timeout=_REAP_ROUND_S)
        else:
            _logger.warning(
                "user code of an ended attempt does not end: it catches cancellation",
                extra={"invocation_id": self.machine.start.invocation_id},
            )
        self._over()

    def _leftovers(self) -> list[asyncio.Future[Any]]:
        tasks = [task for task in self._tasks if not task.done()]
        if not self._is_main_over and not self._root.done():
            tasks.append(self._root)
        return tasks

    def _over(self) -> None:
        if self.is_counting:
            self.is_counting = False
            if self.trace is not None:
                self.trace.end(self._error)
            if self.machine.differences:
                _logger.debug(
                    "the handler asks for other things than the journal has, which is allowed",
                    extra={
                        "invocation_id": self.machine.start.invocation_id,
                        "differences": self.machine.differences,
                    },
                )
            self._call_outside(self._stream.on_closed, self._reason)


def _is_cancel(notification: Notification) -> bool:
    return isinstance(notification, Signal) and notification.index == SIGNAL_CANCEL
