"""The workloads with the Restate Python SDK; served by hypercorn."""

from __future__ import annotations

import restate

bench = restate.Service("Bench")
counter = restate.VirtualObject("Counter")


async def one() -> int:
    return 1


@bench.handler()
async def empty(ctx: restate.Context) -> None:
    """Nothing: the cost of a durable call as such."""


@bench.handler()
async def steps(ctx: restate.Context) -> int:
    """Ten durable steps, one after the other."""
    total = 0
    for i in range(10):
        total += await ctx.run_typed(f"step{i}", one)
    return total


@counter.handler()
async def add(ctx: restate.ObjectContext, n: int) -> int:
    """Read-modify-write of durable state, serialised on the object's key."""
    value = (await ctx.get("n", type_hint=int) or 0) + n
    ctx.set("n", value)
    return value


app = restate.app(services=[bench, counter])
