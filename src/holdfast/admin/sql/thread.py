"""Threads with a deep stack, for the planner, which recurses."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from holdfast.admin.sql.limit import STACK_SIZE_BYTES

T = TypeVar("T")

_starting = threading.Lock()


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run something in a thread of its own. Cancelling the future does not end the thread."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            settle = partial(_resolve, future, work())
        except BaseException as error:
            settle = partial(_reject, future, error)
        # The loop may be gone: then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle)

    with _starting:
        size = threading.stack_size(STACK_SIZE_BYTES)
        try:
            threading.Thread(target=run, name="holdfast-sql", daemon=True).start()
        finally:
            threading.stack_size(size)
    return future


def _resolve(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _reject(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
