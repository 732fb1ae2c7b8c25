"""What stands before a model call, with a real client over real HTTP: budgets and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import openai
import pytest

import holdfast as hf
from holdfast import ai
from holdfast.ai import Options, agent_scope
from holdfast.ai.budget import Budget, budget_keeper
from holdfast.ai.limit import ProviderLimit, limit_keeper
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn, Usage


@pytest.fixture
async def client() -> AsyncIterator[openai.AsyncOpenAI]:
    own = openai.AsyncOpenAI(base_url="http://unused", api_key="any", http_client=ai.http_client())
    async with own:
        yield own


def asking(client: openai.AsyncOpenAI, model: ScriptedModel, options: Options) -> hf.App:
    service = hf.Service("Agent")
    there = client.with_options(base_url=model.url)

    @service.handler(retry=hf.RetryPolicy(max_attempts=3, on_max_attempts="kill"))
    async def ask(ctx: hf.Context, turns: int) -> list[str | None]:
        said: list[str | None] = []
        with agent_scope("asker", options):
            for _ in range(turns):
                answer = await there.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "go"}]
                )
                said.append(answer.choices[0].message.content)
        return said

    return hf.App(service, limit_keeper, budget_keeper)


ANSWER = Turn(text="yes", usage=Usage(input_tokens=60, output_tokens=40))


@pytest.mark.parametrize("always_replay", [False, True])
async def test_a_budget_is_passed_by_one_call_at_most(
    client: openai.AsyncOpenAI, always_replay: bool
) -> None:
    with ScriptedModel({"m": [ANSWER]}) as model:
        app = asking(client, model, Options(budgets=(Budget(tokens=250),)))
        async with environment(app, always_replay=always_replay) as env:
            sent = await env.client.send("Agent/ask", 5)
            (waiting,) = await env.approvals()
            assert len(model.calls("m")) == 3
            assert waiting.asked is not None
            assert "300 of 250 tokens" in waiting.asked.why
            await env.decide(waiting.id, True)
            assert await env.client.attach(sent.invocation_id) == ["yes"] * 5
        assert len(model.calls("m")) == 5


async def test_a_price_that_nobody_knows_is_not_nothing(client: openai.AsyncOpenAI) -> None:
    with ScriptedModel({"m": [ANSWER]}) as model:
        app = asking(client, model, Options(budgets=(Budget(money="5"),)))
        async with environment(app) as env:
            with pytest.raises(hf.TerminalError, match="HF0651"):
                await env.client.call("Agent/ask", 1)
        assert len(model.calls("m")) == 1


async def test_a_refusal_of_the_provider_slows_all_and_is_tried_again(
    client: openai.AsyncOpenAI,
) -> None:
    turn = Turn(text="yes", faults=(Fault(status=429, retry_after_s=20),))
    with ScriptedModel({"m": [turn]}) as model:
        limit = ProviderLimit(name="key-1", requests_per_minute=600)
        async with environment(asking(client, model, Options(limit=limit))) as env:
            began = env.now
            assert await env.client.call("Agent/ask", 1) == ["yes"]
            assert (env.now - began).total_seconds() >= 20
            # The next one of another run comes after that time, and is not refused.
            assert await env.client.call("Agent/ask", 1) == ["yes"]
        assert len(model.calls("m")) == 3


async def test_calls_are_spread_over_the_minute(client: openai.AsyncOpenAI) -> None:
    with ScriptedModel({"m": [ANSWER]}) as model:
        limit = ProviderLimit(name="key-1", requests_per_minute=6)
        async with environment(asking(client, model, Options(limit=limit))) as env:
            began = env.now
            assert await env.client.call("Agent/ask", 7) == ["yes"] * 7
            assert (env.now - began).total_seconds() > 60
