"""Budgets of tokens and money: see `Budget`."""

from __future__ import annotations

from holdfast.ai.budget.client import Budget, Permit, permit
from holdfast.ai.budget.keeper import budget_keeper
from holdfast.ai.budget.message import Amount

__all__ = ["Amount", "Budget", "Permit", "budget_keeper", "permit"]
