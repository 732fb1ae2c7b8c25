"""A handler that tells a tale: some of it itself, most of it in steps, as a model would."""

from __future__ import annotations

import asyncio
import itertools
import os

import holdfast as hf

tale = hf.Service("Tale")
_runs = itertools.count()


async def model(name: str, count: int) -> list[object]:
    # Differs from run to run, as what a model says does.
    run = f"{os.getpid()}x{next(_runs)}"
    for number in range(count):
        await hf.emit(f"{name}.{run}.{number} ")
        await asyncio.sleep(0.01)
    return [name, run, count]


@tale.handler
async def tell(ctx: hf.Context, chapters: int) -> list[object]:
    told: list[object] = []
    for number in range(chapters):
        ctx.emit(f"h{number} ")
        told.append(await ctx.run(f"chapter{number}", model, f"c{number}", 20))
    told += await asyncio.gather(
        *(ctx.run(f"end{side}", model, f"e{side}", 10) for side in "lr"),
    )
    return told


app = hf.App(tale)
