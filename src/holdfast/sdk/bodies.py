"""The bodies of an attempt's steps: which run, which wait for replay to end, which have failed."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

from holdfast.domain.detail import FailedStep
from holdfast.domain.errors import UsageError
from holdfast.domain.message import DelayRule, Error, Failure, Outcome, Run, message_type
from holdfast.sdk.foreign import with_own_count
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.guard import Guards
from holdfast.sdk.interrupt import ENDED
from holdfast.sdk.result import failure_of, noted_metadata
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.retryable import AskedDelay
from holdfast.sdk.step import Step

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

CODE_USER = 500

_BEHAVIOR_RETRY = 0
_BEHAVIOR_PAUSE = 1
_BEHAVIOR_FAIL = 2


class Bodies:
    """The bodies of one attempt's steps."""

    def __init__(self, attempt: Attempt) -> None:
        self.running: dict[int, Step] = {}
        """Steps whose body runs, by completion id."""
        self.failed: list[int] = []
        """Completion ids of steps that failed without an outcome, in order."""
        self.failed_details: list[FailedStep] = []
        """What those were that said so."""
        self.has_fresh = False
        """Whether a body was started in this turn of the loop."""
        self.guards = Guards(attempt, self)
        self._attempt = attempt
        self._deferred: dict[int, tuple[Step, DurableFuture[Any]]] = {}
        """Steps whose body starts when replay is through, unless a result was recorded."""

    def defer(self, step: Step, future: DurableFuture[Any]) -> None:
        """Start a body when replay is through, unless its future is done by then."""
        self._deferred[step.completion_id] = (step, future)

    def start_deferred(self) -> None:
        """Replay is through."""
        if self._deferred:
            deferred, self._deferred = self._deferred, {}
            for step, future in deferred.values():
                if not future.done():
                    self.start(step, future)

    def drop_deferred(self) -> None:
        """Start no more of them."""
        self._deferred.clear()

    def cancel(self, completion_id: int) -> None:
        """Stop a body whose result nobody wants."""
        self._deferred.pop(completion_id, None)
        self.guards.cancel(completion_id)
        step = self.running.pop(completion_id, None)
        if step is not None and step.task is not None:
            self._attempt.keep(step.task)
            step.task.cancel(ENDED)
            self._attempt.schedule_tick()

    def stop(self) -> None:
        """Stop all."""
        self._deferred.clear()
        self.guards.stop()
        for completion_id in list(self.running):
            self.cancel(completion_id)

    def start(self, step: Step, future: DurableFuture[Any]) -> None:
        """Run a body, or do what comes before it."""
        if step.is_guarded:
            self.guards.start(step, future)
        else:
            self.launch(step)

    def refuse(self, step: Step, error: UsageError) -> None:
        """Fail a step whose body cannot begin."""
        self._on_failed(step, error, has_run=False)

    def launch(self, step: Step) -> None:
        """Run a body."""
        self.running[step.completion_id] = step
        self.has_fresh = True
        self._attempt.emitter.begin(step.leaf.writer)
        if self._attempt.trace is not None:
            self._attempt.trace.begin_step(step)
        step.task = asyncio.Task(self._run(step), loop=self._attempt.loop, context=step.context)

    async def _run(self, step: Step) -> None:
        trace = self._attempt.trace
        try:
            result: Outcome = await step.execute(self._attempt.host.executor)
            if trace is not None:
                trace.end_step(step)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:
            if trace is not None:
                trace.end_step(step, describe(error))
            failure = failure_of(error)
            if failure is None:
                if self.running.pop(step.completion_id, None) is not None:
                    self._on_failed(step, error)
                return
            result = failure
        if self.running.pop(step.completion_id, None) is not None:
            self._attempt.machine.sys_propose(step.completion_id, result, step.leaf.detail)
            self._attempt.schedule_tick()

    def _on_failed(self, step: Step, error: BaseException, *, has_run: bool = True) -> None:
        asked = self._attempt.asked_delay(error)
        delay_ms, rule = (None, DelayRule.UNCOUNTED) if asked is None else delay_of(asked)
        behavior = _BEHAVIOR_RETRY
        if step.retry is not None:
            delay_ms, rule = self._policy_delay_ms(step, step.retry, asked), DelayRule.UNCOUNTED
            if delay_ms is None:
                match step.retry.on_max_attempts:
                    case "pause":
                        behavior = _BEHAVIOR_PAUSE
                    case "kill":
                        behavior = _BEHAVIOR_FAIL
                    case None:
                        failure = Failure(CODE_USER, describe(error), noted_metadata(error))
                        self._attempt.machine.sys_propose(
                            step.completion_id, failure, step.leaf.detail
                        )
                        self._attempt.schedule_tick()
                        return
        if step.is_guarded and has_run and not step.is_unknown:
            at_ms = self._attempt.host.now_ms()
            self._attempt.machine.tries.end(step.key, step.name, "failed", at_ms)
        self.failed.append(step.completion_id)
        if step.leaf.detail is not None:
            self.failed_details.append(FailedStep(step.completion_id, step.leaf.detail))
        self._attempt.fail(
            Error(
                CODE_USER,
                f"step {step.name!r} failed: {describe(error)}",
                stack_of(error),
                related_command_index=step.command_index,
                related_command_name=step.name,
                related_command_type=message_type(Run(0)),
                next_retry_delay_ms=delay_ms,
                behavior=behavior,
                delay_rule=rule,
            )
        )

    def _policy_delay_ms(
        self, step: Step, policy: RetryPolicy, asked: AskedDelay | None
    ) -> int | None:
        """Return the wait by the step's own policy, or None when it is used up."""
        failures = self._attempt.machine.start.step_failures
        known = next((f for f in failures if f.completion_id == step.completion_id), None)
        count, elapsed_ms = 1, 0
        if step.is_guarded and not self._attempt.machine.start.has_extensions:
            known = with_own_count(known, self._attempt.machine.tries.failures(step.key))
        if known is not None:
            count += known.count
            elapsed_ms = max(0, self._attempt.host.now_ms() - known.since_ms)
        return policy.to_schedule().delay_ms(
            count,
            elapsed_ms,
            chosen_ms=None if asked is None or asked.is_least else asked.delay_ms,
            least_ms=asked.delay_ms if asked is not None and asked.is_least else 0,
        )


def delay_of(asked: AskedDelay) -> tuple[int, DelayRule]:
    """Return what an error asks for in the terms of the protocol."""
    return asked.delay_ms, DelayRule.LEAST if asked.is_least else DelayRule.CHOSEN


def describe(error: BaseException) -> str:
    """Return type and text of an error."""
    try:
        text = str(error)
    except Exception:  # Code of others, on which the end of the attempt must not depend.
        text = "(its text cannot be read)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def stack_of(error: BaseException) -> str:
    """Return the traceback of an error."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # The traceback module looks at the error's own attributes and methods.
        return ""
