"""Wait for a person: minutes or months, across restarts, without a process that waits.

Run it, in one shell, and ask for money in another. The server's terminal shows an id:

    holdfast dev examples/approval.py:app
    curl localhost:8080/Expenses/claim/send --json '{"who": "Ada", "euros": 120}'

Approve it with that id, and read the outcome with the invocation id that the first curl printed:

    curl localhost:8080/restate/awakeables/$AWAKEABLE_ID/resolve --json true
    curl localhost:8080/restate/invocation/$INVOCATION_ID/attach
"""

from dataclasses import dataclass

import holdfast as hf


@dataclass
class Claim:
    who: str
    euros: float


expenses = hf.Service("Expenses")


def ask_manager(claim: Claim, awakeable_id: str) -> str:
    # A real one would write a mail with a link.
    print(f"{claim.who} wants {claim.euros:.2f} euros. To decide: {awakeable_id}", flush=True)
    return awakeable_id


@expenses.handler
async def claim(ctx: hf.Context, claim: Claim) -> str:
    """Pay what a manager approves."""
    approval = ctx.awakeable(type=bool)
    await ctx.run("ask manager", ask_manager, claim, approval.id)
    if not await approval:
        return f"{claim.who} gets nothing"
    return await ctx.run("pay", lambda: f"{claim.who} gets {claim.euros:.2f} euros", type=str)


app = hf.App(expenses)
