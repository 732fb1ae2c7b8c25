"""Small handlers: greeting, counting, waiting, and a trip that is taken back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ledger import note

import holdfast as hf


@dataclass
class Order:
    item: str
    count: int


def now_note(line: str) -> None:
    note(f"{line} {time.time():.3f}")


greeter = hf.Service("Greeter")
counter = hf.VirtualObject("Counter")
waiter = hf.Service("Waiter")
trip = hf.Service("Trip")


@greeter.handler
async def greet(ctx: hf.Context, name: str) -> str:
    return f"Hello {name}"


@greeter.handler
async def total(ctx: hf.Context, order: Order) -> int:
    return order.count


@greeter.handler
async def once(ctx: hf.Context, name: str) -> str:
    """Differs with every invocation."""
    await ctx.run("note", note, f"once {name}")
    return str(ctx.uuid())


@counter.handler
async def add(ctx: hf.Context, amount: int) -> int:
    value = (await ctx.get("value", type=int) or 0) + amount
    ctx.set("value", value)
    return value


@counter.handler
async def hold(ctx: hf.Context) -> str:
    """Keep the key until somebody says so."""
    release = ctx.awakeable(type=str)
    await ctx.run("tell", note, f"hold {release.id}")
    return await release


@counter.shared
async def peek(ctx: hf.Context) -> int:
    return await ctx.get("value", type=int) or 0


@waiter.handler
async def nap(ctx: hf.Context, seconds: float) -> str:
    await ctx.run("lie down", now_note, "lie-down")
    await ctx.sleep(seconds)
    await ctx.run("wake up", now_note, "wake-up")
    return "rested"


@waiter.handler
async def wait(ctx: hf.Context, name: str) -> str:
    answer = ctx.awakeable(type=str)
    await ctx.run("tell", note, f"wait {answer.id}")
    return f"{name}: {await answer}"


@waiter.handler
async def mark(ctx: hf.Context, name: str) -> None:
    await ctx.run("mark", now_note, f"mark-{name}")


@trip.handler
async def fly(ctx: hf.Context, name: str) -> str:
    await ctx.run("board", note, f"board {name}")
    try:
        await ctx.sleep(3600)
    except hf.TerminalError as error:
        await ctx.run("leave", note, f"leave {name} {error.code}")
        raise
    return "landed"


@trip.handler
async def book(ctx: hf.Context, name: str) -> str:
    await ctx.run("reserve", note, f"reserve {name}")
    try:
        return await ctx.call(fly, name)
    except hf.TerminalError as error:
        await ctx.run("undo", note, f"undo {name} {error.code}")
        raise


async def stroll(name: str) -> None:
    note(f"stroll {name}")
    try:
        await asyncio.Event().wait()
    finally:
        now_note(f"stopped-{name}")


@trip.handler
async def wander(ctx: hf.Context, name: str) -> str:
    """Walk about until a signal says where to go."""
    async with hf.saga() as saga:
        saga.compensate(note, f"home {name}", name="go home")
        winner = await hf.race(ctx.run("stroll", stroll, name), ctx.signal("go", str))
    return f"went {winner.value}"


app = hf.App(greeter, counter, waiter, trip)
