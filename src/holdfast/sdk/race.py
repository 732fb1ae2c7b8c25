"""Races: the first result counts, and the losers are cancelled."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, overload

from holdfast.domain.errors import UsageError
from holdfast.sdk.interrupt import ENDED, FAILING, Interrupt
from holdfast.sdk.result import is_final

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@dataclass(frozen=True, slots=True)
class Winner(Generic[T]):
    """Who won a race."""

    index: int
    """Its place among the arguments, from 0."""
    value: T


@overload
async def race(a: Awaitable[A], b: Awaitable[B], /) -> Winner[A | B]: ...


@overload
async def race(a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], /) -> Winner[A | B | C]: ...


@overload
async def race(
    a: Awaitable[A], b: Awaitable[B], c: Awaitable[C], d: Awaitable[D], /
) -> Winner[A | B | C | D]: ...


@overload
async def race(*awaitables: Awaitable[T]) -> Winner[T]: ...


async def race(*awaitables: Awaitable[Any]) -> Winner[Any]:
    """Wait for the first that finishes, cancel the others, and wait until those have ended.

    A loser that is a call is cancelled durably, with what it called; the async body of a step is
    stopped; a timer or a promise is let go; a coroutine gets `asyncio.CancelledError` at its await
    and may clean up, also durably. What losers return or raise then does not matter. If several
    have finished, the first argument of them wins.

    Raises:
        BaseException: What the winner raised.
        UsageError: HF0507, nothing to race, or not awaitable.
    """
    if not awaitables:
        raise UsageError("hf.race takes at least one awaitable", code="HF0507")
    for one in awaitables:
        # Callers without type checks may pass anything, such as the list that asyncio.wait takes.
        if not inspect.isawaitable(one):
            raise UsageError(
                f"hf.race takes awaitables, not {one!r}",
                code="HF0507",
                hint="Write hf.race(first, second), and hf.race(*them) for a list.",
            )
    runners: list[asyncio.Future[Any]] = [asyncio.ensure_future(one) for one in awaitables]
    try:
        await asyncio.wait(runners, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError as error:
        await _stop(runners, is_failing=not is_final(error))
        raise
    index = next(index for index, runner in enumerate(runners) if runner.done())
    winner = runners[index]
    failure = None if winner.cancelled() else winner.exception()
    await _stop(runners, is_failing=failure is not None and not is_final(failure))
    return Winner(index, winner.result())


async def _stop(runners: Sequence[asyncio.Future[Any]], *, is_failing: bool) -> None:
    for runner in runners:
        runner.cancel(FAILING if is_failing else None)
    cancelled: asyncio.CancelledError | None = None
    while left := [runner for runner in runners if not runner.done()]:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            if error.args == (ENDED,):
                raise
            # They are cancelled already, and their clean-up must not be left behind.
            cancelled = error
    # Also those that had finished: nobody else looks at their errors.
    errors = [runner.exception() for runner in runners if not runner.cancelled()]
    ends = [error for error in errors if error is not None and _ends_attempt(error)]
    if ends:
        raise ends[0]
    if cancelled is not None:
        raise cancelled


def _ends_attempt(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(map(_ends_attempt, group.exceptions))
    return isinstance(error, Interrupt)
