"""What a model call does with its budgets, in the handler that makes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias

import holdfast as hf
from holdfast.ai.budget.keeper import ask_budget, grant_budget, spend_budget
from holdfast.ai.budget.message import Amount, Ask, Caps, Spend, Verdict
from holdfast.domain.errors import TerminalError, UsageError

MICROS = 1_000_000

Period: TypeAlias = Literal["day", "month"]
OnLimit: TypeAlias = Literal["ask", "fail"]

_CODE_USED_UP = 402


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What model calls may use, in tokens, in money, or both.

    At the limit the run waits for a person: it asks for approval, says what was used, and goes on
    when the budget has been raised. The app must also serve `budget_keeper`.

    Args:
        key: Calls with equal keys share the budget: a session, a tenant. None: each run has its
            own.
        tokens: Of prompts and answers together; None: no limit of this kind.
        money: Such as `"5.00"`, in US dollars; None: no limit of this kind. Calls of models without
            a known price fail then, with HF0651, because nobody could count them.
        period: The budget begins anew each day or month, in UTC; None: never.
        on_limit: `"ask"` waits for a person, `"fail"` ends the run with a `TerminalError` 402.

    Raises:
        UsageError: HF0650, no limit, or one that is not more than nothing.
    """

    key: str | None = None
    tokens: int | None = None
    money: str | Decimal | None = None
    period: Period | None = None
    on_limit: OnLimit = "ask"

    def __post_init__(self) -> None:
        caps = self.caps
        if caps.tokens is None and caps.micros is None:
            raise UsageError("A Budget takes tokens=, money=, or both", code="HF0650")
        for name, cap in (("tokens", caps.tokens), ("money", caps.micros)):
            if cap is not None and cap < 1:
                raise UsageError(f"{name} of a Budget must be more than nothing", code="HF0650")

    @property
    def caps(self) -> Caps:
        """The limits as the keeper takes them."""
        return Caps(self.tokens, None if self.money is None else micros(self.money))

    def key_at(self, ctx: hf.Context) -> str:
        """Return the key of the object that keeps it."""
        key = f"run/{ctx.id}" if self.key is None else self.key
        return key if self.period is None else f"{key}@{_period(ctx.now(), self.period)}"


class Permit:
    """One model call may start. End it with `spend`."""

    def __init__(self, ticket: str, keys: tuple[str, ...]) -> None:
        self.ticket = ticket
        self._keys = keys

    def spend(self, used: Amount) -> None:
        """Report the end of the call. What was used is counted in all its budgets."""
        ctx = hf.current()
        for key in self._keys:
            ctx.send(spend_budget, Spend(self.ticket, used), key=key)


async def permit(budgets: tuple[Budget, ...], expected: Amount) -> Permit:
    """Wait until a model call may start. In a handler, not in the body of a step.

    Args:
        budgets: All of them must have room.
        expected: What the call will take at most, as far as one can tell.

    Raises:
        TerminalError: 402, a budget is used up, and it fails at the limit or a person said no.
    """
    ctx = hf.current()
    found = Permit(f"{ctx.id}/{ctx.uuid().hex}", tuple(budget.key_at(ctx) for budget in budgets))
    try:
        for budget in budgets:
            await _ask(ctx, budget, Ask(found.ticket, expected, budget.caps))
    except (Exception, asyncio.CancelledError):
        # Budgets that had room hold a place for this call, which will not be made.
        found.spend(Amount())
        raise
    return found


async def _ask(ctx: hf.Context, budget: Budget, question: Ask) -> None:
    key = budget.key_at(ctx)
    while not (verdict := await ctx.call(ask_budget, question, key=key)).is_allowed:
        text = _standing(verdict)
        if budget.on_limit == "fail":
            raise TerminalError(f"Budget {key} is used up: {text}.", code=_CODE_USED_UP)
        decision = await ctx.approve(
            f"Budget {key} is used up",
            why=f"The run waits before its next model call: {text}. Approving raises the budget "
            "once more by as much as it had.",
            payload={"budget": key, "used": text},
        )
        if not decision.approved:
            raise TerminalError(
                f"Budget {key} is used up: {text}. {decision.by or 'Nobody'} did not raise it.",
                code=_CODE_USED_UP,
            )
        more = Amount(question.caps.tokens or 0, question.caps.micros or 0)
        await ctx.call(grant_budget, more, key=key)


def micros(money: str | Decimal) -> int:
    """Return money in millionths.

    Raises:
        UsageError: HF0650, not a number.
    """
    try:
        return int(Decimal(money) * MICROS)
    except (InvalidOperation, ValueError, OverflowError):
        raise UsageError(
            f"money of a Budget must be a number such as '5.00', not {money!r}", code="HF0650"
        ) from None


def _standing(verdict: Verdict) -> str:
    parts: list[str] = []
    if verdict.caps.tokens is not None:
        parts.append(f"{verdict.spent.tokens:,} of {verdict.caps.tokens:,} tokens")
    if verdict.caps.micros is not None:
        spent, cap = (Decimal(v) / MICROS for v in (verdict.spent.micros, verdict.caps.micros))
        parts.append(f"{spent:.4f} of {cap:.2f} USD")
    return ", ".join(parts)


def _period(now: datetime, period: Period) -> str:
    return now.strftime("%Y-%m-%d" if period == "day" else "%Y-%m")
