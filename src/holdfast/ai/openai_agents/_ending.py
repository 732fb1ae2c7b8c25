"""How a durable run ends: errors as handlers shall see them, and the provider that is closed."""

from __future__ import annotations

import asyncio
import contextvars
import logging

from agents.exceptions import (
    AgentsException,
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)
from agents.models.interface import ModelProvider

from holdfast.domain.errors import HoldfastError, TerminalError

from ._agents import give_back_originals

_logger = logging.getLogger("holdfast.ai.openai_agents")

_closing: set[asyncio.Task[None]] = set()
"""Kept alive here: the loop holds tasks weakly."""

# Decided by what is recorded, so a new attempt would only arrive at the same end.
_FINAL_ERRORS = (
    InputGuardrailTripwireTriggered,
    MaxTurnsExceeded,
    ModelBehaviorError,
    OutputGuardrailTripwireTriggered,
    ToolInputGuardrailTripwireTriggered,
    ToolOutputGuardrailTripwireTriggered,
)


def ending(error: AgentsException) -> Exception:
    """Return what the handler shall see of an error that ended the run."""
    if error.run_data is not None:
        give_back_originals(error.run_data)
    cause = error.__cause__
    while cause is not None:
        # The SDK wraps what comes out of tools; an error of ours must arrive as what it is.
        if isinstance(cause, HoldfastError | TerminalError):
            return cause
        cause = cause.__cause__
    return _terminal(error) if isinstance(error, _FINAL_ERRORS) else error


def _terminal(error: AgentsException) -> AgentsException:
    """Make an error of the SDK also a terminal one, for both kinds of `except`."""
    if not isinstance(error, TerminalError):
        kind = type(error)
        error.__class__ = type(
            kind.__name__, (kind, TerminalError), {"__module__": kind.__module__}
        )
        vars(error).update(message=str(error), code=500, metadata={})
    return error


def close_apart(provider: ModelProvider) -> None:
    """Close a provider in a task that is not the handler's, and do not wait for it.

    The handler may be leaving memory, which must not be delayed, and its timers are durable:
    closing takes real time only, and may find nothing to close in a replay.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # The coroutine is thrown away after its loop, and the connections with it.
    # An empty context is outside of every handler.
    task = loop.create_task(_close(provider), context=contextvars.Context())
    _closing.add(task)
    task.add_done_callback(_closing.discard, context=contextvars.Context())


async def _close(provider: ModelProvider) -> None:
    try:
        await provider.aclose()
    except Exception:
        _logger.warning("failed to close a model provider", exc_info=True)
