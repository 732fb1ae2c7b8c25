"""A handler whose step says what a model would: tokens, each with the time when it was said."""

from __future__ import annotations

import asyncio
import time

import holdfast as hf

speaker = hf.Service("Speaker")


async def model(count: int, gap_s: float) -> int:
    for _ in range(count):
        await hf.emit(time.monotonic_ns())
        await asyncio.sleep(gap_s)
    return count


@speaker.handler
async def speak(ctx: hf.Context, request: tuple[int, float, float]) -> int:
    count, gap_s, after_s = request
    await ctx.sleep(after_s)
    return await ctx.run("model", model, count, gap_s)


app = hf.App(speaker)
