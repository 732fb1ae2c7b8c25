"""Runs an asynchronous test on asyncio and on uvloop, and demands that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

_TIMEOUT_S = 30.0


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a test of a coroutine function.

    It fails when the loop complains (tasks destroyed, exceptions never retrieved) and when tasks
    are left, apart from the test's own.
    """

    def run(loop_factory: Callable[[], asyncio.AbstractEventLoop], **fixtures: Any) -> None:
        run_on(loop_factory, functools.partial(test, **fixtures))

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined]  # pytest would look at its parameters
    own = inspect.Parameter("loop_factory", inspect.Parameter.KEYWORD_ONLY)
    parameters = [*inspect.signature(test).parameters.values(), own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return pytest.mark.parametrize(
        "loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )(run)


def run_on(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
    test: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Run a coroutine function on a new loop."""
    complaints: list[dict[str, Any]] = []

    async def guarded() -> None:
        await asyncio.wait_for(test(), _TIMEOUT_S)
        for _ in range(10):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: complaints.append(context))
        runner.run(guarded())
        gc.collect(1)
    assert not complaints, complaints
