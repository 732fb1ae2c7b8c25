"""Handlers whose runs the pages show."""

from __future__ import annotations

import asyncio

import holdfast as hf

HOSTILE = (
    '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    "\u202egnp.exe\x1b[31m\u0000"
)

agent = hf.Service("Agent", documentation="Runs that pages show.")
chat = hf.VirtualObject("Chat")


@agent.handler
async def steps(ctx: hf.Context, count: int) -> int:
    """Run so many steps, some at one time."""
    for number in range(count):
        await ctx.run(f"step {number}", lambda number=number: number)
    return count


@agent.handler
async def fail(ctx: hf.Context) -> None:
    """Fail for good."""
    await ctx.run("try", lambda: 1)
    raise hf.TerminalError("there is no car", code=409)


@agent.handler
async def wait(ctx: hf.Context) -> str:
    """Wait for a person."""
    decision = await ctx.approve("Pay claim 17?", why="It is dear.", arguments={"amount": 50})
    return f"{decision.approved} by {decision.by}"


@agent.handler
async def hostile(ctx: hf.Context) -> str:
    """Say what should not be part of a page."""
    return await ctx.run("say", lambda: HOSTILE)


@agent.handler
async def slow(ctx: hf.Context) -> str:
    """Take a while."""
    await ctx.run("think", asyncio.sleep, 1.5, None)
    return "done"


@chat.handler
async def say(ctx: hf.Context, text: str) -> int:
    """Take a message."""
    count = (await ctx.get("turns", type=int) or 0) + 1
    ctx.set("turns", count)
    ctx.set("last", text)
    return count


app = hf.App(agent, chat)
