"""A virtual object: state per key, one writer at a time, readers beside it.

Run it:

    holdfast dev examples/counter.py:app
    curl localhost:8080/Counter/visits/add --json 3
    curl localhost:8080/Counter/visits/add --json 4
    curl -X POST localhost:8080/Counter/visits/value
    curl -X POST localhost:8080/Counter/visits/reset
"""

import holdfast as hf

counter = hf.VirtualObject("Counter")


@counter.handler
async def add(ctx: hf.Context, amount: int) -> int:
    """Add to the counter of this key. No lock is needed: others of this key wait their turn."""
    value = await ctx.get("value", type=int) or 0
    value += amount
    ctx.set("value", value)
    return value


@counter.handler
async def reset(ctx: hf.Context) -> None:
    """Forget the counter of this key."""
    ctx.clear("value")


@counter.shared
async def value(ctx: hf.Context) -> int:
    """Read the counter. Does not wait for writers."""
    return await ctx.get("value", type=int) or 0


app = hf.App(counter)
