"""Steps with `on_unknown`: their bodies begin when that is recorded, and once unless all is known.

`sdk.step_try` has the records, and says where a step stands. Here is what is done about it, when
replay is through and the step has no result:

    new      record that it begins; wait for that record; run the body
    half     the same, with the record that is there
    ready    the attempt before this one has waited for the record: run the body
    unknown  do what `on_unknown` says

An attempt whose input is closed cannot hear of its record. Before it suspends it passes the try on
to the next attempt, which is known by its number, and to no later one. Servers that do not number
attempts cannot be told; there the try ends, and after a few such tries the step is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.domain.errors import UsageError
from holdfast.domain.ids import awakeable_id
from holdfast.domain.message import Failure, Result, Value
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.serde import SerdeError
from holdfast.sdk.step import Step
from holdfast.sdk.step_try import Standing
from holdfast.sdk.unknown import idempotency_key_of

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt
    from holdfast.sdk.bodies import Bodies

_CODE_UNKNOWN = 500
_UNHEARD_MAX = 2
"""Tries in a row whose record was not heard of: one may be chance, on a stream that is open."""


class Guards:
    """The steps of one attempt that wait before their body may run."""

    def __init__(self, attempt: Attempt, bodies: Bodies) -> None:
        self._attempt = attempt
        self._bodies = bodies
        self._begins: dict[int, _Begin] = {}
        """Records that have not arrived, by completion id of the step."""
        self._questions: dict[int, _Question] = {}
        """Open ones, by completion id of the step."""

    def start(self, step: Step, future: DurableFuture[Any]) -> None:
        """Run a body as soon as it may, or do what is to be done about an unknown outcome."""
        machine = self._attempt.machine
        match machine.tries.standing(step.key):
            case Standing.NEW:
                self._begin(step, future)
            case Standing.HALF:
                number = machine.tries.begin_id(step.key)
                machine.sys_propose(number, Value(b"{}"))
                self._await_begin(step, future, number)
            case Standing.READY:
                self._bodies.launch(step)
            case Standing.UNKNOWN:
                self._on_unknown(step, future)

    def cancel(self, completion_id: int) -> None:
        """Nobody wants the result of a step any more."""
        begin = self._begins.pop(completion_id, None)
        if begin is not None:
            self._attempt.machine.forget(begin.number)
        question = self._questions.pop(completion_id, None)
        if question is not None:
            self._attempt.machine.forget_signal(question.index)

    def stop(self) -> None:
        """The attempt ends."""
        for completion_id in [*self._begins, *self._questions]:
            self.cancel(completion_id)

    def withdraw(self, *, is_suspending: bool) -> None:
        """Say of bodies that have not begun that they have not, before the attempt ends."""
        machine, at_ms = self._attempt.machine, self._attempt.host.now_ms()
        for begin in self._begins.values():
            step = begin.step
            if not is_suspending:
                machine.tries.end(step.key, step.name, "unused", at_ms)
            elif machine.start.has_extensions:
                machine.tries.end(step.key, step.name, "passed on", at_ms)
            elif not callable(step.on_unknown):
                machine.tries.end(step.key, step.name, "unheard", at_ms)
            # Else it stays open: the function that finds out will find out that nothing happened.

    # -- beginning --------------------------------------------------------------------------------

    def _begin(self, step: Step, future: DurableFuture[Any]) -> None:
        tries = self._attempt.machine.tries
        if tries.unheard(step.key) >= _UNHEARD_MAX:
            self._bodies.refuse(
                step,
                UsageError(
                    f"on_unknown={step.on_unknown!r} cannot be kept here: the server closes its "
                    f"request before it says that the beginning of step {step.name!r} is recorded",
                    code="HF0582",
                    hint="Serve the handlers over HTTP/2, or as a worker, or give on_unknown= a "
                    "function that finds out what happened.",
                ),
            )
            return
        self._await_begin(step, future, tries.begin(step.key, step.name))

    def _await_begin(self, step: Step, future: DurableFuture[Any], number: int) -> None:
        begin = self._begins[step.completion_id] = _Begin(self, step, future, number)
        self._attempt.machine.expect(number, begin)

    def on_begun(self, step: Step) -> None:
        """It is durable that the body begins."""
        if self._begins.pop(step.completion_id, None) is not None:
            self._bodies.launch(step)

    # -- not knowing ------------------------------------------------------------------------------

    def _on_unknown(self, step: Step, future: DurableFuture[Any]) -> None:
        match step.on_unknown:
            case "fail":
                text = (
                    f"Step {step.name!r} began, and its attempt was lost before a result was "
                    "recorded: nobody knows whether it happened. [HF0580]"
                )
                self._propose(step, Failure(_CODE_UNKNOWN, text, {"error_code": "HF0580"}))
            case "ask":
                self._ask(step, future)
            case _:
                step.is_unknown = True
                self._bodies.launch(step)

    def _propose(self, step: Step, result: Value | Failure) -> None:
        self._attempt.machine.sys_propose(step.completion_id, result)
        self._attempt.schedule_tick()

    def _ask(self, step: Step, future: DurableFuture[Any], problem: str = "") -> None:
        """Wait for a person: an awakeable, whose id is in a record with the name of the step."""
        machine = self._attempt.machine
        invocation_id = machine.start.invocation_id
        index = machine.sys_awakeable(machine.tries.ask_key(step.key))
        machine.tries.ask(
            step.key,
            step.name,
            awakeable_id(invocation_id, index),
            idempotency_key_of(invocation_id, step.key),
            problem,
        )
        question = self._questions[step.completion_id] = _Question(self, step, future, index)
        machine.expect_signal(index, question)

    def on_answer(self, step: Step, future: DurableFuture[Any], result: Result) -> None:
        """A person has answered."""
        if self._questions.pop(step.completion_id, None) is None:
            return
        if isinstance(result, Failure):
            self._propose(step, result)
            return
        try:
            answer = _read_answer(result)
            found = step.recordable_json(bytes(answer.value)) if answer.happened else None
        except (msgspec.DecodeError, SerdeError) as error:
            # An awakeable takes one answer only, so the next one needs another.
            self._attempt.machine.tries.refuse_answer(step.key)
            self._ask(step, future, f"The last answer means nothing here: {error}")
        else:
            if found is None:
                self._begin(step, future)
            else:
                self._propose(step, found)
        self._attempt.schedule_tick()


class _Answer(msgspec.Struct):
    happened: bool
    value: msgspec.Raw = msgspec.Raw(b"null")


def _read_answer(result: Result) -> _Answer:
    return msgspec.json.decode(result.content if isinstance(result, Value) else b"", type=_Answer)


class _Waiter:
    """Waits on behalf of the future of a step; see `machine.Waiter`."""

    def __init__(self, guards: Guards, step: Step, future: DurableFuture[Any]) -> None:
        self.step = step
        self._guards = guards
        self._future = future

    def on_failure(self, error: BaseException) -> None:
        """See `machine.Waiter`. The future is told by itself."""

    def is_awaited(self) -> bool:
        """See `machine.Waiter`."""
        return self._future.is_awaited()

    @property
    def is_shielded(self) -> bool:
        """See `machine.Waiter`."""
        return self._future.is_shielded


class _Begin(_Waiter):
    """Waits for the record of a begin."""

    def __init__(self, guards: Guards, step: Step, future: DurableFuture[Any], number: int) -> None:
        super().__init__(guards, step, future)
        self.number = number

    def on_result(self, result: Result) -> None:
        """See `machine.Waiter`."""
        self._guards.on_begun(self.step)


class _Question(_Waiter):
    """Waits for the answer of a person."""

    def __init__(self, guards: Guards, step: Step, future: DurableFuture[Any], index: int) -> None:
        super().__init__(guards, step, future)
        self.index = index

    def on_result(self, result: Result) -> None:
        """See `machine.Waiter`."""
        self._guards.on_answer(self.step, self._future, result)
