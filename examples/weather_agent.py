"""An agent of the OpenAI Agents SDK, made durable by `durable_agents.run`.

Run it; without OPENAI_API_KEY a scripted model answers:

    holdfast dev examples/weather_agent.py:app
    curl localhost:8080/WeatherAgent/ask --json '"What is the weather in Oslo?"'
"""

import os

from agents import Agent, OpenAIProvider, RunConfig, function_tool

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, ToolCall, Turn


@function_tool
async def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"It is sunny in {city}."


agent = Agent(name="Weather", instructions="Answer in one sentence.", tools=[get_weather])
service = hf.Service("WeatherAgent")


@service.handler
async def ask(ctx: hf.Context, question: str) -> str:
    """Answer a question. Model calls and tools are steps: none is paid for or run twice."""
    result = await durable_agents.run(agent, question, run_config=config)
    return str(result.final_output)


def scripted(request: ModelRequest) -> Turn:
    if request.turn_index == 0:
        city = request.prompt.rstrip("?").split()[-1]
        return Turn(tool_calls=(ToolCall("get_weather", {"city": city}),))
    return Turn(text=" ".join(request.tool_outputs))


config = RunConfig()
if not os.environ.get("OPENAI_API_KEY"):
    model = ScriptedModel({"scripted": scripted})
    model.start()
    provider = OpenAIProvider(base_url=model.url, api_key="none")
    config = RunConfig(model="scripted", model_provider=provider)
app = hf.App(service)
