"""What a model call costs, by the table of prices that comes with `genai-prices`.

The table is part of that package, so nothing is asked for over a network. What it does not know has
no price, which is not the same as none.
"""

from __future__ import annotations

import importlib
import logging
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

from holdfast.domain.detail import Cost, ModelCall

_logger = logging.getLogger(__name__)

_PROVIDERS = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
    "x_ai": "x-ai",
}
"""OpenTelemetry's names of providers, where the table has others."""


class _Table(NamedTuple):
    module: Any
    name: str


@cache
def _table() -> _Table | None:
    """Return the table; None: the package is not installed."""
    # Late: it takes a tenth of a second, and programs without model calls do not need it.
    try:
        module = importlib.import_module("genai_prices")
    except ImportError:
        return None
    return _Table(module, f"genai-prices {module.__version__}")


def cost_of(call: ModelCall, at: datetime | None = None) -> Cost | None:
    """Return what a call cost; None: the model, its usage or the table is not known.

    Args:
        call: Priced by the model that answered, or else by the one that was asked for.
        at: When it was made, with its time zone; None: now. Prices change.
    """
    usage = call.usage
    if usage.input is None and usage.output is None:
        return None
    table = _table()
    if table is None:
        return None
    # One name that the table knows: some providers answer with names of their own.
    for model in dict.fromkeys((call.response_model, call.request_model)):
        if not model:
            continue
        try:
            price = table.module.calc_price(
                table.module.Usage(
                    input_tokens=usage.input or 0,
                    cache_read_tokens=usage.cached_input or 0,
                    output_tokens=usage.output or 0,
                ),
                model,
                provider_id=_PROVIDERS.get(call.provider, call.provider) or None,
                genai_request_timestamp=at,
            )
        except LookupError:
            continue
        except ValueError as error:
            # Usage that contradicts itself, such as more cached tokens than tokens.
            _logger.debug("a model call has no price: %s", error)
            return None
        return _cost(price, table.name)
    return None


def _cost(price: Any, table: str) -> Cost:
    amount: Decimal = price.total_price
    updated: datetime | None = price.auto_update_timestamp
    day = "" if updated is None else updated.date().isoformat()
    return Cost(amount=f"{amount.normalize():f}", currency="USD", table=table, table_date=day)
