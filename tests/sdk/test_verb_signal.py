"""Named signals: who takes which, when they come early or late, and how they are sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure, SendSignal, Suspension, Value, Void

from .fake_server import ID, FakeServer, value
from .loops import both_loops
from .test_attempt import Fn, double, server_of


async def patient(handler: Fn, **options: Any) -> FakeServer:
    server = server_of(handler, **options)
    server.is_patient = True
    await server.settle()
    return server


async def replays(server: FakeServer, handler: Fn) -> None:
    """Every replay ends as the run did."""
    for is_request_response in (False, True):
        replay = server_of(handler, journal=server.journal, is_request_response=is_request_response)
        assert await replay.finish() == server.outcome


@both_loops
async def test_signals_of_one_name_are_a_queue() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        first = await ctx.signal("message", str)
        await ctx.run("step", double, 1)
        second, third = ctx.signal("message", str), ctx.signal("message")
        stop = await ctx.signal("stop")
        return [first, await third, await second, stop]

    server = await patient(handler)
    for text in "abc":
        server.signal_named("message", value(text))
    server.signal_named("stop", value(None))
    server.signal_named("nobody", value("waits"))
    assert await server.run() == ["a", "c", "b", None]
    await replays(server, handler)


@both_loops
async def test_those_that_come_before_they_are_wanted_are_kept() -> None:
    async def handler(ctx: hf.Context) -> list[int]:
        await ctx.sleep(1)
        return [await ctx.signal("n", int), await ctx.signal("n", int)]

    server = await patient(handler)
    server.signal_named("n", value(1))
    server.signal_named("n", value(2))
    server.is_patient = False
    assert await server.run() == [1, 2]
    await replays(server, handler)


@both_loops
async def test_a_wait_that_was_given_up_takes_none() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        try:
            await asyncio.wait_for(ctx.signal("n"), 5)
        except TimeoutError:
            pass
        dropped = ctx.signal("n")
        assert dropped.cancel()
        return [await ctx.signal("n")]

    server = await patient(handler)
    server.fire_timer()
    await server.settle()
    server.signal_named("n", value(7))
    assert await server.run() == [7]
    await replays(server, handler)


@both_loops
async def test_a_rejection_is_raised_and_the_type_is_checked() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        try:
            await ctx.signal("n", int)
        except hf.TerminalError as error:
            seen = [error.code, error.message]
        return [*seen, await ctx.signal("n", dict[str, int])]

    server = await patient(handler)
    server.signal_named("n", Failure(418, "no"))
    server.signal_named("n", value({"a": 1}))
    assert await server.run() == [418, "no", {"a": 1}]


@both_loops
async def test_a_suspension_waits_for_the_next_one_only() -> None:
    async def handler(ctx: hf.Context) -> list[int]:
        return [await ctx.signal("n", int) for _ in range(2)]

    server = await patient(handler, is_request_response=True)
    assert server.suspensions == [Suspension((), (1,), ("n",))]
    server.signal_named("n", value(1))
    for _ in range(3):
        await server.settle()
    count = len(server.suspensions)
    assert server._is_suspended()
    server.signal_named("n", value(2))
    assert await server.run() == [1, 2]
    assert count <= 4


@both_loops
async def test_a_cancellation_ends_the_wait_and_takes_no_signal() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        try:
            await ctx.signal("n")
        except hf.TerminalError as error:
            return [error.code, await ctx.signal("n")]
        return []

    server = await patient(handler)
    server.cancel()
    await server.settle()
    server.signal_named("n", value(1))
    assert await server.run() == [409, 1]
    await replays(server, handler)


@both_loops
async def test_sending_is_recorded_once() -> None:
    async def handler(ctx: hf.Context) -> None:
        await ctx.send_signal(ID, "n", {"a": 1})
        ctx.send_signal(ID, "n")
        ctx.reject_signal(ID, "n", "no", code=418)
        await ctx.sleep(1)

    server = server_of(handler, crash=lambda n: True)
    await server.run()
    sent = [e for e in server.journal if isinstance(e, SendSignal)]
    assert [(s.signal_name, s.index) for s in sent] == [("n", None)] * 3
    assert [s.result for s in sent] == [Value(b'{"a":1}'), Value(b""), Failure(418, "no")]
    assert {s.target_invocation_id for s in sent} == {ID}


@both_loops
async def test_wrong_names_and_ids_are_refused() -> None:
    async def handler(ctx: hf.Context) -> list[str]:
        codes: list[str] = []
        for wrong in (
            lambda: ctx.signal(""),
            lambda: ctx.signal("x" * 257),
            lambda: ctx.send_signal(ID, "\0"),
            lambda: ctx.send_signal("inv_1x", "n"),
            lambda: ctx.reject_signal("", "n", "no"),
        ):
            with pytest.raises(hf.UsageError) as caught:
                wrong()
            codes.append(caught.value.code)
        return codes

    assert await server_of(handler).run() == ["HF0520"] * 3 + ["HF0507"] * 2


# -- awakeables -----------------------------------------------------------------------------------


@both_loops
async def test_a_completion_after_the_timeout_is_harmless() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        promise = ctx.awakeable(int)
        try:
            async with asyncio.timeout(5):
                await promise
        except TimeoutError:
            pass
        await ctx.sleep(1)
        return ["late", promise.cancelled()]

    server = await patient(handler)
    index = server.attempt.machine.suspension().signals[-1] if server.attempt else 0
    assert index > 1
    server.fire_timer()
    await server.settle()
    server.signal(index, value(1))
    server.signal(index, Void())
    server.is_patient = False
    assert await server.run() == ["late", True]
    await replays(server, handler)
