"""Durable calls from threads below an async handler, for libraries that work there.

`asyncio.to_thread` and `run_in_executor` copy the context, so the thread knows its branch. While it
works, the attempt counts as busy and nothing is handed over; so while it waits for a durable call,
it must not count. Only threads that are counted can wait: others, such as those that a pool makes
below such a thread, would leave the count of the one above, and the call would wait for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.sdk.branch import Branch, place
from holdfast.sdk.interrupt import Aborted

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

T = TypeVar("T")

_POLL_S = 1.0


class _Worker(threading.local):
    """Of each thread."""

    attempt: Attempt | None = None


_worker = _Worker()


def run_counted(attempt: Attempt, func: Callable[..., T], *args: Any) -> T:
    """Run a function in a thread that an attempt counts as busy."""
    _worker.attempt = attempt
    try:
        return func(*args)
    finally:
        _worker.attempt = None


def can_call() -> bool:
    """Return whether `call_from_thread` works here."""
    branch = place.get()
    return (
        type(branch) is Branch and branch.attempt is not None and _worker.attempt is branch.attempt
    )


def call_from_thread(label: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Make durable calls on the event loop from a counted thread, and wait for the result.

    Args:
        label: Of the branch in which they are made. Threads of one branch run in no known order, so
            it has to say what is called: equal labels must be interchangeable.
        make: Called on the event loop.

    Raises:
        BaseException: What the calls raise, also interrupts.
    """
    branch = place.get()
    assert type(branch) is Branch
    attempt = branch.attempt
    assert attempt is not None
    done: Future[T] = Future()
    context = contextvars.copy_context()

    async def run() -> None:
        try:
            value = await make()
        except GeneratorExit:
            raise
        except BaseException as error:
            attempt.busy += 1
            done.set_exception(error)
        else:
            attempt.busy += 1
            done.set_result(value)

    def begin() -> None:
        context.run(place.set, branch.child(label))
        # Not through the task factory, which would number the tasks in the order of the threads.
        task: asyncio.Task[None] = asyncio.Task(run(), loop=attempt.loop, context=context)
        attempt.add_task(task)
        attempt.busy -= 1

    attempt.loop.call_soon_threadsafe(begin)
    while True:
        try:
            return done.result(timeout=_POLL_S)
        except TimeoutError:
            if done.done():
                raise
            if attempt.loop.is_closed():
                raise Aborted("the event loop has ended") from None
