"""Fan out: one run asks many others at once, and takes what has come in time.

Run it:

    holdfast dev examples/fan_out.py:app
    curl localhost:8080/Survey/ask --json '[50, 30]'
    curl localhost:8080/Survey/ask --json '[5, 1]'
    curl localhost:8080/Survey/draw --json 100
"""

import asyncio

import holdfast as hf

survey = hf.Service("Survey")


async def think(person: int) -> int:
    await asyncio.sleep(3600 if person == 4 else 0.01)  # number 4 is on holiday
    return person % 3


@survey.handler(invocation_timeout=2, concurrency=20)
async def answer(ctx: hf.Context, person: int) -> int:
    """One child: cancelled when it is two seconds old; 20 attempts run at once."""
    return await ctx.run("think", think, person)


@survey.handler(invocation_timeout=60)
async def ask(ctx: hf.Context, plan: tuple[int, float]) -> str:
    people, seconds = plan
    calls = [ctx.call(answer, person) for person in range(people)]
    done, late = await asyncio.wait(calls, timeout=seconds)
    for call in late:
        call.cancel()  # durable: the child is cancelled too
    good = [call for call in done if call.exception() is None]
    return f"{len(good)} answered, {len(late)} were late, {len(done) - len(good)} failed"


@survey.handler
async def draw(ctx: hf.Context, count: int) -> int:
    """Many steps of one run. They share attempts and commits, so they cost less than children."""
    return sum(await asyncio.gather(*(ctx.run("draw", int, n) for n in range(count))))


app = hf.App(survey)
