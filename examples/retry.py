"""Retries: policies, failures that say when to come back, a time limit.

Run it:

    holdfast dev examples/retry.py:app
    curl localhost:8080/Shop/buy --json '"lamp"'
    curl localhost:8080/Shop/buy --json '"sofa"'
    curl localhost:8080/Shop/hurry --json 60
"""

import asyncio
from collections import Counter

import holdfast as hf

shop = hf.Service("Shop", retry=hf.RetryPolicy(initial_interval=0.05))
tries = Counter[str]()


async def charge(item: str) -> str:
    tries[item] += 1
    if item == "sofa":
        raise hf.TerminalError("declined", code=402, metadata={"item": item})  # never tried again
    if tries[item] == 1:
        raise ConnectionError("the bank does not answer")  # tried again by the policy
    if tries[item] == 2:
        raise hf.RetryableError("the bank is busy", delay=0.02)
    return f"{item} paid at try {tries[item]}"


@shop.handler
async def buy(ctx: hf.Context, item: str) -> str:
    """Three tries, and no longer than a minute. Then the failure is raised here."""
    try:
        policy = hf.RetryPolicy(initial_interval=0.05, max_attempts=3, max_duration=60)
        return await ctx.run("charge", charge, item, retry=policy)
    except hf.TerminalError as error:
        return f"not paid: {error.message}"


@shop.handler(invocation_timeout=0.2, concurrency=10)
async def hurry(ctx: hf.Context, seconds: float) -> str:  # After 0.2 s it is told to end.
    try:
        await asyncio.sleep(seconds)
        return "in time"
    except hf.TerminalError as error:
        return await ctx.run("tidy up", str, error.message.split(" [")[0])


app = hf.App(shop)
