"""A deadline that has passed is recorded, so its error ends the invocation; others are retried."""

from __future__ import annotations

import asyncio

import pytest

import holdfast as hf
from holdfast.domain.message import Failure

from .loops import both_loops
from .test_attempt import Fn, server_of

ENDED = (408, {"error_code": "HF2038"})


async def by_timeout(ctx: hf.Context) -> None:
    async with asyncio.timeout(5):
        await ctx.awakeable()


async def by_wait_for(ctx: hf.Context) -> None:
    await asyncio.wait_for(ctx.awakeable(), 5)


async def by_wait_for_of_a_coroutine(ctx: hf.Context) -> None:
    await asyncio.wait_for(forever(ctx), 5)


async def by_task(ctx: hf.Context) -> None:
    await asyncio.gather(asyncio.create_task(by_timeout(ctx)), ctx.sleep(1))


async def by_group(ctx: hf.Context) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(by_timeout(ctx))
        tasks.create_task(forever(ctx))


async def by_saga(ctx: hf.Context) -> None:
    async with hf.saga() as saga:
        saga.compensate(print, "undone")
        await by_timeout(ctx)


async def by_timeout_at_once(ctx: hf.Context) -> None:
    async with asyncio.timeout(0):
        await ctx.awakeable()


async def by_a_time_that_has_passed(ctx: hf.Context) -> None:
    await ctx.sleep(5)
    async with asyncio.timeout_at(asyncio.get_running_loop().time() - 1):
        await ctx.awakeable()


async def by_wait_for_nothing(ctx: hf.Context) -> None:
    await asyncio.wait_for(ctx.awakeable(), 0)


async def forever(ctx: hf.Context) -> None:
    await ctx.awakeable()


@both_loops
@pytest.mark.parametrize(
    "handler",
    [
        by_timeout,
        by_wait_for,
        by_wait_for_of_a_coroutine,
        by_task,
        by_group,
        by_saga,
        by_timeout_at_once,
        by_a_time_that_has_passed,
        by_wait_for_nothing,
    ],
)
@pytest.mark.parametrize("is_crashing", [False, True])
async def test_a_deadline_that_nothing_catches_ends_the_invocation(
    handler: Fn, is_crashing: bool
) -> None:
    server = server_of(handler, crash=lambda _: is_crashing)
    outcome = await server.finish()
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.metadata) == ENDED
    assert server.errors == []


async def raise_own(ctx: hf.Context) -> None:
    raise TimeoutError("a socket")


async def raise_behind(ctx: hf.Context) -> None:
    try:
        await by_timeout(ctx)
    except TimeoutError as error:
        raise TimeoutError("another one") from error


async def raise_in_step(ctx: hf.Context) -> None:
    async def body() -> None:
        async with asyncio.timeout(0.001):
            await asyncio.sleep(10)

    await ctx.run("slow", body)


async def raise_at_once_in_step(ctx: hf.Context) -> None:
    async def body() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(10)

    await ctx.run("slow", body)


async def wait_for_nothing_in_step(ctx: hf.Context) -> None:
    async def body() -> None:
        await asyncio.wait_for(asyncio.sleep(10), 0)

    await ctx.run("slow", body)


async def raise_elsewhere(ctx: hf.Context) -> None:
    await asyncio.wait_for(failed_elsewhere(), 5)


async def raise_elsewhere_before(ctx: hf.Context) -> None:
    await asyncio.wait_for(failed_elsewhere(), 0)


def failed_elsewhere() -> asyncio.Future[None]:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_exception(TimeoutError("of a library"))
    return done


@both_loops
@pytest.mark.parametrize(
    "handler",
    [
        raise_own,
        raise_behind,
        raise_in_step,
        raise_at_once_in_step,
        wait_for_nothing_in_step,
        raise_elsewhere,
        raise_elsewhere_before,
    ],
)
async def test_any_other_timeout_error_is_tried_again(handler: Fn) -> None:
    server = server_of(handler)
    server.is_retrying = False
    with pytest.raises(AssertionError, match="TimeoutError"):
        await server.finish()
