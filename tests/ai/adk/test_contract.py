"""Agents of the Agent Development Kit, crashed anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("google.adk", reason="the Agent Development Kit is in the matrix only")

from google.adk.agents import LlmAgent

import holdfast as hf
from holdfast.testing.scripted_model import ScriptedModel

from ..contract import Tools, contract_model, crash_points, run_contract
from .sample import KITS_OWN_WARNINGS, MakeGemini, ask, make_runner

pytestmark = KITS_OWN_WARNINGS


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with contract_model() as server:
        yield server


@pytest.mark.parametrize("crash", crash_points())
async def test_an_agent_survives_a_crash_anywhere(
    model: ScriptedModel, gemini: MakeGemini, crash: str | None
) -> None:
    def make_app(tools: Tools) -> hf.App:
        service = hf.Service("Agent")
        agent = LlmAgent(name="traveller", model=gemini(model), tools=[tools.weather, tools.book])
        runner = make_runner(agent)

        @service.handler
        async def run(ctx: hf.Context, prompt: str) -> str:
            return await ask(runner, prompt)

        return hf.App(service)

    await run_contract(model, make_app, crash)
