"""A handler that asks a person between two steps, and tells the ledger what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ledger import note

import holdfast as hf

desk = hf.Service("Desk", inactivity_timeout=0.2)


@dataclass
class Form:
    amount: float


@desk.handler
async def pay(ctx: hf.Context, claim: int) -> dict[str, Any]:
    await ctx.run("look", note, f"look {claim}")
    approval = ctx.approve(
        f"Pay claim {claim}", payload={"claim": claim}, form=Form, assignee="finance", timeout=3600
    )
    await ctx.run("mail", note, f"mail {claim} {approval.id} {approval.link}")
    decision = await approval
    await ctx.run("pay", note, f"pay {claim} {decision.value.amount if decision.value else 0}")
    return {"approved": decision.approved, "by": decision.by}


@desk.handler
async def short(ctx: hf.Context) -> bool:
    return (await ctx.approve("Quick", timeout=1.5, on_timeout="approve")).timed_out


app = hf.App(desk)
