"""Charges whose worker is killed while they are made, one for each policy."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ledger import note

import holdfast as hf

till = hf.Service("Till", retry=hf.RetryPolicy(initial_interval=0.1, max_interval=0.2))


async def charge(policy: str) -> str:
    note(f"charge {policy} {hf.idempotency_key()}")
    while not Path(os.environ["GO"]).exists():
        await asyncio.sleep(0.02)
    return "charged"


async def verify(key: str, policy: str) -> hf.Happened[str] | hf.NotHappened:
    note(f"verify {policy} {key}")
    return hf.Happened("found")


@till.handler
async def pay(ctx: hf.Context, policy: str) -> str:
    on_unknown = {"retry": "retry", "fail": "fail", "ask": "ask", "verify": verify}[policy]
    try:
        return await ctx.run("charge", charge, policy, on_unknown=on_unknown)  # type: ignore[arg-type]
    except hf.TerminalError as error:
        return await ctx.run("note failure", str, error.metadata.get("error_code", error.message))


app = hf.App(till)
