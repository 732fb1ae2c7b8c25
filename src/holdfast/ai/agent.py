"""The agent run around the running code: its scope in the journal, and how it ends.

Entering a run opens the scope `agent:<name>[n]` in the task of the user. What the framework makes
below it does not show in the keys of others, so two agents may run side by side in one handler.

What must end a run has to get through the framework, and each framework has an `except Exception`
that makes a text of an error. So it travels as a `BaseException` and becomes the error itself at
the edge of the scope.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NoReturn, cast

from holdfast.ai.guard import current
from holdfast.ai.option import Options
from holdfast.domain.errors import TerminalError
from holdfast.sdk.interrupt import Carried
from holdfast.sdk.trace import agent_span


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """One run of one agent."""

    name: str
    """Of the agent, as the user wrote it."""
    options: Options
    conversation_id: str | None = None
    """Shown with model calls, where the framework has one."""
    parent: AgentRun | None = None
    """The run whose tool or handoff started this one."""


class LoopStopped(TerminalError):
    """A tool with `on_error="stop"` failed, and the loop of the agent ended there."""

    def __init__(self, tool_name: str, call_id: str, error: Exception) -> None:
        super().__init__(f"tool {tool_name!r} stopped the loop: {error}")
        self.tool_name = tool_name
        self.call_id = call_id
        self.error = error
        """What the tool failed with."""


_run: ContextVar[AgentRun | None] = ContextVar("holdfast_agent_run", default=None)


def current_agent() -> AgentRun | None:
    """Return the agent run around the running code, also inside its steps."""
    return _run.get()


def current_options() -> Options:
    """Return the options of the agent run around us, or the defaults."""
    run = _run.get()
    return Options() if run is None else run.options


def end_run(error: Exception) -> NoReturn:
    """End the agent run around us with an error; without one, raise the error."""
    if _run.get() is None:
        raise error
    raise Carried(error) from error


@contextmanager
def agent_scope(
    name: str, options: Options | None = None, *, conversation_id: str | None = None
) -> Generator[AgentRun]:
    """Enter an agent run: open its scope, and turn what ends it into an ordinary error.

    Put it around the call that runs the framework's loop, in the task of the user.

    Args:
        name: Of the agent. It is part of journal keys: renaming it breaks open runs.
        options: `None` inherits those of the run around this one.

    Raises:
        UsageError: Not in a handler.
        TerminalError: What ended the run: see `end_run`.
    """
    parent = _run.get()
    run = AgentRun(
        name=name,
        options=options or current_options(),
        conversation_id=conversation_id or (parent.conversation_id if parent else None),
        parent=parent,
    )
    with current().scope(f"agent:{name}"), agent_span(name, run.conversation_id or ""):
        token = _run.set(run)
        try:
            yield run
        except (Carried, BaseExceptionGroup) as error:
            ending = _ending_in(error)
            if ending is None:
                raise
            raise ending.error from ending.error.__cause__
        finally:
            _run.reset(token)


def _ending_in(error: BaseException) -> Carried | None:
    # Frameworks run tools in task groups, which wrap what comes out of them.
    if isinstance(error, Carried):
        return error
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return next((found for one in group.exceptions if (found := _ending_in(one))), None)
    return None
