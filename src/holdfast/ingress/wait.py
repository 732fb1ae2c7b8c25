"""Waiting for an outcome on behalf of a client that may go away.

An outcome may take weeks. A wait whose client has gone must end, or it would hold memory until
then. The invocation goes on: only the wait is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from holdfast.ingress.hangup import ClientGone
from holdfast.web.asgi import Receive
from holdfast.web.problem import Refusal

T = TypeVar("T")

_WATCH_AFTER_S = 2.0
"""Short waits are not watched: a task for each would cost more than the whole call."""


class _Watch:
    """Cancels a task when its client disconnects."""

    __slots__ = ("_receive", "_task", "_timer", "_watcher", "is_gone")

    def __init__(self, receive: Receive, after_s: float) -> None:
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self.is_gone = False
        self._receive = receive
        self._task = task
        self._watcher: asyncio.Task[None] | None = None
        self._timer = task.get_loop().call_later(after_s, self._begin)

    def _begin(self) -> None:
        self._watcher = self._task.get_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.is_gone = True
        self._task.cancel()

    def stop(self) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def is_cancelled(self) -> bool:
        """Whether the waiting task itself has been cancelled, by us or by anyone."""
        return self._task.cancelling() > 0

    def acknowledge(self) -> None:
        """Take back the cancellation: it was ours and has done its work."""
        self._task.uncancel()


async def wait_for_client(
    receive: Receive, outcome: Awaitable[T], *, watch_after_s: float | None = None
) -> T:
    """Wait for an outcome as long as the client does.

    Args:
        receive: Of the ASGI application; the request's body must have been read.
        outcome: A wait that may be cancelled without effect on what it waits for.
        watch_after_s: When to begin to look whether the client is still there; None for soon
            enough.

    Raises:
        ClientGone: The client has disconnected.
        Refusal: HF1052, the server is stopping.
    """
    watch = _Watch(receive, _WATCH_AFTER_S if watch_after_s is None else watch_after_s)
    try:
        return await outcome
    except asyncio.CancelledError:
        if watch.is_gone:
            watch.acknowledge()
            raise ClientGone from None
        if watch.is_cancelled():
            raise
        # Nobody has cancelled this task: the server gave up the wait, because it stops.
        raise Refusal(
            503,
            "HF1052",
            "The server is stopping. What was accepted is durable and goes on later.",
            hint="Ask again with the same idempotency key, or attach by id.",
        ) from None
    finally:
        watch.stop()
