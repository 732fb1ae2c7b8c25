"""`hf.race`: the first counts, the losers are cancelled and have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure

from .clockwork import Clockwork
from .fake_server import value
from .loops import both_loops
from .test_attempt import app_of, server_of


class Race:
    """A handler, with a step that takes longer than anything else."""

    def __init__(self, handler: Callable[[Race, hf.Context], Awaitable[Any]]) -> None:

        async def h(ctx: hf.Context) -> Any:
            return await handler(self, ctx)

        self.app = app_of(h)
        self.server: Clockwork
        self.stopped = 0

    async def slow(self) -> None:
        try:
            await self.server.gate("slow")
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        await asyncio.Event().wait()

    async def run(self, **options: Any) -> Clockwork:
        self.server = Clockwork(self.app, "S/h", answer=lambda call: None, **options)
        await self.server.finish()
        return self.server


async def check(
    handler: Callable[[Race, hf.Context], Awaitable[Any]], expected: Any
) -> tuple[Race, Clockwork]:
    """Run, replay every prefix, and crash everywhere: always the same."""
    race = Race(handler)
    server = await race.run()
    assert server.outcome == value(expected), server.outcome
    for length in range(1, len(server.journal) + 1):
        crashing = await race.run(crash=length.__eq__)
        assert crashing.outcome == server.outcome
        assert crashing.journal == server.journal
    return race, server


@both_loops
async def test_the_first_wins_and_losers_are_cancelled() -> None:
    async def handler(race: Race, ctx: hf.Context) -> list[Any]:
        slow = ctx.run("slow", race.slow)
        call = ctx.call("Other/do", 1)
        winner = await hf.race(slow, ctx.awakeable(), ctx.sleep(3), call, ctx.sleep(99))
        return [winner.index, winner.value, slow.cancelled(), call.cancelled()]

    race, server = await check(handler, [2, None, True, True])
    assert race.stopped
    assert [s.key for s in server.signals_sent] == ["call:Other.do#0/cancel#0"]


@both_loops
async def test_losing_coroutines_clean_up_durably_before_the_race_ends() -> None:
    async def handler(_: Race, ctx: hf.Context) -> list[str]:
        seen: list[str] = []

        async def swim(name: str, delay: float) -> str:
            try:
                await ctx.sleep(delay)
            except asyncio.CancelledError:
                seen.append(await ctx.run("towel", str, f"towel for {name}"))
                raise hf.TerminalError("nobody hears this") from None
            return name

        winner = await hf.race(swim("Ann", 9), swim("Bob", 2), swim("Cid", 5))
        return [winner.value, *seen]

    await check(handler, ["Bob", "towel for Ann", "towel for Cid"])


@both_loops
async def test_the_failure_of_the_first_is_that_of_the_race() -> None:
    async def handler(_: Race, ctx: hf.Context) -> str:
        async def fail() -> None:
            await ctx.sleep(1)
            raise hf.TerminalError("lost", code=418)

        try:
            await hf.race(ctx.sleep(5), fail(), ctx.call("Other/do"))
        except hf.TerminalError as error:
            return f"{error.code} {error.message}"
        return "no"

    _, server = await check(handler, "418 lost")
    assert len(server.signals_sent) == 1


@both_loops
async def test_races_nest_and_are_cancelled_as_a_whole() -> None:
    async def handler(_: Race, ctx: hf.Context) -> list[Any]:
        inner = [hf.race(ctx.call("Other/do", n), ctx.sleep(50)) for n in range(2)]
        winner = await hf.race(*inner, hf.race(ctx.sleep(2), ctx.sleep(1)))
        return [winner.index, winner.value.index]

    _, server = await check(handler, [2, 1])
    assert len(server.signals_sent) == 2


@both_loops
async def test_a_cancellation_of_the_invocation_ends_a_race() -> None:
    async def handler(ctx: hf.Context) -> None:
        await hf.race(ctx.sleep(50), ctx.call("Other/do"))

    server = server_of(handler, answer=lambda call: None)
    server.is_patient = True
    await server.settle()
    server.cancel()
    assert await server.finish() == Failure(409, "cancelled")
    assert len(server.signals_sent) == 1


@both_loops
async def test_a_suspension_is_no_winner() -> None:
    async def handler(ctx: hf.Context) -> str:
        async def wait() -> str:
            return await ctx.call("Other/do", type=str)

        return (await hf.race(wait(), ctx.sleep(50))).value or "slept"

    server = server_of(handler, answer=lambda call: None, is_request_response=True)
    server.is_patient = True
    await server.settle()
    assert len(server.suspensions) == 1
    server.answer_calls(value("called"))
    assert await server.run() == "called"


@both_loops
async def test_a_race_that_is_cancelled_while_losers_clean_up_waits_for_them() -> None:
    async def handler(_: Race, ctx: hf.Context) -> list[str]:
        seen: list[str] = []

        async def swim() -> None:
            try:
                await ctx.sleep(3600)
            finally:
                await ctx.sleep(100)
                seen.append(await ctx.run("towel", str, "towel"))

        try:
            async with asyncio.timeout(10):
                await hf.race(ctx.sleep(1), swim())
        except TimeoutError:
            seen.append("late")
        return seen

    await check(handler, ["towel", "late"])


@both_loops
async def test_a_race_that_is_cancelled_late_leaves_no_error_unseen() -> None:
    async def handler(_: Race, ctx: hf.Context) -> str:
        async def fail() -> None:
            await ctx.sleep(1)
            raise hf.TerminalError("lost")

        async def swim() -> None:
            try:
                await ctx.sleep(3600)
            finally:
                await ctx.sleep(100)

        try:
            async with asyncio.timeout(10):
                await hf.race(fail(), swim())
        except TimeoutError:
            return "late"
        return "no"

    await check(handler, "late")


async def test_a_group_that_holds_the_end_of_the_attempt_is_no_loser_to_forget() -> None:
    async def ends() -> None:
        raise BaseExceptionGroup("of a TaskGroup", [hf.Suspended()])

    with pytest.raises(BaseExceptionGroup):
        await hf.race(asyncio.sleep(0, "won"), ends())


async def test_it_works_outside_of_handlers_and_refuses_nothing() -> None:
    winner = await hf.race(asyncio.sleep(60), asyncio.sleep(0, "b"))
    assert winner == hf.Winner(1, "b")
    with pytest.raises(hf.UsageError, match="at least one") as caught:
        await hf.race()
    assert caught.value.code == "HF0507"
    listed: Any = [asyncio.get_running_loop().create_future()]
    with pytest.raises(hf.UsageError, match=r"hf\.race\(\*them\)"):
        await hf.race(listed)
