"""What a model call passes before it is made: its budgets, and the limit of its provider.

Without either this is the step alone. With a limit, a provider's `429` does not fail the step: it
is recorded as what came of it, everybody with that limit waits for as long as the provider asks,
and the call is made again as a step of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec

from holdfast.ai.budget import Amount, permit
from holdfast.ai.budget.client import micros
from holdfast.ai.failure import metadata_of, status_of
from holdfast.ai.guard import current
from holdfast.ai.limit import Place, enter
from holdfast.ai.option import Options
from holdfast.domain.detail import ModelCall
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.sdk.price import cost_of
from holdfast.sdk.retryable import asked_delay

STEP_NAME = "model call"
"""Neither the model nor the agent is part of it: both may change under a running invocation."""

_THROTTLED = "holdfast_throttled_ms"
_TOO_MANY_REQUESTS = 429
_THROTTLED_MAX = 20
_WAIT_MS = 1_000
_WAIT_MS_MAX = 60_000
_CHARACTERS_PER_TOKEN = 3
"""Fewer than the usual four: what is reserved should be enough."""
_ANSWER_TOKENS = 4_096
"""Reserved for an answer whose length the request does not limit."""
_LENGTH_SETTINGS = ("max_tokens", "max_output_tokens", "max_completion_tokens")


async def admitted(
    body: Callable[[], Awaitable[Any]],
    options: Options,
    *,
    describe: Callable[[Any], ModelCall | None],
    type: Any = Any,
) -> Any:
    """Run the step of a model call, as soon as its budgets and its provider allow it.

    Args:
        body: Makes the request.
        options: With budgets and limit.
        describe: Returns what is known of the call: before it with `None`, after it with what the
            step recorded. The same at replay.
        type: Of what `body` returns.

    Raises:
        TerminalError: Of the step; 402, a budget is used up.
    """
    if options.limit is None and not options.budgets:
        return await current().run(STEP_NAME, body, retry=options.model_retry, type=type)
    tokens = _expected_tokens(describe(None))
    allowed = await permit(options.budgets, Amount(tokens, 0))
    try:
        result = await _within_limit(body, options, describe, tokens, type)
    except (Exception, asyncio.CancelledError):
        # What a call that failed has cost, nobody says.
        allowed.spend(Amount())
        raise
    allowed.spend(_used(describe(result), options))
    return result


async def _within_limit(
    body: Callable[[], Awaitable[Any]],
    options: Options,
    describe: Callable[[Any], ModelCall | None],
    tokens: int,
    type: Any,
) -> Any:
    limit = options.limit
    if limit is None:
        return await current().run(STEP_NAME, body, retry=options.model_retry, type=type)

    async def watched() -> Any:
        try:
            return await body()
        except Exception as error:
            if status_of(error) != _TOO_MANY_REQUESTS:
                raise
            asked = asked_delay(error, time.time_ns() // 1_000_000)
            raise TerminalError(
                "the provider wants fewer requests",
                code=_TOO_MANY_REQUESTS,
                metadata={_THROTTLED: "" if asked is None else str(asked.delay_ms)},
            ) from error

    for number in range(_THROTTLED_MAX):
        place = await enter(limit, tokens)
        try:
            result = await current().run(STEP_NAME, watched, retry=options.model_retry, type=type)
        except TerminalError as error:
            wait = metadata_of(error).get(_THROTTLED)
            if wait is None or number == _THROTTLED_MAX - 1:
                place.leave(used_tokens=0)
                raise
            place.leave(0, int(wait) if wait else min(_WAIT_MS << number, _WAIT_MS_MAX))
        except (Exception, asyncio.CancelledError):
            place.leave(used_tokens=0)
            raise
        else:
            _leave(place, describe(result))
            return result
    raise AssertionError("the last turn returns or raises")


def _leave(place: Place, call: ModelCall | None) -> None:
    used = 0 if call is None else (call.usage.input or 0) + (call.usage.output or 0)
    place.leave(used or None)


def _used(call: ModelCall | None, options: Options) -> Amount:
    if call is None:
        return Amount()
    tokens = (call.usage.input or 0) + (call.usage.output or 0)
    cost = call.cost or cost_of(call)
    if cost is None:
        if any(budget.money is not None for budget in options.budgets):
            raise UsageError(
                f"Nobody knows the price of {call.response_model or call.request_model!r}, and a "
                "budget counts money",
                code="HF0651",
                hint="Give the budget tokens= instead, or install holdfast[prices].",
            )
        return Amount(tokens, 0)
    return Amount(tokens, micros(Decimal(cost.amount)))


def _expected_tokens(call: ModelCall | None) -> int:
    if call is None:
        return _ANSWER_TOKENS
    size = len(msgspec.json.encode(call.messages, enc_hook=str))
    limits = [call.settings.get(name) for name in _LENGTH_SETTINGS]
    answer = next((limit for limit in limits if isinstance(limit, int)), _ANSWER_TOKENS)
    return size // _CHARACTERS_PER_TOKEN + answer
