"""The middleware that makes an agent of `create_agent` durable."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from holdfast.ai.option import Options

from ._model import durable_model
from ._tool import durable_tool_call


class Durable(AgentMiddleware[Any, Any, Any]):
    """Makes the model calls and the tool calls of an agent durable steps.

    Put it last, so that the other middleware stays around it.

    Args:
        options: For this agent. `None` takes those of the `agent_scope` around its run.
    """

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self._options = options

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Call the model, or take the recorded answer."""
        return await handler(request.override(model=durable_model(request.model, self._options)))

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Run a tool, or take its recorded result."""
        return await durable_tool_call(request, handler, self._options)
