"""The child process that runs the handlers of `dev` and `demo`, and how it is kept alive.

Handlers have a process of their own so that they can crash, hang and be replaced without the
server. One child serves at a time. A new one is started beside it when files have changed, and
takes over once it is connected; when it cannot even be imported, the old one stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum

from holdfast.cli.problem import ExitCode

_QUICK_DEATH_S = 5.0
_RESTART_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 5.0)
"""By the number of quick deaths just before: the first one is answered at once."""
_STOP_GRACE_S = 5.0
_STOP_PATIENCE_S = _STOP_GRACE_S + 5.0
"""Time for the drain and for the end of the process, before it is killed."""


class Start(Enum):
    """How the start of a child went."""

    READY = "ready"
    NOT_LOADED = "not loaded"
    """The app cannot be loaded; the child has said why."""
    DIED = "died"


class Child:
    """One child process."""

    def __init__(self, process: asyncio.subprocess.Process, is_ready: asyncio.Future[bool]) -> None:
        self._process = process
        self._is_ready = is_ready
        self._started_at_s = time.monotonic()
        self.ended = asyncio.ensure_future(process.wait())
        """Done when the process has ended, with its return code."""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started_at_s

    async def started(self) -> Start:
        """Wait until the server has taken it, or it has ended."""
        if await self._is_ready:
            return Start.READY
        code = await self.ended
        return Start.NOT_LOADED if code == ExitCode.USAGE else Start.DIED

    def kill(self) -> None:
        """End it with SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self) -> None:
        """Let it drain; kill it when that takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        done, _ = await asyncio.wait([self.ended], timeout=_STOP_PATIENCE_S)
        if not done:
            self.kill()
            await self.ended


async def spawn(arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
    """Start a worker process.

    Args:
        arguments: Of `holdfast worker`.
        environment: Whole environment of the process.
    """
    reader, writer = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "holdfast.cli",
            "worker",
            *arguments,
            f"--parent={os.getpid()}",
            f"--ready-fd={writer}",
            f"--drain-grace={_STOP_GRACE_S}",
            env=dict(environment),
            pass_fds=(writer,),
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return Child(process, _when_written(reader))


def _when_written(reader: int) -> asyncio.Future[bool]:
    """Return a future of whether the other end of a pipe was written to before it was closed."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def on_readable() -> None:
        loop.remove_reader(reader)
        is_written = bool(os.read(reader, 100))
        os.close(reader)
        if not future.done():
            future.set_result(is_written)

    loop.add_reader(reader, on_readable)
    return future


class Supervisor:
    """Keeps one worker process running.

    Args:
        arguments: Of `holdfast worker`, without `--name`.
        tell: Shows one line to the person.
        environment: Of the process; None for that of this one.
        is_watched: Whether somebody calls `reload` when files change. If so, an app that cannot be
            loaded waits for that; if not, it is tried again.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        tell: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
        *,
        is_watched: bool = True,
    ) -> None:
        self._arguments = tuple(arguments)
        self._tell = tell
        self._environment = os.environ if environment is None else environment
        self._is_watched = is_watched
        self._generation = 0
        self._quick_deaths = 0
        self._change = asyncio.Event()
        self._starting: Child | None = None
        self.current: Child | None = None
        """The process that serves."""

    @property
    def pid(self) -> int | None:
        """Process id of the one that serves; None while there is none."""
        return None if self.current is None else self.current.pid

    async def kill(self) -> None:
        """Kill the one that serves, and return when it has ended. `run` starts another one."""
        if self.current is not None:
            child = self.current
            child.kill()
            await child.ended

    async def start(self) -> Start:
        """Start the first process."""
        self.current, result = await self._spawn()
        return result

    def reload(self) -> None:
        """Replace the process by one that imports the files as they are now."""
        self._change.set()

    async def run(self) -> None:
        """Restart the process when it dies, replace it on `reload`. Until cancelled."""
        while True:
            change = asyncio.ensure_future(self._change.wait())
            ends = [change] if self.current is None else [change, self.current.ended]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                change.cancel()
            if self._change.is_set():
                self._change.clear()
                await self._replace()
            elif self.current is not None:
                await self._restart(self.current)

    async def stop(self) -> None:
        """Let the process drain and end."""
        if self._starting is not None:
            self._starting.kill()
        if self.current is not None:
            await self.current.stop()

    async def _spawn(self) -> tuple[Child, Start]:
        """Start a process and wait until it serves, or has failed to."""
        self._generation += 1
        # A name of its own for each: the old process drains while the new one serves already.
        name = f"--name=dev-{os.getpid()}-{self._generation}"
        child = self._starting = await spawn([*self._arguments, name], self._environment)
        result = await child.started()
        self._starting = None
        return child, result

    async def _replace(self) -> None:
        self._tell("Files changed, loading them.")
        child, result = await self._spawn()
        if result is Start.READY:
            old, self.current = self.current, child
            self._quick_deaths = 0
            self._tell("Reloaded. Open invocations go on with the new code.")
            if old is not None:
                await old.stop()
        elif self.current is not None and not self.current.ended.done():
            self._tell("The version before keeps running. Save again to try again.")
        else:
            self.current = None
            self._tell("Nothing is running. Save again to try again.")

    async def _restart(self, dead: Child) -> None:
        if dead.age_s > _QUICK_DEATH_S:
            self._quick_deaths = 0
        delay_s = _RESTART_DELAYS_S[min(self._quick_deaths, len(_RESTART_DELAYS_S) - 1)]
        self._quick_deaths += 1
        when = f"in {delay_s:g} s" if delay_s else "now"
        self._tell(f"The worker {how_it_ended(dead.ended.result())}. Starting it again {when}.")
        self.current = None
        await self._pause(delay_s)
        child, result = await self._spawn()
        if result is Start.NOT_LOADED and self._is_watched:
            self._tell("Nothing is running. Save again to try again.")
        else:
            # A process that died is one to start again, too: `run` will see that it has ended.
            self.current = child

    async def _pause(self, delay_s: float) -> None:
        # Whoever saves a file does not want to wait any longer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._change.wait()


def how_it_ended(code: int) -> str:
    """Say what a return code of a process means."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
