"""Plain asyncio, made durable: gather, TaskGroup, timeout.

Run it:

    holdfast dev examples/parallel.py:app
    curl localhost:8080/Research/compare --json '["tea", "coffee", "cocoa"]'
    curl localhost:8080/Research/hurry --json 0.2
    curl localhost:8080/Research/hurry --json 5
"""

import asyncio

import holdfast as hf

research = hf.Service("Research")


async def look_up(topic: str) -> int:
    await asyncio.sleep(0.1)  # a slow request; inside of a step this is not a durable timer
    return len(topic)


@research.handler
async def compare(ctx: hf.Context, topics: list[str]) -> dict[str, int]:
    """Look all topics up at once: first with gather, then with tasks of their own."""
    sizes = await asyncio.gather(*(ctx.run("look up", look_up, topic) for topic in topics))

    async def check(topic: str) -> int:
        await asyncio.sleep(0.1)  # durable: it goes on after a restart
        return await ctx.run("check", look_up, topic)

    async with asyncio.TaskGroup() as group:
        checks = [group.create_task(check(topic)) for topic in topics]
    assert [task.result() for task in checks] == sizes
    return dict(zip(topics, sizes, strict=True))


@research.handler
async def hurry(ctx: hf.Context, seconds: float) -> str:
    """Give up after a second: durable too, so a replay decides the same."""
    try:
        async with asyncio.timeout(1):
            await ctx.sleep(seconds)
    except TimeoutError:
        return "too slow"
    return "in time"


app = hf.App(research)
