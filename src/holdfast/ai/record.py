"""What model and tool steps leave behind: descriptions, filled in and attached to the step.

A description is for people and never fails a call: what cannot be described is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import msgspec

from holdfast.ai.agent import current_agent
from holdfast.ai.guard import whereabouts
from holdfast.domain.detail import ModelCall, ToolCall
from holdfast.sdk.detail import describe_step

_logger = logging.getLogger("holdfast.ai")

T = TypeVar("T")


@dataclass(slots=True)
class Observation:
    """What the HTTP layer has seen of the model call that is running."""

    call: ModelCall | None = None
    """Of the last request."""
    request_count: int = 0
    is_shown: bool = False
    """Whether its text goes to the durable stream already."""


_observation: ContextVar[Observation | None] = ContextVar("holdfast_observation", default=None)


@contextmanager
def observed() -> Generator[Observation]:
    """Collect what the HTTP layer sees while a model call runs."""
    observation = Observation()
    token = _observation.set(observation)
    try:
        yield observation
    finally:
        _observation.reset(token)


def observation() -> Observation | None:
    """Return where the HTTP layer puts what it sees; `None` outside of a model call."""
    return _observation.get()


def describe_model_call(
    describe: Callable[[], ModelCall | None],
    *,
    started_s: float,
    seen: Observation,
    error: BaseException | None = None,
) -> None:
    """Attach the description of a model call to the running step.

    What the HTTP layer saw is the exact request, so it goes before what the framework says.

    Args:
        describe: The framework's own description; asked only if the HTTP layer saw nothing.
        started_s: `perf_counter` at its start.
        seen: By the HTTP layer.
        error: What it failed with.
    """

    def completed() -> ModelCall | None:
        call = seen.call or describe()
        if call is None:
            return None
        run = current_agent()
        return msgspec.structs.replace(
            call,
            latency_ms=_since_ms(started_s) if call.latency_ms is None else call.latency_ms,
            attempts=max(call.attempts, seen.request_count),
            error=call.error or ("" if error is None else _said(error)),
            agent_name=call.agent_name or (run.name if run else ""),
            conversation_id=call.conversation_id or ((run and run.conversation_id) or ""),
        )

    _attach(completed)


def describe_tool_call(
    describe: Callable[[], ToolCall], *, started_s: float, error: BaseException | None = None
) -> None:
    """Attach the description of a tool call to the running step.

    Args:
        describe: Returns it. Latency, agent and error are filled in.
        started_s: `perf_counter` at its start.
        error: What it failed with.
    """

    def completed() -> ToolCall:
        run = current_agent()
        return msgspec.structs.replace(
            describe(),
            latency_ms=_since_ms(started_s),
            error="" if error is None else _said(error),
            agent_name=run.name if run else "",
        )

    _attach(completed)


def _attach(make: Callable[[], ModelCall | ToolCall | None]) -> None:
    if whereabouts() != "step":
        return
    try:
        call = make()
        if call is not None:
            describe_step(call)
    except Exception:
        _logger.warning("a call could not be described", exc_info=True)


def _since_ms(started_s: float) -> int:
    return round((perf_counter() - started_s) * 1000)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
