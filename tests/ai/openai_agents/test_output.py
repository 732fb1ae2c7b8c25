"""Results of tools on their way through JSON."""

from __future__ import annotations

import dataclasses
from typing import Any

import agents
import pydantic
from agents import (
    Agent,
    RunConfig,
    Runner,
    function_tool,
)

import holdfast.ai.openai_agents as durable_agents
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
)

from .durable import durably


class Weather(pydantic.BaseModel):
    city: str
    degrees: float = 3.5


@dataclasses.dataclass
class Place:
    name: str


class Odd:
    def __str__(self) -> str:
        return "odd"


async def test_tool_results_of_many_types(model: ScriptedModel, config: RunConfig) -> None:
    """The model sees the same text live and at replay, and typed results stay typed."""

    results: dict[str, Any] = {
        "model": Weather(city="Oslo"),
        "pair": ("a", 1),
        "place": Place("Rome"),
        "odd": Odd(),
        "text": "ä",
        "number": 3,
        "nested": {"a": [1, 2.5, None, True]},
        "nothing": None,
        "bytes": b"\xff",
        "part": agents.ToolOutputText(text="t"),
        "parts": [agents.ToolOutputText(text="t"), agents.ToolOutputImage(image_url="http://x/y")],
        "infinite": float("inf"),
    }

    @function_tool
    def give(name: str) -> Any:
        return results[name]

    @function_tool
    def give_model() -> Weather:
        return Weather(city="Oslo")

    @function_tool
    def give_pair() -> tuple[str, int]:
        return ("a", 1)

    calls = [ToolCall("give", {"name": name}) for name in results]
    calls += [ToolCall("give_model"), ToolCall("give_pair")]
    model.scenario("types", [Turn(tool_calls=tuple(calls)), "done"])
    agent = Agent(name="Types", model="types", tools=[give, give_model, give_pair])
    plain = await Runner.run(agent, "Hi", run_config=config)
    live, *_, again = await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))

    def outputs(result: agents.RunResult) -> list[Any]:
        return [item for item in result.new_items if item.type == "tool_call_output_item"]

    def sent(result: agents.RunResult) -> list[Any]:
        return [item.raw_item["output"] for item in outputs(result)]

    assert sent(plain) == sent(live) == sent(again)
    typed = [item.output for item in outputs(again)][-2:]
    assert typed == [Weather(city="Oslo"), ("a", 1)]
