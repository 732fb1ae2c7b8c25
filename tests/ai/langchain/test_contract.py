"""Agents of LangChain, crashed anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain.agents import create_agent

import holdfast as hf
from holdfast.ai.langchain import Durable
from holdfast.testing.scripted_model import ScriptedModel

from ..contract import Tools, contract_model, crash_points, run_contract
from .conftest import MakeChat


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with contract_model() as server:
        yield server


@pytest.mark.parametrize("crash", crash_points())
async def test_an_agent_survives_a_crash_anywhere(
    model: ScriptedModel, chat: MakeChat, crash: str | None
) -> None:
    def make_app(tools: Tools) -> hf.App:
        service = hf.Service("Agent")
        agent = create_agent(chat(model), tools=[tools.weather, tools.book], middleware=[Durable()])

        @service.handler
        async def run(ctx: hf.Context, prompt: str) -> str:
            result = await agent.ainvoke({"messages": [{"role": "user", "content": prompt}]})
            return str(result["messages"][-1].text)

        return hf.App(service)

    await run_contract(model, make_app, crash)
