"""Tools side by side, in an agent of LangChain. Each call is a step of its own.

Kill the process while they run: those that have ended do not run again.

    holdfast dev examples/agents/parallel_tools.py:app
    curl localhost:8080/Traveller/ask --json '"What do I need in Oslo?"'
"""

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from provider import MODEL, Provider

import holdfast as hf
from holdfast.ai.langchain import Durable

traveller = hf.Service("Traveller")


async def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"It is sunny in {city}."


async def hotels(city: str) -> str:
    """Find a hotel in a city."""
    return f"There is a room in {city}."


@traveller.handler
async def ask(ctx: hf.Context, question: str) -> str:
    result = await agent.ainvoke({"messages": [{"role": "user", "content": question}]})
    return result["messages"][-1].text


llm = Provider()
agent = create_agent(
    ChatOpenAI(model=MODEL, base_url=llm.url, api_key=llm.key, http_async_client=llm.http),
    tools=[weather, hotels],
    middleware=[Durable()],
)
app = hf.App(traveller)
