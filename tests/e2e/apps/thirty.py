"""An agent of thirty steps: a line of steps, two branches, an object, a sleep, a line again."""

from __future__ import annotations

import asyncio
import random

from ledger import note

import holdfast as hf

MAIN, BRANCH, OBJECT, TAIL = 8, 6, 2, 8

# Every death of the worker counts as a failed attempt: the default would wait ever longer.
retry = hf.RetryPolicy(initial_interval=0.05, max_interval=0.2, max_attempts=None)
agent = hf.Service("Thirty", retry=retry)
account = hf.VirtualObject("Account", retry=retry)


async def work(run: str, branch: str, index: int) -> int:
    note(f"begin {run} {branch} {index}")
    await asyncio.sleep(random.uniform(0.005, 0.02))  # a real one: this is the body of a step
    return index + 1


async def line(ctx: hf.Context, run: str, branch: str, count: int) -> int:
    total = 0
    for index in range(count):
        total += await ctx.run(f"{branch}-{index}", work, run, branch, index)
    return total


@account.handler
async def add(ctx: hf.Context, amount: int) -> int:
    balance = await ctx.get("balance", type=int) or 0
    steps = await line(ctx, ctx.key, "object", OBJECT)
    ctx.set("balance", balance + amount)
    return balance + amount + steps


@account.shared
async def balance(ctx: hf.Context) -> int:
    return await ctx.get("balance", type=int) or 0


@agent.handler
async def run(ctx: hf.Context, name: str) -> dict[str, int]:
    main = await line(ctx, name, "main", MAIN)
    left, right = await asyncio.gather(
        line(ctx, name, "left", BRANCH), line(ctx, name, "right", BRANCH)
    )
    added = await ctx.call(add, main, key=name)
    await ctx.sleep(0.1)
    tail = await line(ctx, name, "tail", TAIL)
    return {"main": main, "left": left, "right": right, "added": added, "tail": tail}


app = hf.App(agent, account)
