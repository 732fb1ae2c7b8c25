"""Makes agents of Pydantic AI durable, with one capability more.

    import holdfast as hf
    from holdfast.ai.pydantic_ai import Durability

    agent = Agent("openai:gpt-5.2", name="weather", tools=[…], capabilities=[Durability()])

    @service.handler
    async def run(ctx: hf.Context, prompt: Prompt) -> str:
        result = await agent.run(prompt.text)
        return result.output

It is built on the framework's own base for durable execution (`pydantic_ai.durable_exec`), so the
framework's features stay: structured output, validators, dynamic instructions, deferred tools,
toolsets, event handlers, usage limits, instrumentation.

What is durable then:

- **Model calls.** Each is one step, recorded with its whole answer; with an event stream handler
  the step streams. The retries of the provider's client are off; `Options.model_retry` decides.
- **Tools.** The call of a tool is one step under its call id; parallel calls stay parallel. A tool
  that needs the durable context itself gets `ToolOptions(mode="scoped")`. `ModelRetry`,
  `ApprovalRequired` and the like work as they do without Holdfast; any other exception ends the
  run as itself.
- **MCP servers.** What they offer and what they answer is recorded.
- **Run ids, conversation ids and the clock** of a run are the same at each replay.

`ask_people()` is a capability, too: tools with `requires_approval=True` wait for a person, in the
inbox of approvals, for as long as it takes.

Outside of a handler the agent works as without the capability, and says so once in the log.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("pydantic_ai") is None:
    raise ImportError(
        'holdfast.ai.pydantic_ai needs Pydantic AI: pip install "holdfast[pydantic-ai]"'
    )

from ._approval import ask_people
from ._durability import Durability

__all__ = ["Durability", "ask_people"]
