"""Sagas: undos run in reverse, durably, once, undisturbed, and only when there is need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure, Run

from .loops import both_loops
from .test_attempt import Fn, double, server_of


def runs(server: Any) -> list[str]:
    return [e.name for e in server.journal if isinstance(e, Run)]


async def undo_a(what: str) -> str:
    return what


def undo_b(what: str) -> str:
    return what


def trip(end: Fn) -> Fn:
    async def handler(ctx: hf.Context) -> str:
        async with hf.saga() as saga:
            saga.compensate(undo_a, "flight")
            await ctx.run("flight", double, 1)
            saga.compensate(undo_b, "hotel", name="cancel hotel")
            await ctx.run("hotel", double, 2)
            await end(ctx)
        return "booked"

    return handler


async def refuse(ctx: hf.Context) -> None:
    raise hf.TerminalError("no car", code=418)


async def time_out(ctx: hf.Context) -> None:
    async with asyncio.timeout(5):
        await ctx.awakeable()


async def group(ctx: hf.Context) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(ctx.sleep(100))
        await refuse(ctx)


@both_loops
@pytest.mark.parametrize("end", [refuse, group])
async def test_undos_run_in_reverse_and_the_error_goes_on(end: Fn) -> None:
    handler = trip(end)
    server = server_of(handler)
    assert await server.finish() == Failure(418, "no car")
    assert runs(server) == ["flight", "hotel", "cancel hotel", "undo undo_a"]
    for length in range(1, len(server.journal) + 1):
        replay = server_of(handler, journal=server.journal[:length])
        assert await replay.finish() == Failure(418, "no car")
        assert replay.commands() == server.commands()
    crashing = server_of(handler, crash=lambda n: True)
    assert await crashing.finish() == Failure(418, "no car")
    assert crashing.commands() == server.commands()


@both_loops
async def test_a_saga_that_ends_well_undoes_nothing() -> None:
    server = server_of(trip(lambda ctx: ctx.sleep(1)))
    assert await server.run() == "booked"
    assert runs(server) == ["flight", "hotel"]


@both_loops
async def test_an_error_that_only_fails_the_attempt_undoes_nothing() -> None:
    failures = [ValueError("a bug"), ValueError("the same")]

    async def end(ctx: hf.Context) -> None:
        if failures:
            raise failures.pop()

    server = server_of(trip(end))
    assert await server.run() == "booked"
    assert len(server.errors) == 2
    assert runs(server) == ["flight", "hotel"]


@both_loops
async def test_a_suspension_undoes_nothing() -> None:
    server = server_of(trip(lambda ctx: ctx.sleep(1)), is_request_response=True)
    assert await server.run() == "booked"
    assert runs(server) == ["flight", "hotel"]


@both_loops
async def test_timeouts_and_asyncio_cancellations_are_final() -> None:
    async def handler(ctx: hf.Context) -> list[str]:
        seen: list[str] = []
        try:
            await trip(time_out)(ctx)
        except TimeoutError:
            seen.append("inner")
        try:
            async with asyncio.timeout(5):
                await trip(lambda ctx: ctx.sleep(50))(ctx)
        except TimeoutError:
            seen.append("outer")
        return seen

    server = server_of(handler)
    assert await server.run() == ["inner", "outer"]
    assert runs(server).count("cancel hotel") == 2


@both_loops
async def test_a_cancelled_saga_is_undone_and_further_cancels_wait_for_it() -> None:
    async def slow(what: str) -> None:
        await asyncio.sleep(0.01)

    async def handler(ctx: hf.Context) -> str:
        try:
            async with hf.saga() as saga:
                saga.compensate(slow, 1)
                saga.compensate(slow, 2)
                await ctx.awakeable()
        except hf.TerminalError:
            await ctx.sleep(50)
        return "not cancelled again"

    server = server_of(handler)
    server.is_patient = True
    await server.settle()
    server.cancel()
    await server.settle(3)
    server.cancel()  # In the middle of the compensation.
    assert await server.finish() == Failure(409, "cancelled")
    assert runs(server) == ["undo slow", "undo slow"]
    assert len([e for e in server.journal if getattr(e, "kind", 0) == 0x8011]) == 2
    journal = list(server.journal)
    for length in range(1, len(journal) + 1):
        replay = server_of(handler, journal=journal[:length])
        replay.is_patient = True
        for _ in range(2):
            await replay.settle()
            if sum(getattr(e, "index", 0) == 1 for e in replay.journal) < 2:
                replay.cancel()
        assert await replay.finish() == Failure(409, "cancelled")
        assert runs(replay) == ["undo slow", "undo slow"]


@both_loops
async def test_a_timeout_does_not_cut_a_compensation_short() -> None:
    async def slow(what: str) -> None:
        await asyncio.sleep(0.01)

    async def handler(ctx: hf.Context) -> str:
        try:
            async with asyncio.timeout(1):
                async with hf.saga() as saga:
                    saga.compensate(undo_b, "b")
                    saga.compensate(slow, "a")
                    raise hf.TerminalError("no")
        except TimeoutError:
            return "timeout"
        return "no timeout"

    server = server_of(handler)
    server.is_patient = True
    await server.settle(3)
    server.fire_timer()
    assert await server.run() == "timeout"
    assert runs(server) == ["undo slow", "undo undo_b"]


@both_loops
async def test_an_undo_that_fails_is_retried_and_reported_if_it_fails_for_good() -> None:
    failures = [ValueError("flaky")]

    def flaky() -> None:
        if failures:
            raise failures.pop()

    def never() -> None:
        raise hf.TerminalError("the hotel is closed")

    async def used_up() -> None:
        raise ValueError("no answer")

    caught: list[hf.CompensationError] = []

    async def handler(ctx: hf.Context) -> None:
        try:
            async with hf.saga() as saga:
                saga.compensate(flaky)
                saga.compensate(never)
                saga.compensate(used_up, retry=hf.RetryPolicy(max_attempts=1))
                await refuse(ctx)
        except hf.CompensationError as error:
            caught.append(error)
            raise

    server = server_of(handler)
    outcome = await server.finish()
    assert isinstance(outcome, Failure)
    assert outcome.code == 500
    assert "no car" in outcome.message
    assert "undo used_up: ValueError: no answer; undo never: the hotel is closed" in outcome.message
    assert "[HF0522]" in outcome.message
    assert outcome.metadata == {"error_code": "HF0522"}
    assert [name for name, _ in caught[-1].failures] == ["undo used_up", "undo never"]
    assert isinstance(caught[-1].__cause__, hf.TerminalError)
    assert runs(server) == ["undo used_up", "undo never", "undo flaky"]
    assert len(server.errors) == 1


@both_loops
async def test_sagas_nest_and_run_side_by_side() -> None:
    async def handler(ctx: hf.Context) -> str:
        async def part(name: str) -> None:
            async with hf.saga() as saga:
                saga.compensate(undo_a, name, name=f"undo {name}")
                await ctx.run(name, double, 1)
                if name == "b":
                    raise hf.TerminalError("no b")
                await ctx.sleep(50)

        async with hf.saga() as outer:
            outer.compensate(undo_b, "all", name="undo all")
            async with asyncio.TaskGroup() as group:
                for name in "ab":
                    group.create_task(part(name))
        return "never"

    server = server_of(handler)
    assert await server.finish() == Failure(500, "no b")
    names = runs(server)
    assert sorted(names) == ["a", "b", "undo a", "undo all", "undo b"]
    assert names[-1] == "undo all"


@both_loops
async def test_wrong_use_is_refused() -> None:
    async def handler(ctx: hf.Context) -> list[str]:
        codes: list[str] = []
        for wrong in (register_late, register_a_result, enter_twice):
            with pytest.raises(hf.UsageError) as caught:
                await wrong()
            codes.append(caught.value.code)
        return codes

    assert await server_of(handler).run() == ["HF0523", "HF0507", "HF0523"]
    with pytest.raises(hf.UsageError, match="outside of a handler"):
        await enter_twice()


async def register_late() -> None:
    hf.saga().compensate(undo_b, "x")


async def register_a_result() -> None:
    async with hf.saga() as saga:
        saga.compensate(undo_b("x"))  # type: ignore[arg-type]


async def enter_twice() -> None:
    saga = hf.saga()
    async with saga, saga:
        pass


# -- cancelled because of others -------------------------------------------------------------------


async def for_long(ctx: hf.Context) -> None:
    async with hf.saga() as saga:
        saga.compensate(undo_a, "flight")
        await ctx.run("flight", double, 1)
        await ctx.sleep(50)


async def nested(ctx: hf.Context) -> None:
    async with asyncio.TaskGroup() as inner:
        inner.create_task(for_long(ctx))


async def waited_for(ctx: hf.Context) -> None:
    await asyncio.wait_for(for_long(ctx), 1000)


async def gathered(ctx: hf.Context) -> None:
    await asyncio.gather(for_long(ctx), ctx.sleep(60))


async def in_a_group(ctx: hf.Context, end: Fn, saga: Fn) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(saga(ctx))
        group.create_task(end(ctx))


async def in_the_body_of_a_group(ctx: hf.Context, end: Fn, saga: Fn) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(end(ctx))
        await saga(ctx)


async def behind_the_body_of_a_group(ctx: hf.Context, end: Fn, saga: Fn) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(saga(ctx))
        await end(ctx)


async def in_a_race(ctx: hf.Context, end: Fn, saga: Fn) -> None:
    await hf.race(saga(ctx), end(ctx))


async def in_a_race_in_a_group(ctx: hf.Context, end: Fn, saga: Fn) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(hf.race(saga(ctx), ctx.awakeable()))
        group.create_task(end(ctx))


TOGETHER = [
    in_a_group,
    in_the_body_of_a_group,
    behind_the_body_of_a_group,
    in_a_race,
    in_a_race_in_a_group,
]


@both_loops
@pytest.mark.parametrize("saga", [for_long, nested, waited_for, gathered])
@pytest.mark.parametrize("together", TOGETHER)
async def test_it_is_not_undone_because_another_task_makes_the_attempt_fail(
    together: Any, saga: Fn
) -> None:
    failures = [ValueError("a bug")]

    async def end(ctx: hf.Context) -> None:
        await ctx.sleep(5)
        if failures:
            raise failures.pop()
        await ctx.sleep(100)

    async def handler(ctx: hf.Context) -> str:
        await together(ctx, end, saga)
        return "booked"

    server = server_of(handler)
    assert await server.run() == "booked"
    assert len(server.errors) == 1
    assert runs(server) == ["flight"]


@both_loops
@pytest.mark.parametrize("saga", [for_long, nested, waited_for, gathered])
@pytest.mark.parametrize("together", TOGETHER)
async def test_it_is_undone_because_another_task_ends_for_good(together: Any, saga: Fn) -> None:
    async def end(ctx: hf.Context) -> None:
        await ctx.sleep(5)
        await refuse(ctx)

    async def handler(ctx: hf.Context) -> None:
        await together(ctx, end, saga)

    server = server_of(handler)
    assert await server.finish() == Failure(418, "no car")
    assert runs(server) == ["flight", "undo undo_a"]
    crashing = server_of(handler, crash=lambda n: True)
    assert await crashing.finish() == Failure(418, "no car")
    assert runs(crashing) == runs(server)


@both_loops
async def test_a_timeout_that_no_journal_has_undoes_nothing() -> None:
    failures = [TimeoutError("the socket")]

    async def end(ctx: hf.Context) -> None:
        if failures:
            raise failures.pop()

    server = server_of(trip(end))
    assert await server.run() == "booked"
    assert len(server.errors) == 1
    assert runs(server) == ["flight", "hotel"]
