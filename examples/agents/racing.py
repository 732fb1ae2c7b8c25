"""Agents side by side: all of them, or the fastest one, and then the others are cancelled.

holdfast dev examples/agents/racing.py:app
curl localhost:8080/Panel/all --json '"Where to?"'
curl localhost:8080/Panel/fastest --json '"Where to?"'
"""

import asyncio

from provider import Provider

import holdfast as hf

panel = hf.Service("Panel")
expert = hf.Service("Expert")
EXPERTS = {"hare": 0, "tortoise": 3600}


@expert.handler
async def answer(ctx: hf.Context, asked: tuple[str, str]) -> str:
    """One agent: an invocation, so it can be cancelled as a whole, with all that it called."""
    name, question = asked
    await ctx.sleep(EXPERTS[name])
    return await llm.ask(f"{name}: {question}")


@panel.handler
async def all(ctx: hf.Context, question: str) -> list[str]:
    """Ask all at once, and wait for a second at most."""

    async def ask(name: str) -> str:
        try:
            async with asyncio.timeout(1):
                return await ctx.call(answer, (name, question))
        except TimeoutError:
            return f"{name} is still thinking"

    return await asyncio.gather(*map(ask, EXPERTS))


@panel.handler
async def fastest(ctx: hf.Context, question: str) -> str:
    winner = await hf.race(*(ctx.call(answer, (name, question)) for name in EXPERTS))
    return winner.value


llm = Provider()
app = hf.App(panel, expert)
