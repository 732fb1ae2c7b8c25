"""The capability: what the framework asks of an engine for durable execution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from pydantic_ai.agent import EventStreamHandler
from pydantic_ai.capabilities.abstract import WrapRunHandler
from pydantic_ai.durable_exec import (
    JSON_CODEC,
    BaseDurabilityCapability,
    DurabilityEngineSpec,
    DurableOperationBackend,
    conversation_id_from_run_id,
    replay_scope,
)
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult
from pydantic_ai.tools import AgentDepsT, RunContext

from holdfast.ai.agent import agent_scope
from holdfast.ai.guard import current, warn_if_outside, whereabouts
from holdfast.ai.option import Options

from ._operation import Operations


class Durability(BaseDurabilityCapability[AgentDepsT]):
    """Makes an agent durable when it runs in a Holdfast handler.

    The agent needs a name: it is part of journal keys.

    Args:
        options: Retries and the treatment of tools. `None` takes those of the `agent_scope` around
            the run.
        models: More models, by name, for runs that switch.
        event_stream_handler: Sees events as they come. Those of a model call it sees in the step of
            that call, so once, and again when the step is repeated; those of tools at each replay.
        name: Of the agent in the journal; `None` takes the agent's own.
    """

    engine_spec = DurabilityEngineSpec(
        engine_name="Holdfast",
        durable_unit_noun="step",
        durable_container_noun="handler",
        codec=JSON_CODEC,
        toolset_lifecycles={
            "function": "enter-always",
            "mcp": "enter-in-durable-unit",
            "dynamic": "enter-never",
        },
    )

    def __init__(
        self,
        options: Options | None = None,
        *,
        models: Mapping[str, Model] | None = None,
        event_stream_handler: EventStreamHandler[AgentDepsT] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(models=models, event_stream_handler=event_stream_handler, name=name)
        self._options = options

    @property
    def in_durable_context(self) -> bool:
        """Whether the running code is in a handler, and not in one of its steps."""
        return whereabouts() == "handler"

    def get_default_run_id(self) -> str | None:
        """Return an id for a run, the same at each replay."""
        return str(current().uuid()) if self.in_durable_context else None

    def get_default_conversation_id(self, run_id: str) -> str | None:
        """Return an id for a conversation, the same at each replay."""
        return conversation_id_from_run_id(run_id) if self.in_durable_context else None

    def get_run_clock(self) -> Callable[[], datetime] | None:
        """Return the clock of the handler."""
        return current().now if self.in_durable_context else None

    def get_durable_operation_backend(self) -> DurableOperationBackend[Any]:
        """Return what runs the operations of the agent as steps."""
        return Operations()

    async def wrap_run(
        self, ctx: RunContext[AgentDepsT], *, handler: WrapRunHandler
    ) -> AgentRunResult[Any]:
        """Put the run into a scope of the journal."""
        if not self.in_durable_context:
            warn_if_outside(f"agent {self.name!r}")
            return await super().wrap_run(ctx, handler=handler)
        handler_context = current()
        with (
            agent_scope(self.name, self._options, conversation_id=ctx.conversation_id),
            replay_scope(is_replaying=lambda: handler_context.is_replaying),
        ):
            return await super().wrap_run(ctx, handler=handler)
