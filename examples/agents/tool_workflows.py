"""A tool that is a workflow of its own, called by an agent of Pydantic AI.

The tool takes days and has steps, timers and people in it. The agent waits, and leaves memory.

    holdfast dev examples/agents/tool_workflows.py:app
    curl localhost:8080/Clerk/ask --json '"Send a parcel to Oslo"'
"""

from provider import MODEL, Provider
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

import holdfast as hf
from holdfast.ai import Options, ToolOptions
from holdfast.ai.pydantic_ai import Durability

clerk = hf.Service("Clerk")
delivery = hf.Workflow("Delivery")


@delivery.main
async def run(ctx: hf.Context, city: str) -> str:
    await ctx.run("pack", lambda: "packed", type=str)
    await ctx.sleep(0.2)  # days, in real life
    return await ctx.run("deliver", lambda: f"delivered to {city}", type=str)


async def deliver(city: str) -> str:
    """Deliver a parcel to a city."""
    ctx = hf.current()
    return await ctx.call(run, city, key=str(ctx.uuid()))


@clerk.handler
async def ask(ctx: hf.Context, wish: str) -> str:
    result = await agent.run(wish)
    return result.output


llm = Provider()
# "scoped": the tool gets the durable context, and its own operations are recorded.
options = Options(tools={"deliver": ToolOptions(mode="scoped")})
agent = Agent(
    OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=llm.openai)),
    name="clerk",
    tools=[deliver],
    capabilities=[Durability(options)],
)
app = hf.App(clerk, delivery)
