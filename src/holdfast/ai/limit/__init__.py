"""Limits of model providers, shared by all workers: see `ProviderLimit`."""

from __future__ import annotations

from holdfast.ai.limit.client import Place, ProviderLimit, enter
from holdfast.ai.limit.keeper import limit_keeper

__all__ = ["Place", "ProviderLimit", "enter", "limit_keeper"]
