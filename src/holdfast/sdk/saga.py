"""Sagas: what was done is undone, step by step, when the rest cannot be done.

An undo is registered before what it undoes. If the block ends with an error that is *final*, the
undos run in reverse order, each as a durable step. Final are terminal errors, among them the
cancellation of the invocation, and the deadlines and cancellations of asyncio that a journal has.
Any other error only fails the attempt: the next one continues where this one was, and there is
nothing to undo. So it is with cancellations that come from such an error in another task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from holdfast.domain.errors import TerminalError, UsageError
from holdfast.sdk.branch import shield
from holdfast.sdk.context import current
from holdfast.sdk.interrupt import ENDED
from holdfast.sdk.result import is_final
from holdfast.sdk.retry import RetryPolicy

T = TypeVar("T")


class CompensationError(TerminalError):
    """Some undos of a saga have failed for good; the others were done. Its cause began it all."""

    failures: list[tuple[str, TerminalError]]
    """(name of the undo, what went wrong), in the order in which they were tried."""

    def __init__(self, failures: list[tuple[str, TerminalError]], cause: BaseException) -> None:
        what = "; ".join(f"{name}: {error.message}" for name, error in failures)
        why = str(cause) or type(cause).__name__
        super().__init__(
            f"The saga could not undo all after {why!r}. Failed: {what}. Undo it by hand. [HF0522]",
            code=500,
            metadata={"error_code": "HF0522"},
        )
        self.failures = failures


class _Undo(NamedTuple):
    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    retry: RetryPolicy | None


class Saga:
    """What has to be undone. Made by `saga`; use it with `async with`."""

    def __init__(self) -> None:
        self._undos: list[_Undo] = []
        self._is_open = False

    def compensate(
        self,
        fn: Callable[..., Any],
        /,
        *args: Any,
        name: str | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Register an undo. It runs only if the block ends with an error that is final.

        Register it before the step that it undoes, and let it do no harm if that step did nothing:
        a step that is cancelled may or may not have had its effect.

        Args:
            fn: Runs as a step, async or in a thread, with `args`.
            name: Of the step, a part of its journal key. None: `undo` and the function's name.
            retry: For failures of this undo. None: the handler's policy.

        Raises:
            UsageError: HF0507 no function, HF0523 outside of the `async with` block.
        """
        if not callable(fn):
            raise UsageError(
                f"saga.compensate takes a function and its arguments, not {fn!r}",
                code="HF0507",
                hint="Write saga.compensate(function, argument, …).",
            )
        if not self._is_open:
            raise UsageError(
                "An undo was registered outside of its saga",
                code="HF0523",
                hint="Write `async with hf.saga() as saga:` and register inside of the block.",
            )
        label = name or f"undo {getattr(fn, '__name__', type(fn).__name__)}"
        self._undos.append(_Undo(label, fn, args, retry))

    async def __aenter__(self) -> Saga:
        current()
        if self._is_open:
            raise UsageError("A saga was entered twice", code="HF0523", hint="Make a new one.")
        self._is_open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open = False
        undos, self._undos = self._undos[::-1], []
        if error is None or not undos or not is_final(error):
            return
        failures, cancelled = await _undisturbed(_compensate(undos))
        if failures:
            raise CompensationError(failures, error) from error
        if cancelled is not None:
            raise cancelled


def saga() -> Saga:
    """Return a new saga.

    Example:
        async with hf.saga() as saga:
            saga.compensate(cancel_flight, trip)
            await ctx.run("book flight", book_flight, trip)

    If the block ends with a `TerminalError` (also of a cancellation), with a deadline of asyncio
    that has passed or with an `asyncio.CancelledError`, the undos run in reverse order and the
    error goes on. They do not run where the cancellation comes from a task group or a race in which
    another task has failed with an error that is tried again. No cancellation interrupts them: one
    that comes meanwhile is raised where the invocation waits next. An undo that fails is tried
    again by its policy; if it fails for good, the others run all the same, and `CompensationError`
    is raised. Killing an invocation undoes nothing.
    """
    return Saga()


async def _compensate(undos: list[_Undo]) -> list[tuple[str, TerminalError]]:
    """Run undos one after another, in a task and so in a branch of its own."""
    shield()
    ctx = current()
    failures: list[tuple[str, TerminalError]] = []
    for undo in undos:
        try:
            await ctx.run(undo.name, undo.fn, *undo.args, retry=undo.retry)
        except TerminalError as error:
            failures.append((undo.name, error))
    return failures


async def _undisturbed(
    coro: Coroutine[Any, Any, T],
) -> tuple[T, asyncio.CancelledError | None]:
    """Run a coroutine to its end. Returns its result, and how the running task was cancelled."""
    task = asyncio.create_task(coro)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            if error.args == (ENDED,):
                raise
            cancelled = error
    return task.result(), cancelled
