"""The object that keeps a budget. Its key is that of the budget.

It is an ordinary virtual object: durable, seen in the UI, and on whichever worker is free. Give
`budget_keeper` to one `hf.App` that is served.
"""

from __future__ import annotations

from datetime import timedelta

import holdfast as hf
from holdfast.ai.budget.ledger import ask, grant, reserved_by, spend
from holdfast.ai.budget.message import Amount, Ask, Caps, Spend, State, Verdict

SERVICE = "HoldfastBudget"
_STATE = "budget"
_KEPT = timedelta(days=90)

budget_keeper = hf.VirtualObject(
    SERVICE,
    journal_retention=timedelta(0),
    idempotency_retention=timedelta(0),
    documentation="Counts tokens and money that model calls use, and says when a budget is empty.",
)
"""Serve it beside the agents whose model calls have a `Budget`."""


@budget_keeper.handler(name="ask", private=True)
async def ask_budget(ctx: hf.Context, question: Ask) -> Verdict:
    """Say whether a model call may start."""
    now_ms = int(ctx.now().timestamp() * 1000)
    state, verdict = ask(await _state(ctx), question, now_ms)
    _keep(ctx, state)
    return verdict


@budget_keeper.handler(name="spend", private=True)
async def spend_budget(ctx: hf.Context, ended: Spend) -> None:
    """Count what a model call has used."""
    _keep(ctx, spend(await _state(ctx), ended))


@budget_keeper.handler(name="grant")
async def grant_budget(ctx: hf.Context, more: Amount) -> None:
    """Raise the limits of this budget, for good."""
    _keep(ctx, grant(await _state(ctx), more))


@budget_keeper.shared(name="show")
async def show_budget(ctx: hf.Context) -> Verdict:
    """Show how the budget stands. Limits are with those who ask, so only grants are known here."""
    state = await _state(ctx)
    caps = Caps(state.granted.tokens, state.granted.micros)
    return Verdict(True, state.spent, reserved_by(state), caps)


async def _state(ctx: hf.Context) -> State:
    return await ctx.get(_STATE, type=State) or State()


def _keep(ctx: hf.Context, state: State) -> None:
    ctx.set(_STATE, state, type=State, ttl=_KEPT)
