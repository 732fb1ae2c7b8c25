"""What this process does about its event loop, its signals, its parent and its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_PARENT_POLL_S = 0.5
_EXIT_GRACE_S = 10.0


def run(work: Coroutine[object, object, T]) -> T:
    """Run a coroutine on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop_signals(
    stop: Callable[[], None], numbers: Sequence[signal.Signals] = STOP_SIGNALS
) -> None:
    """Call `stop` on a signal. A second one ends the process at once.

    Called on the running event loop.
    """
    loop = asyncio.get_running_loop()
    count = 0

    def on_signal(number: int) -> None:
        nonlocal count
        count += 1
        if count == 1:
            stop()
        else:
            os._exit(128 + number)

    for number in numbers:
        # Not on Windows, where Ctrl-C arrives as KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, on_signal, number)


def end_with_parent(parent_pid: int) -> None:
    """Make this process end soon after its parent has, however that one ended.

    The kernel sends SIGTERM where it can. A thread looks too, for other systems and because the
    parent may have died before; it also ends a process whose event loop is stuck.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_PARENT_POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_EXIT_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def end_soon(code: int, *, grace_s: float = 2.0) -> None:
    """End this process even if threads of the user's code still run after `grace_s`.

    Python waits at exit for the threads of executors, and a step may sleep in one for hours.
    """

    def end() -> None:
        time.sleep(grace_s)
        os._exit(code)

    threading.Thread(target=end, name="exit", daemon=True).start()
