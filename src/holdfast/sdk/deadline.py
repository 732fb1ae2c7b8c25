"""Deadlines of asyncio that have passed, as a journal records.

In a handler `asyncio.timeout` and `asyncio.wait_for` wait for durable timers. Once such a timer has
fired, each further attempt gets its result at the same place and ends with the same `TimeoutError`,
so one that leaves the handler is final. Nothing is known of other `TimeoutError`s, such as those of
sockets; trying again may help.

Which it is can be seen from where it was raised: the innermost frame of its traceback is that of
asyncio's function, and holds the object whose timer has fired.

A deadline that has passed when it is set needs no timer. The program's clock is recorded, too, so
each further attempt ends with it as well. `asyncio.timeout` then schedules its callback at once;
`asyncio.wait_for` raises by itself, from the cancellation of what it was given.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakSet

from holdfast.sdk.branch import Branch, place

_passed: WeakSet[Any] = WeakSet()
"""Of `asyncio.timeout`: the context manager. Of `wait_for` before Python 3.12: its own future."""

_WAITER_CALLBACK = "_release_waiter"
_WAIT_FOR = asyncio.wait_for.__code__
_OWNERS = {asyncio.Timeout.__aexit__.__code__: "self", _WAIT_FOR: "waiter"}
"""Code that raises it, and its local variable with such an object."""


def note_passed(callback: Any, args: tuple[Any, ...]) -> None:
    """Remember whose deadline it is, if this is the callback of one, and its time has come."""
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
    if name is None:
        return False
    return frame.f_locals.get(name) in _passed or (
        frame.f_code is _WAIT_FOR
        and type(place.get()) is Branch
        and isinstance(error.__cause__, asyncio.CancelledError)
        and frame.f_locals["timeout"] <= 0
    )
