"""The plugin that makes the agents of a runner durable."""

from __future__ import annotations

from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.callback_context import CallbackContext
from google.adk.models import BaseLlm
from google.adk.models.llm_request import LlmRequest
from google.adk.plugins import BasePlugin

from holdfast.ai.option import Options

from ._choice import choose
from ._model import durable_model
from ._platform import use_our_platform
from ._tool import durable_tool


class Durable(BasePlugin):
    """Makes the model calls and the tool calls of a runner's agents durable steps.

    Put it first, so that no other plugin answers before it has seen a request. It answers nothing
    itself: callbacks and other plugins see all calls. Each agent that it meets gets a durable copy
    of its model.

    Args:
        options: For this runner. `None` takes those of the `agent_scope` around its run.
        name: Of the plugin, where a runner has several.
    """

    def __init__(self, options: Options | None = None, *, name: str = "holdfast") -> None:
        super().__init__(name=name)
        self._options = options
        use_our_platform()

    async def on_user_message_callback(self, **_: Any) -> None:
        """Begin a run: from here on, ids and times come from the journal."""
        use_our_platform()

    async def before_agent_callback(
        self, *, agent: BaseAgent, callback_context: CallbackContext
    ) -> None:
        """Give the agent a durable model."""
        use_our_platform()
        choose(self._options)
        model = getattr(agent, "canonical_model", None)
        if isinstance(model, BaseLlm) and (durable := durable_model(model)) is not model:
            setattr(agent, "model", durable)  # noqa: B010  # not all agents have one

    async def before_model_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest
    ) -> None:
        """Make the tools durable that the model may call."""
        for name, tool in llm_request.tools_dict.items():
            llm_request.tools_dict[name] = durable_tool(tool)
