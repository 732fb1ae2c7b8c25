"""How attempts end while user code waits: suspension, abort, and what a handler leaves behind."""

from __future__ import annotations

import asyncio
import threading

import pytest

import holdfast as hf
from holdfast.domain.message import Suspension
from holdfast.sdk.attempt import Attempt

from .fake_server import value
from .loops import both_loops
from .test_attempt import double, server_of


@both_loops
async def test_suspension_lists_what_is_awaited_and_leaves_no_tasks() -> None:
    seen: list[BaseException] = []

    async def child(ctx: hf.Context) -> None:
        try:
            await ctx.sleep(10)
        except Exception as error:  # Must not catch a suspension.
            seen.append(error)

    async def handler(ctx: hf.Context) -> str:
        awakeable = ctx.awakeable(type=str)
        ctx.sleep(99)  # Nobody waits for it.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(ctx))
                group.create_task(asyncio.sleep(20))
                waiting = group.create_task(awakeable)
        except BaseException as error:
            seen.append(error)
            with pytest.raises(hf.Suspended):
                ctx.sleep(1)
            raise
        return waiting.result()

    server = server_of(handler)
    server.is_patient = True
    await server.settle()
    assert not server.suspensions
    server.close_input()
    await asyncio.sleep(0)
    (suspension,) = server.suspensions
    assert suspension.completions == (2, 3)
    assert suspension.signals[0] == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= 2
    assert len(seen) == 1
    assert server.streams[0].closed == [None]
    server.signal(suspension.signals[1], value("done"))
    server.is_patient = False
    assert await server.run() == "done"


@both_loops
async def test_suspension_waits_for_steps_that_run() -> None:
    release = asyncio.Event()

    async def slow() -> int:
        await release.wait()
        return 1

    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("slow", slow)

    server = server_of(handler, is_request_response=True)
    await server.settle()
    assert not server.suspensions
    release.set()
    assert await server.run() == 1
    assert server.suspensions == [Suspension((1,), (1,))]
    assert len(server.streams) == 2


@both_loops
async def test_waiting_for_something_else_does_not_suspend() -> None:
    event = asyncio.Event()

    async def handler(ctx: hf.Context) -> int:
        await event.wait()
        return 1

    server = server_of(handler, is_request_response=True)
    await server.settle()
    event.set()
    assert await server.run() == 1
    assert not server.suspensions


@both_loops
async def test_work_in_threads_of_the_handler_is_not_waiting() -> None:
    gate = threading.Event()

    async def handler(ctx: hf.Context) -> list[str]:
        order: list[str] = []

        async def thread() -> None:
            await asyncio.to_thread(gate.wait)
            order.append("thread")

        async def sleep() -> None:
            await ctx.sleep(1)
            order.append("sleep")

        await asyncio.gather(thread(), sleep())
        return order

    server = server_of(handler, is_request_response=True)
    await server.settle()
    assert not server.suspensions
    gate.set()
    assert await server.run() == ["thread", "sleep"]


# -- abort ----------------------------------------------------------------------------------------


@both_loops
async def test_an_aborted_attempt_stops_and_says_nothing() -> None:
    stopped: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("body")

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            stopped.append("stubborn")
            raise

    async def handler(ctx: hf.Context) -> None:
        tasks = [asyncio.create_task(stubborn())]
        try:
            await asyncio.gather(ctx.run("body", body), ctx.sleep(5), *tasks)
        finally:
            stopped.append("handler")

    server = server_of(handler)
    server.is_patient = True
    await server.settle()
    assert isinstance(server.attempt, Attempt)
    sent = len(server.streams[0].batches)
    server.attempt.abort()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(stopped) == ["body", "handler", "stubborn"]
    assert len(server.streams[0].batches) == sent
    assert server.streams[0].closed == ["aborted"]


@both_loops
async def test_what_the_handler_leaves_behind_is_cancelled() -> None:
    stopped: list[str] = []

    async def background(ctx: hf.Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            stopped.append("task")

    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("body")

    async def handler(ctx: hf.Context) -> int:
        task = asyncio.create_task(background(ctx))
        ctx.run("body", body)
        await ctx.run("double", double, 1)
        return 0 if task.done() else 1

    server = server_of(handler)
    server.is_patient = True
    assert await server.run() == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(stopped) == ["body", "task"]
    assert server.streams[0].closed == [None]
