"""The workloads with Holdfast; served by ``holdfast dev`` or embedded."""

from __future__ import annotations

import holdfast as hf

bench = hf.Service("Bench")
counter = hf.VirtualObject("Counter")


async def one() -> int:
    return 1


@bench.handler
async def empty(ctx: hf.Context) -> None:
    """Nothing: the cost of a durable call as such."""


@bench.handler
async def steps(ctx: hf.Context) -> int:
    """Ten durable steps, one after the other."""
    total = 0
    for i in range(10):
        total += await ctx.run(f"step{i}", one)
    return total


@counter.handler
async def add(ctx: hf.Context, n: int) -> int:
    """Read-modify-write of durable state, serialised on the object's key."""
    value = (await ctx.get("n", type=int) or 0) + n
    ctx.set("n", value)
    return value


app = hf.App(bench, counter)
