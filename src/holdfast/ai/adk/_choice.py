"""The options that hold where the kit calls a model or a tool."""

from __future__ import annotations

from contextvars import ContextVar

from holdfast.ai.agent import current_options
from holdfast.ai.option import Options

_given: ContextVar[Options | None] = ContextVar("holdfast_adk_options", default=None)


def choose(options: Options | None) -> None:
    """Set the options of the plugin whose runner is running, in this context."""
    _given.set(options)


def chosen() -> Options:
    """Return the options of the plugin, or those of the agent run around us."""
    return _given.get() or current_options()
