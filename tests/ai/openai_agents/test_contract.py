"""Agents of the OpenAI Agents SDK, crashed anywhere: both APIs of OpenAI, streamed or not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from agents import Agent, RunConfig, function_tool

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.testing.scripted_model import ScriptedModel

from ..contract import MODEL, Tools, contract_model, crash_points, run_contract


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with contract_model() as server:
        yield server


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("crash", crash_points())
async def test_an_agent_survives_a_crash_anywhere(
    model: ScriptedModel, config: RunConfig, crash: str | None, is_streamed: bool
) -> None:
    def make_app(tools: Tools) -> hf.App:
        service = hf.Service("Agent")
        bodies = [function_tool(tools.weather), function_tool(tools.book)]
        agent = Agent(name="traveller", model=MODEL, tools=[*bodies])

        @service.handler
        async def run(ctx: hf.Context, prompt: str) -> str:
            if not is_streamed:
                return str(
                    (await durable_agents.run(agent, prompt, run_config=config)).final_output
                )
            result = durable_agents.run_streamed(agent, prompt, run_config=config)
            events = [event async for event in result.stream_events()]
            assert events
            return str(result.final_output)

        return hf.App(service)

    await run_contract(model, make_app, crash)
