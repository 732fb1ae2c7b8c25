"""Budgets: at the limit a run waits for a person, and no more than one call goes over it."""

from __future__ import annotations

import asyncio

import pytest

import holdfast as hf
from holdfast.ai.budget import Amount, Budget, budget_keeper, permit
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing import Environment, environment


def app(*budgets: Budget) -> hf.App:
    """Return an app whose agent makes model calls of so many tokens, one after the other."""
    service = hf.Service("Agent")

    @service.handler
    async def run(ctx: hf.Context, calls: list[int]) -> int:
        for tokens in calls:
            allowed = await permit(budgets, Amount(tokens, tokens * 10))
            used = await ctx.run("model call", lambda tokens=tokens: tokens)
            allowed.spend(Amount(used, used * 10))
        return sum(calls)

    @service.handler
    async def fan_out(ctx: hf.Context, calls: list[int]) -> int:
        async def one(tokens: int) -> None:
            allowed = await permit(budgets, Amount(tokens, 0))
            await ctx.sleep(1)
            allowed.spend(Amount(tokens, 0))

        async with asyncio.TaskGroup() as group:
            for tokens in calls:
                group.create_task(one(tokens))
        return sum(calls)

    return hf.App(service, budget_keeper)


async def used(env: Environment, key: str) -> int:
    await env.settle()
    verdict = await env.client.call("HoldfastBudget/show", key=key)
    return int(verdict["spent"].get("tokens", 0))


@pytest.mark.parametrize("always_replay", [False, True])
async def test_a_run_waits_at_its_limit_and_goes_on_when_it_is_raised(always_replay: bool) -> None:
    async with environment(app(Budget(tokens=100)), always_replay=always_replay) as env:
        sent = await env.client.send("Agent/run", [40, 40, 40, 40])
        (waiting,) = await env.approvals()
        assert waiting.asked is not None
        assert "120 of 100 tokens" in waiting.asked.why
        assert await used(env, f"run/{sent.invocation_id}") == 120
        await env.decide(waiting.id, True, by="anna")
        assert await env.client.attach(sent.invocation_id) == 160


async def test_a_person_may_say_no() -> None:
    async with environment(app(Budget(tokens=10))) as env:
        sent = await env.client.send("Agent/run", [10, 10])
        (waiting,) = await env.approvals()
        await env.decide(waiting.id, False, by="anna")
        with pytest.raises(TerminalError, match="anna did not raise it") as failed:
            await env.client.attach(sent.invocation_id)
        assert failed.value.code == 402


async def test_a_budget_of_money_that_fails() -> None:
    budget = Budget(key="tenant-1", money="0.0005", on_limit="fail")
    async with environment(app(budget)) as env:
        with pytest.raises(TerminalError, match=r"0\.0006 of 0\.00 USD") as failed:
            await env.client.call("Agent/run", [30, 30, 30])
        assert failed.value.code == 402
        assert await used(env, "tenant-1") == 60


async def test_runs_of_one_key_share_a_budget() -> None:
    budget = Budget(key="session-1", tokens=100, on_limit="fail")
    async with environment(app(budget)) as env:
        assert await env.client.call("Agent/run", [60]) == 60
        assert await env.client.call("Agent/run", [60]) == 60
        with pytest.raises(TerminalError):
            await env.client.call("Agent/run", [1])


async def test_calls_under_way_count() -> None:
    budget = Budget(key="tenant-1", tokens=100, on_limit="fail")
    async with environment(app(budget)) as env:
        with pytest.raises(TerminalError):
            await env.client.call("Agent/fan_out", [40] * 10)
        assert await used(env, "tenant-1") <= 140


async def test_a_budget_of_a_day_begins_anew() -> None:
    budget = Budget(key="tenant-1", tokens=10, period="day", on_limit="fail")
    async with environment(app(budget)) as env:
        assert await env.client.call("Agent/run", [10]) == 10
        with pytest.raises(TerminalError):
            await env.client.call("Agent/run", [10])
        await env.advance(86_400)
        assert await env.client.call("Agent/run", [10]) == 10


@pytest.mark.parametrize(
    "settings", [{}, {"tokens": 0}, {"money": "much"}, {"money": "0"}, {"money": "NaN"}]
)
def test_a_budget_that_cannot_be(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError) as refused:
        Budget(**settings)  # type: ignore[arg-type]
    assert refused.value.code == "HF0650"


async def test_who_gives_up_waiting_holds_no_place() -> None:
    roomy, empty = Budget(key="roomy", tokens=100), Budget(key="empty", tokens=1)
    service = hf.Service("Agent")

    @service.handler
    async def run(ctx: hf.Context) -> str:
        (await permit((empty,), Amount(1, 0))).spend(Amount(1, 0))
        try:
            async with asyncio.timeout(60):
                await permit((roomy, empty), Amount(40, 0))
        except TimeoutError:
            return "gave up"
        return "went on"

    async with environment(hf.App(service, budget_keeper)) as env:
        assert await env.client.call("Agent/run") == "gave up"
        await env.settle()
        verdict = await env.client.call("HoldfastBudget/show", key="roomy")
        assert verdict["reserved"].get("tokens", 0) == 0
