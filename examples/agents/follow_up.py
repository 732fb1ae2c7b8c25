"""A follow-up in 30 days: the agent sleeps as a row in the database, not as a process.

Kill the server while it sleeps, deploy a new version, start it again: it wakes up in time.

    holdfast dev examples/agents/follow_up.py:app
    curl localhost:8080/FollowUp/ada/run/send --json '"the new bicycle"'
    curl localhost:8080/FollowUp/ada/answered --json '"I love it"'
    curl localhost:8080/restate/workflow/FollowUp/ada/attach
"""

import asyncio
from datetime import timedelta

from provider import Provider

import holdfast as hf

follow_up = hf.Workflow("FollowUp")
MONTH = timedelta(days=30)


@follow_up.main
async def run(ctx: hf.Context, purchase: str) -> str:
    """Write after a month, wait a month for an answer, and write once more."""
    await ctx.sleep(MONTH)
    for mail in ("How do you like", "Once more: how do you like"):
        text = await llm.ask(f"{mail} {purchase}?")
        await ctx.run("send mail", print, text)
        try:
            async with asyncio.timeout(MONTH.total_seconds()):
                said = await ctx.promise("answer", str).value()
                return await llm.ask(f"Sum up: {said}")
        except TimeoutError:
            continue
    return "no answer"


@follow_up.handler
async def answered(ctx: hf.Context, text: str) -> None:
    """Called by whoever reads the mail."""
    ctx.promise("answer", str).resolve(text)


llm = Provider()
app = hf.App(follow_up)
