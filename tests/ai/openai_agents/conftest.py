"""Fixtures for the integration of the OpenAI Agents SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import agents
import openai
import pytest
from agents import (
    OpenAIProvider,
    RunConfig,
)

from holdfast.ai import guard
from holdfast.testing.scripted_model import (
    ScriptedModel,
)

from .sample import ran


@pytest.fixture(autouse=True)
def durable(monkeypatch: pytest.MonkeyPatch) -> None:
    ran.clear()
    monkeypatch.setattr(guard, "_warned", set())
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    agents.set_trace_processors([])


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as server:
        yield server


@pytest.fixture(params=["responses", "chat"])
async def config(request: pytest.FixtureRequest, model: ScriptedModel) -> AsyncIterator[RunConfig]:
    async with openai.AsyncOpenAI(base_url=model.url, api_key="any") as client:
        provider = OpenAIProvider(openai_client=client, use_responses=request.param == "responses")
        yield RunConfig(model_provider=provider)
