"""Cancellation: of the invocation into what it waits for, and of calls by those who made them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure, Run, SendSignal, Value, Void

from .fake_server import FakeServer, value
from .loops import both_loops
from .test_attempt import Fn, double, server_of


async def cancelled(handler: Fn, **options: Any) -> FakeServer:
    """Run a handler to where it waits, cancel it there, and let happen what can."""
    server = server_of(handler, **options)
    server.is_patient = True
    await server.settle()
    server.cancel()
    await server.settle()
    return server


def cancels(server: FakeServer) -> list[str]:
    return [e.key for e in server.journal if isinstance(e, SendSignal)]


# -- of the invocation ----------------------------------------------------------------------------


class Bodies:
    """Steps that run until they are stopped."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.stopped: list[int] = []

    async def run(self, number: int) -> None:
        self.started.append(number)
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.append(number)


@both_loops
@pytest.mark.parametrize("kind", ["one", "gather", "group", "timeout", "wait"])
async def test_a_running_step_is_stopped_at_once(kind: str) -> None:
    bodies, codes = Bodies(), set[int]()

    async def wait(ctx: hf.Context) -> None:
        steps = [ctx.run("work", bodies.run, n) for n in range(1 if kind == "one" else 3)]
        match kind:
            case "gather":
                await asyncio.gather(*steps)
            case "group":
                async with asyncio.TaskGroup() as group:
                    for step in steps:
                        group.create_task(step)
            case "timeout":
                async with asyncio.timeout(60):
                    await asyncio.gather(*steps)
            case "wait":
                done, _ = await asyncio.wait(steps)
                for step in done:
                    step.result()
            case _:
                await steps[0]

    async def handler(ctx: hf.Context) -> int:
        try:
            await wait(ctx)
        except* hf.TerminalError as errors:
            codes.update(error.code for error in errors.exceptions)
        return await ctx.run("undo", double, 4)

    server = await cancelled(handler)
    assert await server.run() == 8
    assert codes == {409}
    count = 1 if kind == "one" else 3
    assert sorted(bodies.stopped) == list(range(count))
    # At replay a step that was stopped begins again at no prefix that has the cancellation.
    journal, bodies.started = list(server.journal), []
    first = next(n for n, e in enumerate(journal) if not isinstance(e, Run) and n) + 1
    for length in range(first + 1, len(journal) + 1):
        replay = server_of(handler, journal=journal[:length])
        replay.is_patient = True
        assert await replay.run() == 8
        assert replay.commands() == server.commands()
    assert not bodies.started


@both_loops
async def test_the_result_of_a_thread_that_cannot_be_stopped_is_dropped() -> None:
    gate = threading.Event()

    async def handler(ctx: hf.Context) -> str:
        try:
            await ctx.run("thread", gate.wait)
        except hf.TerminalError:
            return await ctx.run("undo", str, "undone")
        return "never"

    server = await cancelled(handler)
    assert await server.run() == "undone"
    gate.set()
    assert [e.name for e in server.journal if isinstance(e, Run)] == ["thread", "undo"]


@both_loops
async def test_a_failing_attempt_does_not_make_a_cancellation_wait_for_its_steps() -> None:
    bodies = Bodies()

    async def flaky() -> None:
        raise ValueError("flaky")

    async def handler(ctx: hf.Context) -> None:
        await asyncio.gather(ctx.run("slow", bodies.run, 1), ctx.run("flaky", flaky))

    server = await cancelled(handler)
    assert bodies.stopped == [1]
    assert "flaky" in server.errors[0].message
    assert await server.finish() == Failure(409, "cancelled")
    assert bodies.started == [1]


@both_loops
async def test_each_cancellation_is_raised_once() -> None:
    async def handler(ctx: hf.Context) -> list[int]:
        caught: list[int] = []
        for _ in range(2):
            try:
                await ctx.sleep(50)
            except hf.TerminalError as error:
                caught.append(error.code)
        await ctx.sleep(1)
        return caught

    server = await cancelled(handler)
    server.cancel()
    server.is_patient = False
    assert await server.run() == [409, 409]


@both_loops
async def test_sends_and_attached_invocations_are_not_told() -> None:
    async def handler(ctx: hf.Context) -> None:
        sent = await ctx.send("Other/later", 1)
        await asyncio.gather(ctx.attach(sent), ctx.call("Other/do", 2))

    server = await cancelled(handler, answer=lambda call: None)
    assert await server.finish() == Failure(409, "cancelled")
    assert cancels(server) == ["cancel[0]/cancel:call:Other.do#0#0"]


# -- of calls -------------------------------------------------------------------------------------


async def by_timeout(ctx: hf.Context) -> None:
    async with asyncio.timeout(5):
        await ctx.call("Other/do", 1)


async def by_wait_for(ctx: hf.Context) -> None:
    await asyncio.wait_for(ctx.call("Other/do", 1), 5)


