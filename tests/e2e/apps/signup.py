"""A workflow that waits for a promise."""

from __future__ import annotations

from datetime import timedelta

from ledger import note

import holdfast as hf

signup = hf.Workflow(
    "Signup", workflow_retention=timedelta(hours=2), inactivity_timeout=timedelta(seconds=0.1)
)


@signup.main
async def run(ctx: hf.Context, email: str) -> str:
    ctx.set("status", "waiting")
    await ctx.run("mail", note, f"mail {email}")
    confirmed = await ctx.promise("confirmed", str).value()
    await ctx.run("done", note, f"done {confirmed}")
    return f"{ctx.key} {confirmed}"


@signup.handler
async def confirm(ctx: hf.Context, code: str) -> None:
    await ctx.promise("confirmed", str).resolve(code)


@signup.handler
async def status(ctx: hf.Context) -> list[str | None]:
    return [await ctx.get("status", type=str), await ctx.promise("confirmed", str).peek()]


app = hf.App(signup)
