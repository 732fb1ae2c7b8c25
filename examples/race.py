"""A race: the first answer counts, the others are cancelled, also in what they called.

Run it:

    holdfast dev examples/race.py:app
    curl localhost:8080/Search/first --json '{"tortoise": 5, "hare": 0.1}'
    curl localhost:8080/Search/first --json '{"tortoise": 50, "snail": 60}'
"""

import asyncio

import holdfast as hf

search = hf.Service("Search")


async def fetch(engine: str, seconds: float) -> str:
    await asyncio.sleep(seconds)  # a slow request; it is cut off when its call is cancelled
    return f"found by {engine}"


@search.handler
async def ask(ctx: hf.Context, task: tuple[str, float]) -> str:
    return await ctx.run("fetch", fetch, *task)


@search.handler
async def first(ctx: hf.Context, engines: dict[str, float]) -> str:
    """Ask all engines at once, and give up after two seconds."""
    calls = [ctx.call(ask, task) for task in engines.items()]
    try:
        async with asyncio.timeout(2):
            winner = await hf.race(*calls)
    except TimeoutError:
        return "nobody found it in time"
    return winner.value


app = hf.App(search)
