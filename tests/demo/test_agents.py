"""The sample agents, played with the scripted model."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import openai
import pytest

import holdfast
from holdfast.demo.scenarios import MODEL_NAME, SCENARIOS
from holdfast.domain.errors import UsageError
from holdfast.testing.scripted_model import ScriptedModel

from ..ai.fake_context import Crash, FakeContext, Journal, attempt, current


class StubService:
    """Enough of a service to define one."""

    def __init__(self, name: str) -> None:
        self.name = name

    def handler(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedModel]:
    monkeypatch.setattr("holdfast.demo.scenarios.ANSWER_DELAY_S", 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with ScriptedModel(SCENARIOS) as server:
        monkeypatch.setenv("HOLDFAST_SCRIPTED_MODEL_URL", server.url)
        yield server


@pytest.fixture
async def demo(monkeypatch: pytest.MonkeyPatch, model: ScriptedModel) -> Any:
    stubs = (("Service", StubService), ("App", lambda *_: None), ("UsageError", UsageError))
    for name, stub in stubs:
        if not hasattr(holdfast, name):
            monkeypatch.setattr(holdfast, name, stub, raising=False)
    monkeypatch.setattr(holdfast, "current", current, raising=False)
    module = importlib.import_module("holdfast.demo.agents")
    async with openai.AsyncOpenAI(base_url=model.url, api_key="any") as client:
        monkeypatch.setattr(
            module,
            "OpenAIProvider",
            lambda **_: importlib.import_module("agents").OpenAIProvider(openai_client=client),
        )
        yield module


@pytest.mark.parametrize(
    ("prompt", "cities"),
    [
        ("What is the weather like in San Francisco?", ["San Francisco"]),
        ("Weather in Oslo and Rome?", ["Oslo", "Rome"]),
        ("How is Paris today?", ["Paris"]),
        ("Is it nice outside?", ["Oslo"]),
    ],
)
async def test_weather(
    demo: ModuleType, model: ScriptedModel, prompt: str, cities: list[str]
) -> None:
    """Three model calls; every answer is about the cities of the prompt, and always the same."""
    handler = lambda: demo.run(None, demo.Prompt(prompt))  # noqa: E731
    journal: Journal = {}
    first = await attempt(FakeContext(journal), handler)
    assert len(model.calls(MODEL_NAME)) == 3
    assert len(journal) == 3 + 3 * len(cities)
    for city in cities:
        assert f"{city}: " in first
        assert f"Air quality index in {city}: " in first
    assert await attempt(FakeContext(journal), handler) == first
    assert await attempt(FakeContext({}), handler) == first


@pytest.mark.parametrize(
    ("approved", "reason", "said", "steps"),
    [
        (True, "", "Your claim was approved. 1200.50 euros are on their way.", 8),
        (False, "no receipt", "We cannot pay this claim: it was rejected (no receipt).", 6),
    ],
)
async def test_claim_waits_for_a_person(
    demo: ModuleType, model: ScriptedModel, approved: bool, reason: str, said: str, steps: int
) -> None:
    """The review is requested once, with an id to answer to; then the run goes on."""
    handler = lambda: demo.evaluate(None, demo.Prompt("My bike, 1,200.50 euros, is gone."))  # noqa: E731
    journal: Journal = {}
    with pytest.raises(Crash):
        await attempt(FakeContext(journal), handler)
    [asked] = [entry["value"] for key, entry in journal.items() if "request review#" in key]
    assert asked["amount"] == 1200.5
    promises = {asked["awakeable_id"]: demo.Decision(approved, reason)}
    assert await attempt(FakeContext(journal, promises=promises), handler) == said
    assert len(journal) == steps
    assert len(model.calls(MODEL_NAME)) == (4 if approved else 3)


async def test_model_choice(demo: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key means the real model, which can be named; nothing at all is explained."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    assert isinstance(demo.model_config().model, str)
    assert demo.model_config().model != MODEL_NAME
    monkeypatch.setenv("HOLDFAST_MODEL", "openai:gpt-x")
    assert demo.model_config().model == "gpt-x"
    monkeypatch.delenv("OPENAI_API_KEY")
    assert demo.model_config().model == MODEL_NAME
    monkeypatch.delenv("HOLDFAST_SCRIPTED_MODEL_URL")
    with pytest.raises(UsageError, match="no model to ask"):
        demo.model_config()
