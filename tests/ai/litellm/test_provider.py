"""LiteLLM with other providers than that of `tests/ai/client`: made durable at its requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("litellm", reason="needs LiteLLM")

import holdfast as hf
from holdfast import ai
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn

FAULTS = (Fault(status=500), Fault(status=429, retry_after_s=1), Fault(drop=True))

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")


@pytest.fixture(autouse=True)
def instrumented(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # LiteLLM asks the network for prices when it is imported, unless it is told not to.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    ai.instrument()
    yield
    ai.uninstrument()


@pytest.fixture
def server() -> Iterator[ScriptedModel]:
    with ScriptedModel({"m": [Turn(text="Done.", faults=FAULTS)]}) as server:
        yield server


def asking(server: ScriptedModel, provider: str) -> hf.App:
    """Return an app whose handler asks a provider, by its own API."""
    import litellm

    service = hf.Service("Agent")
    path = {"openai": "/v1", "anthropic": "", "gemini": "/v1beta"}[provider]
    given: dict[str, Any] = {
        "model": f"{provider}/m",
        "api_base": f"{server.root_url}{path}",
        "api_key": "any",
        "messages": [{"role": "user", "content": "go"}],
    }

    @service.handler
    async def run(ctx: hf.Context) -> str:
        answer: Any = await litellm.acompletion(**given)
        await ctx.sleep(3600)
        return str(answer.choices[0].message.content)

    return hf.App(service)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
async def test_a_failure_costs_one_request_and_an_answer_none(
    server: ScriptedModel, provider: str
) -> None:
    async with environment(asking(server, provider), always_replay=True) as env:
        assert await env.client.call("Agent/run") == "Done."
    assert len(server.calls("m")) == len(FAULTS) + 1
