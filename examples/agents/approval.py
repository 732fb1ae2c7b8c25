"""Ask a person before an agent acts: for as long as it takes, or with a deadline.

Decide on the page that `holdfast dev` prints, or on the command line:

    holdfast dev examples/agents/approval.py:app
    curl localhost:8080/Refund/patient/send --json '120'
    curl localhost:8080/Refund/hurried/send --json '120'
    holdfast approvals ls
    holdfast approvals approve $APPROVAL_ID
"""

from datetime import timedelta

from provider import Provider

import holdfast as hf

refund = hf.Service("Refund")


async def letter(amount: int, is_granted: bool, why: str) -> str:
    return await llm.ask(f"{'Granted' if is_granted else 'Refused'}: {amount} euros, {why}")


@refund.handler
async def patient(ctx: hf.Context, amount: int) -> str:
    """Wait for a person; months, if it must be."""
    decision = await ctx.approve(f"Refund {amount} euros?", payload={"amount": amount})
    return await letter(amount, decision.approved, decision.by or "somebody")


@refund.handler
async def hurried(ctx: hf.Context, amount: int) -> str:
    """Wait for a day. Nobody's answer is a no."""
    decision = await ctx.approve(f"Refund {amount} euros today?", timeout=timedelta(days=1))
    return await letter(amount, decision.approved, decision.by or "nobody had time")


llm = Provider()
app = hf.App(refund)
