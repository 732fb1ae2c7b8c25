"""An asyncio event loop in virtual time: it never waits, and opens no socket.

When nothing is ready, time jumps to the next timer. When there is no timer either, nothing will
ever happen again, and that is an error.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from holdfast.domain.errors import StorageError, TerminalError

STILL_TURNS_MAX = 20_000
"""Turns of the loop without any time passing, after which it is taken for an endless loop."""


class Deadlock(Exception):
    """Nothing is ready, and there is no timer."""


class Process:
    """What dies together: the tasks of one incarnation of a server or a worker."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.context = contextvars.copy_context()
        self.context.run(process.set, self)

    def kill(self) -> None:
        """Run nothing of it any more, but what its tasks do to end."""
        self.is_dead = True
        for task in list(self.tasks):
            task.cancel()


process: contextvars.ContextVar[Process | None] = contextvars.ContextVar(
    "simulated_process", default=None
)


class _Selector:
    """Stands where the operating system would wait."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._still_turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock(f"nothing will ever happen again (at {self._loop.time()} s)")
        if timeout > 0:
            self._still_turns = 0
            self._loop.pass_time(timeout)
        else:
            self._still_turns += 1
            if self._still_turns > STILL_TURNS_MAX:
                raise Deadlock(f"an endless loop at {self._loop.time()} s")
        return []

    def close(self) -> None: ...


class SimLoop(asyncio.BaseEventLoop):
    """The loop."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 1000.0
        self._selector = _Selector(self)
        self._clock_resolution = 1e-7
        self.turns = 0
        self.errors: list[str] = []
        self._owners: set[Process] = set()
        """All processes that ever were: asyncio complains when the tasks of dead ones are freed."""
        self.set_exception_handler(self._on_error)

    def time(self) -> float:
        return self._now_s

    def pass_time(self, seconds: float) -> None:
        self._now_s += seconds

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        """Make a task, and remember it with the process that it belongs to."""
        task = super().create_task(coro, name=name, context=context)
        owner = process.get() if context is None else context.get(process)
        if owner is not None:
            owner.tasks[task] = None
            self._owners.add(owner)
            task.add_done_callback(lambda done: owner.tasks.pop(done, None))
            if owner.is_dead:
                task.cancel()
        return task

    def _process_events(self, event_list: list[Any]) -> None:
        self.turns += 1

    def _write_to_self(self) -> None: ...

    def _on_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        is_known = isinstance(error, TerminalError | StorageError)
        if is_known and "never retrieved" in str(context.get("message")):
            return  # Of a task that user code, or a client, has abandoned.
        self.errors.append(f"{context.get('message')}: {error!r}")


def run(loop: SimLoop, main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, then cancel what is left, and close the loop."""
    asyncio.set_event_loop(None)
    try:
        return loop.run_until_complete(main)
    finally:
        for _ in range(20):
            left = [task for task in asyncio.all_tasks(loop) if not task.done()]
            if not left:
                break
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=10.0))
        loop.close()
