"""Where the running code is, and warnings about runs that are not durable."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal, TypeAlias

import holdfast as hf
from holdfast.sdk.branch import Branch, Leaf, place

_logger = logging.getLogger("holdfast.ai")
_warned: set[tuple[str, ...]] = set()
"""Grows with the messages and names in the program, not with its calls."""

Whereabouts: TypeAlias = Literal["handler", "thread", "step", "outside"]


def whereabouts() -> Whereabouts:
    """Return where the running code is.

    Returns:
        "handler": where durable calls work; "thread": in a thread below a handler, where they do
        not; "step": in the body of a step, which is durable as a whole; "outside": in none of them.
    """
    found = place.get()
    if isinstance(found, Leaf):
        return "step"
    if type(found) is not Branch or found.attempt is None:
        return "outside"
    try:
        is_here = asyncio.get_running_loop() is found.attempt.loop
    except RuntimeError:
        is_here = False
    return "handler" if is_here else "thread"


def current() -> hf.Context:
    """Return the context of the handler we run in.

    Raises:
        UsageError: HF0501 inside the body of a step, HF0502 outside of a handler.
    """
    return hf.current()


def warn_once(message: str, *arguments: str) -> None:
    """Log a warning the first time it is true in this process; replays do not repeat it."""
    if (message, *arguments) not in _warned:
        _warned.add((message, *arguments))
        _logger.warning(message, *arguments)


def warn_if_outside(what: str) -> bool:
    """Say once that `what` is not durable because it runs outside of a handler.

    Returns:
        Whether it does. Inside the body of a step all is well: the step is durable as a whole.
    """
    if whereabouts() != "outside":
        return False
    warn_once(
        "%s runs outside of a durable handler: nothing of it is recorded, and after a crash it is "
        "lost",
        what,
    )
    return True
