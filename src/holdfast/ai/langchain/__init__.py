"""Makes agents of LangChain and graphs of LangGraph durable, without changing them.

An agent gets one middleware more, and then runs inside a Holdfast handler:

    import holdfast as hf
    from holdfast.ai.langchain import Durable

    agent = create_agent("openai:gpt-5.2", tools=[search], middleware=[Durable()])

    @service.handler
    async def run(ctx: hf.Context, prompt: Prompt) -> str:
        result = await agent.ainvoke({"messages": [{"role": "user", "content": prompt.text}]})
        return result["messages"][-1].text

A graph of one's own wraps what its nodes use: `durable_model(model)` for models, and
`ToolNode(tools, awrap_tool_call=durable_tool_call)` for tools.

What is durable then:

- **Model calls.** Each is one step, recorded with its whole answer. The retries of the provider's
  client are off; `Options.model_retry` decides.
- **Tools.** The call of a tool is one step under its call id: it runs once, its result is recorded,
  parallel calls stay parallel. A tool that needs the durable context itself (steps, timers,
  approvals) gets `mode="scoped"`. What a tool raises becomes a message to the model, an error of
  the run, or the end of the loop: `on_tool_error`.

Nodes, other middleware and hooks are ordinary code of the handler and run again at replay: they
must not have side effects and must not depend on time or chance. Checkpointers and stores of
LangGraph are not needed for durability; a handler goes on where it stopped by itself.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("langchain") is None or find_spec("langgraph") is None:
    raise ImportError(
        'holdfast.ai.langchain needs LangChain and LangGraph: pip install "holdfast[langchain]"'
    )

from ._middleware import Durable
from ._model import durable_model
from ._tool import durable_tool_call

__all__ = ["Durable", "durable_model", "durable_tool_call"]
