"""Cancellation, races, signals and sagas on a whole system in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import holdfast as hf

service = hf.Service("Work", retry=hf.RetryPolicy(initial_interval=0.01))
account = hf.VirtualObject("Account")


class Bench:
    """What the handlers of one test did."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.changed = asyncio.Event()

    def note(self, text: str) -> None:
        self.log.append(text)
        self.changed.set()

    async def until(self, is_there: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(10):
            while not is_there(self.log):
                self.changed.clear()
                await self.changed.wait()


bench: Bench


@pytest.fixture(autouse=True)
async def fresh_bench() -> None:
    global bench
    bench = Bench()


async def hang(name: str) -> None:
    bench.note(f"{name} begins")
    try:
        await asyncio.Event().wait()
    finally:
        bench.note(f"{name} is stopped")


async def note(text: str) -> None:
    bench.note(text)


@service.handler
async def tree(ctx: hf.Context, depth: int) -> None:
    """A step and, down to a depth, an invocation like this one."""
    work = [ctx.run("hang", hang, f"step {depth}")]
    calls = [ctx.call(tree, depth - 1)] if depth else []
    try:
        await asyncio.gather(*work, *calls)
    except hf.TerminalError as error:
        await ctx.run("undo", note, f"undo {depth} {error.code}")
        raise


@service.handler
async def survivor(ctx: hf.Context) -> str:
    try:
        await ctx.run("hang", hang, "step")
    except hf.TerminalError:
        return "went on"
    return "never"


@service.handler
async def racer(ctx: hf.Context) -> str:
    winner = await hf.race(ctx.call(tree, 0), ctx.signal("go", str), ctx.sleep(3600))
    return f"{winner.index} {winner.value}"


@service.handler
async def canceller(ctx: hf.Context) -> None:
    sent = await ctx.send(noted, "delayed", delay=3600)
    ctx.cancel(sent)
    with suppress(hf.TerminalError):
        await ctx.attach(sent)
    await ctx.run("note", note, "cancelled")


@service.handler
async def noted(ctx: hf.Context, text: str) -> str:
    await ctx.run("note", note, text)
    return text


@service.handler
async def listener(ctx: hf.Context, count: int) -> list[int]:
    await ctx.run("note", note, "listens")
    return [await ctx.signal("number", int) for _ in range(count)]


@account.handler
async def hold(ctx: hf.Context) -> None:
    await ctx.run("hang", hang, f"hold {ctx.key}")


@account.handler
async def take(ctx: hf.Context) -> str:
    return await ctx.signal("word", str)


@service.handler
async def sender(ctx: hf.Context, to: str) -> None:
    await ctx.send_signal(to, "number", 1)
    ctx.send_signal(to, "number", 2)
    ctx.send_signal("inv_1" + "1" * 33, "number", 3)


@service.handler
async def trip(ctx: hf.Context) -> None:
    async with hf.saga() as saga:
        for name in ("flight", "hotel"):
            saga.compensate(note, f"undo {name}", name=f"undo {name}")
            await ctx.run(name, note, name)
        await ctx.run("car", hang, "car")


app = hf.App(service, account)


def system() -> Any:
    return hf.embedded(app, store="memory:", partition_count=3)


async def fails(coro: Any) -> hf.TerminalError:
    with pytest.raises(hf.TerminalError) as caught:
        async with asyncio.timeout(10):
            await coro
    return caught.value


async def test_a_cancel_stops_steps_at_once_down_the_whole_tree() -> None:
    async with system() as client:
        sent = await client.send(tree, 2)
        await bench.until(lambda log: log.count("step 0 begins") == 1 and "step 2 begins" in log)
        await bench.until(lambda log: "step 1 begins" in log)
        async with asyncio.timeout(1):
            await client.cancel(sent.invocation_id)
            await bench.until(lambda log: sum("is stopped" in line for line in log) == 3)
        assert (await fails(client.attach(sent.invocation_id))).code == 409
        await bench.until(lambda log: sum(line.startswith("undo") for line in log) == 3)
        assert {line for line in bench.log if "undo" in line} == {f"undo {n} 409" for n in range(3)}
        with pytest.raises(hf.ConflictError):
            await client.cancel(sent.invocation_id)


async def test_who_catches_a_cancel_goes_on() -> None:
    async with system() as client:
        sent = await client.send(survivor)
        await bench.until(lambda log: "step begins" in log)
        await client.cancel(sent.invocation_id)
        assert await client.attach(sent.invocation_id) == "went on"


async def test_a_lost_race_cancels_what_was_called() -> None:
    async with system() as client:
        sent = await client.send(racer)
        await bench.until(lambda log: "step 0 begins" in log)
        await client.signal(sent.invocation_id, "go", "stop")
        assert await client.attach(sent.invocation_id) == "1 stop"
        await bench.until(lambda log: "undo 0 409" in log)


async def test_a_delayed_send_is_cancelled() -> None:
    async with system() as client:
        await client.call(canceller)
        assert bench.log == ["cancelled"]


async def test_signals_reach_who_runs_waits_or_has_not_begun() -> None:
    async with system() as client:
        sent = await client.send(listener, 4)
        await bench.until(lambda log: "listens" in log)
        await client.call(sender, sent.invocation_id)
        await client.signal(sent.invocation_id, "number", 3)
        await client.signal(sent.invocation_id, "number", 4)
        assert sorted(await client.attach(sent.invocation_id)) == [1, 2, 3, 4]
        holder = await client.send(hold, key="a")
        queued = await client.send(take, key="a")
        await bench.until(lambda log: "hold a begins" in log)
        await client.signal(queued.invocation_id, "word", "early")
        await client.cancel(holder.invocation_id)
        assert await client.attach(queued.invocation_id) == "early"


async def test_a_rejected_signal_is_raised_and_late_ones_are_refused() -> None:
    async with system() as client:
        sent = await client.send(listener, 1)
        await client.reject_signal(sent.invocation_id, "number", "none left")
        assert str(await fails(client.attach(sent.invocation_id))) == "none left"
        with pytest.raises(hf.ConflictError) as late:
            await client.signal(sent.invocation_id, "number", 1)
        assert late.value.code == "HF0524"
        with pytest.raises(hf.NotFoundError) as unknown:
            await client.signal("inv_1" + "1" * 33, "number", 1)
        assert unknown.value.code == "HF1004"
        with pytest.raises(hf.UsageError) as malformed:
            await client.signal("inv_1x", "number", 1)
        assert malformed.value.code == "HF1003"


async def test_a_cancelled_saga_is_undone() -> None:
    async with system() as client:
        sent = await client.send(trip)
        await bench.until(lambda log: "car begins" in log)
        await client.cancel(sent.invocation_id)
        assert (await fails(client.attach(sent.invocation_id))).code == 409
        assert bench.log == [
            "flight", "hotel", "car begins", "car is stopped", "undo hotel", "undo flight",
        ]  # fmt: skip


async def test_invocations_are_found_by_what_makes_them_unique() -> None:
    async with system() as client:
        known = hf.invocation(noted, idempotency_key="k")
        with pytest.raises(hf.NotFoundError):
            await client.output(known)
        await client.send(noted, "once", idempotency_key="k")
        assert await client.attach(known) == "once"
        assert await client.output(known) == "once"
