"""Ask a person: minutes or months, across restarts, without a process that waits.

Run it, in one shell, and ask for money in another. The server's terminal shows an id, and a link:

    holdfast dev examples/approval.py:app
    curl localhost:8080/Expenses/claim/send --json '{"who": "Ada", "euros": 120}'

Open the link, or approve it with the id on the port of operators (`holdfast approvals` does that,
too); then read the outcome with the invocation id that the first curl printed:

    curl localhost:9070/holdfast/v1/approvals/$APPROVAL_ID/approve --json '{"by": "Grace"}'
    curl localhost:8080/restate/invocation/$INVOCATION_ID/attach
"""

from dataclasses import asdict, dataclass
from datetime import timedelta

import holdfast as hf


@dataclass
class Claim:
    who: str
    euros: float


expenses = hf.Service("Expenses")


def tell_manager(claim: Claim, approval_id: str, link: str | None) -> str:
    # A real one would write a mail.
    print(f"{claim.who} wants {claim.euros:.2f} euros. To decide: {approval_id} {link}", flush=True)
    return approval_id


@expenses.handler
async def claim(ctx: hf.Context, claim: Claim) -> str:
    """Pay what a manager approves, perhaps less than was asked for."""
    approval = ctx.approve(
        f"Money for {claim.who}", arguments=asdict(claim), editable={"euros": float},
        timeout=timedelta(days=14),
    )  # fmt: skip
    await ctx.run("tell manager", tell_manager, claim, approval.id, approval.link)
    if not (decision := await approval):
        return f"{claim.who} gets nothing"
    euros = decision.arguments["euros"]
    return await ctx.run("pay", lambda: f"{claim.who} gets {euros:.2f} euros", type=str)


app = hf.App(expenses)
