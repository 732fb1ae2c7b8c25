"""All that this integration asks of Holdfast's SDK, in one place."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import holdfast as hf
from holdfast.domain.errors import HoldfastError, TerminalError, UsageError

if TYPE_CHECKING:
    from holdfast import RetryPolicy

__all__ = [
    "ACTIVE",
    "CANCELLED_CODE",
    "DurableContext",
    "HoldfastError",
    "Options",
    "Record",
    "TerminalError",
    "UsageError",
    "current",
    "warn_once",
]

CANCELLED_CODE = 409
"""Code of the terminal error that a cancelled invocation sees at its next await."""

# The recorded value of a step. `Any` and not `object`, because serdes take the type literally.
Record: TypeAlias = dict[str, Any]

_logger = logging.getLogger("holdfast.ai.openai_agents")
_warned: set[tuple[str, ...]] = set()


class DurableContext(Protocol):
    """The part of `hf.Context` that is used here."""

    @property
    def id(self) -> str:
        """Id of the invocation."""
        ...

    def run(
        self,
        name: str,
        fn: Callable[[], Awaitable[Record]],
        /,
        *,
        retry: RetryPolicy | None = None,
        type: type[Record] = Record,
    ) -> Awaitable[Record]:
        """Run a function as a durable step."""
        ...

    def scope(self, label: str) -> AbstractContextManager[object]:
        """Open a branch of the journal with a stable label."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose for a run; runs below it inherit it."""

    model_retry: RetryPolicy | None = None
    tool_retry: RetryPolicy | None = None
    scoped_tools: frozenset[str] = frozenset()


ACTIVE: ContextVar[Options | None] = ContextVar("holdfast_openai_agents_run", default=None)
"""Options of the durable run around us; `None` outside of one and inside a step."""


def current() -> DurableContext:
    """Return the context of the handler we run in."""
    return hf.current()


def warn_once(message: str, *arguments: str) -> None:
    """Log a warning the first time it is true in this process; replays do not repeat it."""
    if (message, *arguments) not in _warned:
        _warned.add((message, *arguments))
        _logger.warning(message, *arguments)
