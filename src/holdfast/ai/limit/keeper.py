"""The object that keeps the limits of a provider's key, for all workers together.

It is an ordinary virtual object: durable, seen in the UI, and on whichever worker is free. Its key
is that of the limit. Give `limit_keeper` to one `hf.App` that is served.
"""

from __future__ import annotations

from datetime import timedelta

import holdfast as hf
from holdfast.ai.limit.ledger import advance, reserve, settle
from holdfast.ai.limit.message import Granted, Reserve, Rules, Settle, State

SERVICE = "HoldfastProviderLimit"
_STATE = "limit"
_KEPT = timedelta(minutes=10)

limit_keeper = hf.VirtualObject(
    SERVICE,
    private=True,
    journal_retention=timedelta(0),
    idempotency_retention=timedelta(0),
    documentation="Keeps the limits of a model provider for all workers.",
)
"""Serve it beside the agents whose model calls have a `ProviderLimit`."""


@limit_keeper.handler(name="reserve")
async def reserve_place(ctx: hf.Context, ask: Reserve) -> Granted:
    """Say when a model call may start."""
    now_ms = _now_ms(ctx)
    before = await _state(ctx)
    state, granted = reserve(before, ask, now_ms)
    ctx.set(_STATE, state, type=State, ttl=_KEPT)
    if state.waiters and not before.waiters:
        _look_again(ctx, ask.rules)
    return granted


@limit_keeper.handler(name="settle")
async def settle_place(ctx: hf.Context, ended: Settle) -> None:
    """Take in what a model call has used, and let the next ones go."""
    state, woken = settle(await _state(ctx), ended, _now_ms(ctx))
    ctx.set(_STATE, state, type=State, ttl=_KEPT)
    for awakeable_id in woken:
        ctx.resolve(awakeable_id, True)


@limit_keeper.shared(name="blocked_until")
async def blocked_until(ctx: hf.Context) -> int:
    """Return until when the provider wants no calls, milliseconds since the epoch."""
    return (await _state(ctx)).blocked_until_ms


@limit_keeper.handler(name="advance")
async def advance_queue(ctx: hf.Context, rules: Rules) -> None:
    """Let waiting calls go where those before them never said that they had ended."""
    state, woken = advance(await _state(ctx), rules, _now_ms(ctx))
    ctx.set(_STATE, state, type=State, ttl=_KEPT)
    for awakeable_id in woken:
        ctx.resolve(awakeable_id, True)
    if state.waiters:
        _look_again(ctx, rules)


def _look_again(ctx: hf.Context, rules: Rules) -> None:
    delay = timedelta(milliseconds=rules.lease_ms)
    ctx.send(advance_queue, rules, key=ctx.key, delay=delay)


async def _state(ctx: hf.Context) -> State:
    return await ctx.get(_STATE, type=State) or State()


def _now_ms(ctx: hf.Context) -> int:
    return int(ctx.now().timestamp() * 1000)
