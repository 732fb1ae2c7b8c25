"""Limits of a provider, shared by everything that calls it; in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from datetime import timedelta

import pytest

import holdfast as hf
from holdfast.ai.limit import ProviderLimit, enter, limit_keeper
from holdfast.domain.errors import UsageError
from holdfast.testing import environment

LIMIT_TOKENS = 60_000


class Provider:
    """A model provider that refuses what passes its limit in any window of 60 s."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._taken: deque[tuple[float, int]] = deque()
        self.refusals = 0
        self.running = 0
        self.busiest = 0
        self.refuse_until_s = 0.0

    def call(self, tokens: int) -> bool:
        now_s = self._now_s()
        while self._taken and self._taken[0][0] <= now_s - 60:
            self._taken.popleft()
        if sum(taken for _, taken in self._taken) + tokens > LIMIT_TOKENS or (
            now_s < self.refuse_until_s
        ):
            self.refusals += 1
            return False
        self._taken.append((now_s, tokens))
        return True


def agent(limit: ProviderLimit, provider: Callable[[], Provider]) -> hf.Service:
    service = hf.Service("Agent")

    @service.handler
    async def turn(ctx: hf.Context, tokens: list[int]) -> bool:
        reserved, used = tokens
        place = await enter(limit, reserved)
        answered = await ctx.run("model call", provider().call, used)
        if answered:
            await ctx.sleep(2, "the model thinks")
        place.leave(used, retry_after_ms=None if answered else 30_000)
        return answered

    return service


async def test_fifty_at_once_are_never_refused() -> None:
    limit = ProviderLimit(name="key-1", tokens_per_minute=LIMIT_TOKENS)
    async with environment(hf.App(agent(limit, lambda: provider), limit_keeper)) as env:
        provider = Provider(lambda: env.now.timestamp())
        chance = random.Random(7)
        asked = [(a := chance.randint(200, 8_000), chance.randint(100, a)) for _ in range(200)]
        began = env.now
        said = await asyncio.gather(
            *(env.client.call("Agent/turn", list(tokens)) for tokens in asked)
        )
        assert all(said)
        assert provider.refusals == 0
        minutes = (env.now - began) / timedelta(minutes=1)
        assert minutes < sum(reserved for reserved, _ in asked) / LIMIT_TOKENS * 1.3 + 1


async def test_one_refusal_slows_all() -> None:
    limit = ProviderLimit(name="key-1", requests_per_minute=60)
    async with environment(hf.App(agent(limit, lambda: provider), limit_keeper)) as env:
        provider = Provider(lambda: env.now.timestamp())
        provider.refuse_until_s = env.now.timestamp() + 30
        began = env.now
        said = await asyncio.gather(*(env.client.call("Agent/turn", [1, 1]) for _ in range(40)))
        # Those that the bucket lets start at once are refused; all others wait for 30 s.
        assert provider.refusals == said.count(False) <= 7
        assert (env.now - began).total_seconds() >= 30


async def test_no_more_than_so_many_at_a_time() -> None:
    limit = ProviderLimit(name="key-1", concurrency=3)
    running, busiest = 0, 0
    service = hf.Service("Agent")

    @service.handler
    async def turn(ctx: hf.Context) -> None:
        nonlocal running, busiest
        place = await enter(limit, 0)
        running += 1
        busiest = max(busiest, running)
        await ctx.sleep(1)
        running -= 1
        place.leave()

    async with environment(hf.App(service, limit_keeper)) as env:
        began = env.now
        await asyncio.gather(*(env.client.call("Agent/turn") for _ in range(12)))
        assert busiest == 3
        assert (env.now - began).total_seconds() == pytest.approx(4, abs=0.5)


async def test_a_call_that_never_ends_gives_its_place_back_when_its_lease_ends() -> None:
    limit = ProviderLimit(name="key-1", concurrency=1, lease=timedelta(minutes=5))
    service = hf.Service("Agent")

    @service.handler
    async def turn(ctx: hf.Context, is_stuck: bool) -> None:
        place = await enter(limit, 0)
        if is_stuck:
            await ctx.awakeable(str)
        place.leave()

    async with environment(hf.App(service, limit_keeper)) as env:
        await env.client.send("Agent/turn", True)
        await env.settle()
        other = await env.client.send("Agent/turn", False)
        await env.settle()
        began = env.now
        await env.client.attach(other.invocation_id)
        assert timedelta(minutes=4) < env.now - began < timedelta(minutes=6)


async def test_who_is_cancelled_in_the_queue_leaves_it() -> None:
    limit = ProviderLimit(name="key-1", concurrency=1)
    service = hf.Service("Agent")

    @service.handler
    async def turn(ctx: hf.Context, wait_s: float) -> None:
        place = await enter(limit, 0)
        await ctx.sleep(wait_s)
        place.leave()

    async with environment(hf.App(service, limit_keeper)) as env:
        first = await env.client.send("Agent/turn", 60)
        await env.settle()
        second = await env.client.send("Agent/turn", 1)
        await env.settle()
        third = await env.client.send("Agent/turn", 1)
        await env.settle()
        await env.client.cancel(second.invocation_id)
        began = env.now
        await env.client.attach(third.invocation_id)
        assert (env.now - began).total_seconds() <= 62
        await env.client.attach(first.invocation_id)


async def test_a_crash_anywhere_takes_a_place_once() -> None:
    limit = ProviderLimit(name="key-1", tokens_per_minute=6_000, concurrency=2)
    provider = Provider(lambda: 0.0)
    app = hf.App(agent(limit, lambda: provider), limit_keeper)
    async with environment(app, always_replay=True) as env:
        for _ in range(3):
            assert await env.client.call("Agent/turn", [100, 50])


@pytest.mark.parametrize(
    ("name", "count"), [("", 1), ("x", 0), ("x", -3)], ids=["no name", "none", "negative"]
)
def test_a_limit_that_cannot_be(name: str, count: int) -> None:
    with pytest.raises(UsageError) as refused:
        ProviderLimit(name=name, concurrency=count)
    assert refused.value.code == "HF0640"