async def by_wait(ctx: hf.Context) -> None:
    calls = [ctx.call("Other/do", 1), ctx.sleep(5)]
    _, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    for call in pending:
        call.cancel()
        call.cancel()


async def at_once(ctx: hf.Context) -> None:
    ctx.call("Other/do", 1).cancel()


async def by_group(ctx: hf.Context) -> None:
    async def refuse() -> None:
        await ctx.sleep(1)
        raise hf.TerminalError("no")

    async with asyncio.TaskGroup() as group:
        group.create_task(refuse())
        group.create_task(ctx.call("Other/do", 1))


@both_loops
@pytest.mark.parametrize("way", [by_timeout, by_wait_for, by_wait, at_once, by_group])
@pytest.mark.parametrize("has_more", [False, True])
async def test_giving_up_a_call_cancels_what_was_called(way: Any, has_more: bool) -> None:
    async def handler(ctx: hf.Context) -> str:
        try:
            await way(ctx)
        except* (TimeoutError, hf.TerminalError):
            pass
        return await ctx.run("more", str, "end") if has_more else "end"

    server = server_of(handler, answer=lambda call: None)
    assert await server.run() == "end"
    (signal,) = server.signals_sent
    assert (signal.index, signal.result) == (1, Void())
    assert signal.key.endswith("call:Other.do#0/cancel#0")
    journal = list(server.journal)
    for length in range(1, len(journal) + 1):
        replay = server_of(handler, answer=lambda call: None, journal=journal[:length])
        assert await replay.run() == "end"
        assert sorted(replay.commands()) == sorted(server.commands())
    for is_request_response in (False, True):
        crashing = server_of(
            handler,
            answer=lambda call: None,
            crash=lambda n: True,
            is_request_response=is_request_response,
        )
        assert await crashing.run() == "end"
        assert sorted(crashing.commands()) == sorted(server.commands())


@both_loops
async def test_what_a_handler_leaves_or_shields_is_not_cancelled() -> None:
    async def handler(ctx: hf.Context) -> str:
        left = asyncio.create_task(ctx.call("Other/left", 1))
        shielded = ctx.call("Other/shielded", 2)
        try:
            await asyncio.wait_for(asyncio.shield(shielded), 5)
        except TimeoutError:
            pass
        ctx.call("Other/forgotten", 3)
        answered = ctx.call("Answered/do", 4)
        await answered
        answered.cancel()
        return "left" if not left.done() else "done"

    server = server_of(
        handler, answer=lambda call: Value(b"1") if call.service == "Answered" else None
    )
    assert await server.run() == "left"
    assert not server.signals_sent


@both_loops
async def test_the_id_of_a_call_may_be_asked_for_again() -> None:
    async def handler(ctx: hf.Context) -> bool:
        call = ctx.call("Other/do", 1)
        given_up = call.invocation_id
        given_up.cancel()
        child_id = await call.invocation_id
        return child_id == await call.invocation_id

    server = server_of(handler, answer=lambda call: None)
    assert await server.run() is True


@both_loops
async def test_an_attempt_that_fails_or_suspends_cancels_no_calls() -> None:
    failures = [ValueError("only once")]

    async def handler(ctx: hf.Context) -> str:
        async def fail() -> None:
            await ctx.sleep(1)
            if failures:
                raise failures.pop()

        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            called = group.create_task(ctx.call("Other/do", "done"))
        return called.result()

    server = server_of(handler, answer=lambda call: None, is_request_response=True)
    server.is_patient = True
    await server.settle()
    server.fire_timer()
    await server.settle()
    assert len(server.errors) == 1
    await server.settle()
    server.answer_calls(value("done"))
    assert await server.run() == "done"
    assert not server.signals_sent


@both_loops
@pytest.mark.parametrize("is_caught", [False, True])
async def test_a_call_is_not_given_up_because_another_task_makes_the_attempt_fail(
    is_caught: bool,
) -> None:
    failures = [ValueError("only once")]

    async def fail(ctx: hf.Context) -> None:
        await ctx.sleep(1)
        if is_caught:
            raise ValueError("always")
        if failures:
            raise failures.pop()

    async def clean_up(ctx: hf.Context) -> None:
        try:
            await ctx.sleep(50)
        finally:
            await ctx.sleep(5)  # All wait meanwhile, and the group does for this task.

    async def handler(ctx: hf.Context) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(ctx))
                group.create_task(clean_up(ctx))
                called = group.create_task(ctx.call("Other/do", "done"))
        except* ValueError:
            if not is_caught:
                raise
        return called.result() if not called.cancelled() else "given up"

    server = server_of(handler, answer=lambda call: None)
    server.is_patient = True
    while server.outcome is None:
        await server.settle()
        if server._timers:
            server.fire_timer()
        elif not is_caught:
            server.answer_calls(value("done"))
    if is_caught:
        assert server.outcome == value("given up")
        assert [s.index for s in server.signals_sent] == [1]
    else:
        assert server.outcome == value("done")
        assert len(server.errors) == 1
        assert not server.signals_sent
