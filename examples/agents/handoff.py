"""Several agents in one run, with the OpenAI Agents SDK: a handoff, and an agent as a tool.

holdfast dev examples/agents/handoff.py:app
curl localhost:8080/Desk/ask --json '"I want my money back."'
curl localhost:8080/Desk/plan --json '"A weekend in Rome"'
"""

from agents import Agent, OpenAIProvider, RunConfig
from provider import MODEL, Provider

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.testing.scripted_model import ModelRequest, ToolCall, Turn

desk = hf.Service("Desk")
refunds = Agent(name="refunds", instructions="You pay back.", model=MODEL)
triage = Agent(
    name="triage", instructions="Hand over to who can help.", model=MODEL, handoffs=[refunds]
)
guide = Agent(name="guide", instructions="You know cities.", model=MODEL)
planner = Agent(
    name="planner",
    instructions="Plan trips; ask the guide.",
    model=MODEL,
    tools=[guide.as_tool("ask_guide", "Ask somebody who knows cities.")],
)


@desk.handler
async def ask(ctx: hf.Context, question: str) -> str:
    """The first agent hands over; the second one answers."""
    result = await durable_agents.run(triage, question, run_config=config)
    return f"{result.last_agent.name}: {result.final_output}"


@desk.handler
async def plan(ctx: hf.Context, wish: str) -> str:
    """One agent asks another one, and goes on with its answer."""
    result = await durable_agents.run(planner, wish, run_config=config)
    return f"planner: {result.final_output}"


def script(request: ModelRequest) -> Turn:
    if "transfer_to_refunds" in request.tools:
        return Turn(tool_calls=(ToolCall("transfer_to_refunds", {}),))
    if "ask_guide" in request.tools and not request.tool_outputs:
        return Turn(tool_calls=(ToolCall("ask_guide", {"input": request.prompt}),))
    if "ask_guide" in request.tools:
        return Turn(text=" ".join(request.tool_outputs))
    return Turn(text=f"about {request.prompt!r}")


llm = Provider(script)
config = RunConfig(model_provider=OpenAIProvider(openai_client=llm.openai))
app = hf.App(desk)
