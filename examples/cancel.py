"""Cancel: a step is cut off while it runs, and what was done before is taken back.

Run it:

    holdfast dev examples/cancel.py:app
    curl localhost:8080/Render/film/send --json '"trailer"' -H 'idempotency-key: 1'
    curl localhost:8080/Render/stop --json '"1"'
"""

import asyncio

import holdfast as hf

render = hf.Service("Render")
machines: set[str] = set()  # stands in for a provider of machines


async def draw(title: str) -> str:
    await asyncio.sleep(3600)  # a long request: cancelled like any other asyncio code
    return f"{title}.mp4"


@render.handler
async def film(ctx: hf.Context, title: str) -> str:
    async with hf.saga() as saga:
        # No harm if it was never rented: an undo is registered before its step.
        saga.compensate(machines.discard, title, name="give back")
        await ctx.run("rent", machines.add, title)
        return await ctx.run("draw", draw, title)


@render.handler
async def stop(ctx: hf.Context, number: str) -> str:
    """Cancel a film, and wait until it has cleaned up."""
    running = hf.invocation(film, idempotency_key=number)
    ctx.cancel(running)
    try:
        return await ctx.attach(running)
    except hf.TerminalError as error:
        left = await ctx.run("count", len, machines)
        return f"stopped with {error.code}, {left} machines rented"


app = hf.App(render)
