"""Deadlines of asyncio that have passed, as a journal records.

In a handler `asyncio.timeout` and `asyncio.wait_for` wait for durable timers. Once such a timer has
fired, each further attempt gets its result at the same place and ends with the same `TimeoutError`,
so one that leaves the handler is final. Nothing is known of other `TimeoutError`s, such as those of
sockets; trying again may help.

Which it is can be seen from where it was raised: the innermost frame of its traceback is that of
asyncio's function, and holds the object whose timer has fired.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

_passed: WeakSet[Any] = WeakSet()
"""Of `asyncio.timeout`: the context manager. Of `wait_for` before Python 3.12: its own future."""

_WAITER_CALLBACK = "_release_waiter"
_OWNERS = {asyncio.Timeout.__aexit__.__code__: "self", asyncio.wait_for.__code__: "waiter"}
"""Code that raises it, and its local variable with such an object."""


def note_passed(callback: Any, args: tuple[Any, ...]) -> None:
    """Remember whose deadline it is, if a durable timer with this callback has fired for one."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Timeout):
        _passed.add(owner)
    elif getattr(callback, "__name__", "") == _WAITER_CALLBACK and args:
        _passed.add(args[0])


def is_recorded(error: BaseException) -> bool:
    """Whether an error says that a deadline has passed, and a journal has it."""
    trace = error.__traceback__
    if not isinstance(error, TimeoutError) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    name = _OWNERS.get(frame.f_code)
    return name is not None and frame.f_locals.get(name) in _passed
