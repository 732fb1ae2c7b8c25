"""A run that is followed: its events, and its scope, which is open for as long as they come."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

from agents import AgentUpdatedStreamEvent, RunItemStreamEvent, RunResultStreaming, StreamEvent
from agents.exceptions import AgentsException

from ._active import ACTIVE, activate
from ._agents import give_back_originals, original_of, with_originals
from ._approval import Approvals
from ._ending import ending


class StreamedRun:
    """One run.

    The SDK runs it in a task of its own, while the handler goes through the events. So its scope is
    entered in a context of its own: what the handler does meanwhile is not part of it.
    """

    def __init__(self, *, on_end: Callable[[], None]) -> None:
        self._context = contextvars.copy_context()
        self._open = ExitStack()
        self._open.callback(on_end)

    def begin(
        self,
        scope: AbstractContextManager[object],
        approvals: Approvals,
        start: Callable[[], RunResultStreaming],
    ) -> RunResultStreaming:
        """Start the run in its scope.

        Args:
            scope: Of the agent.
            approvals: For what the run starts below it.
            start: Starts it.

        Returns:
            The SDK's result, whose events also close the scope.
        """

        def entered() -> RunResultStreaming:
            self._open.enter_context(scope)
            ACTIVE.set(activate(approvals))
            return start()

        try:
            result = self._context.run(entered)
        except BaseException as error:
            self._close(error)
            raise
        events = result.stream_events

        def stream_events() -> AsyncIterator[StreamEvent]:
            return self._follow(result, events)

        # On this one result, in the place of its method.
        vars(result)["stream_events"] = stream_events
        return result

    async def _follow(
        self, result: RunResultStreaming, events: Callable[[], AsyncIterator[StreamEvent]]
    ) -> AsyncIterator[StreamEvent]:
        try:
            async for event in events():
                yield _own(event)
        except BaseException as error:
            failure = ending(error) if isinstance(error, AgentsException) else error
            self._close(failure)
            raise failure from failure.__cause__
        give_back_originals(result)
        self._close(None)

    def _close(self, error: BaseException | None) -> None:
        # What the scope makes of an error is raised here.
        given: Any = (None, None, None) if error is None else (type(error), error, None)
        self._context.run(self._open.__exit__, *given)


def _own(event: StreamEvent) -> StreamEvent:
    """Return an event that names the user's own agents. The run goes on with the event's items."""
    if isinstance(event, RunItemStreamEvent):
        shown = copy.copy(event)
        shown.item = with_originals(event.item)
        return shown
    if isinstance(event, AgentUpdatedStreamEvent):
        return AgentUpdatedStreamEvent(original_of(event.new_agent))
    return event
