"""What a reservation and its end do to the state of a provider's limits. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec.structs import replace

from holdfast.ai.limit.message import Granted, Lease, Reserve, Rules, Settle, State, Waiter
from holdfast.ai.limit.pace import corrected, starts_at, taken


class Settled(NamedTuple):
    """The state after a call has ended, and who may come next."""

    state: State
    woken: tuple[str, ...]
    """Awakeables to complete."""


def reserve(state: State, ask: Reserve, now_ms: int) -> tuple[State, Granted]:
    """Give a call its time to start, or a place in the queue."""
    rules = ask.rules
    state = _without_expired(state, now_ms)
    if rules.concurrency is not None and not _has_lease(state, ask.ticket):
        if len(state.leases) >= rules.concurrency:
            if any(waiter.ticket == ask.ticket for waiter in state.waiters):
                return state, Granted(is_queued=True)
            waiter = Waiter(ask.ticket, ask.awakeable_id)
            return replace(state, waiters=(*state.waiters, waiter)), Granted(is_queued=True)
        state = _leased(state, ask.ticket, rules, now_ms)
    at_ms = float(max(now_ms, state.blocked_until_ms))
    if rules.requests_per_minute is not None:
        at_ms = starts_at(state.requests, 1, rules.requests_per_minute, at_ms)
    if rules.tokens_per_minute is not None:
        at_ms = starts_at(state.tokens, ask.tokens, rules.tokens_per_minute, at_ms)
    if rules.requests_per_minute is not None:
        state = replace(state, requests=taken(state.requests, 1, rules.requests_per_minute, at_ms))
    if rules.tokens_per_minute is not None:
        bucket = taken(state.tokens, ask.tokens, rules.tokens_per_minute, at_ms)
        state = replace(state, tokens=bucket)
    return state, Granted(math.ceil(at_ms))


def settle(state: State, ended: Settle, now_ms: int) -> Settled:
    """Take back what a call did not use, and let the next ones go."""
    rules = ended.rules
    if rules.tokens_per_minute is not None and ended.used_tokens is not None:
        difference = ended.used_tokens - ended.reserved_tokens
        bucket = corrected(state.tokens, difference, rules.tokens_per_minute)
        state = replace(state, tokens=bucket)
    if ended.retry_after_ms is not None:
        until_ms = max(state.blocked_until_ms, now_ms + ended.retry_after_ms)
        state = replace(state, blocked_until_ms=until_ms)
    state = replace(
        state,
        leases=tuple(lease for lease in state.leases if lease.ticket != ended.ticket),
        waiters=tuple(waiter for waiter in state.waiters if waiter.ticket != ended.ticket),
    )
    return advance(state, rules, now_ms)


def advance(state: State, rules: Rules, now_ms: int) -> Settled:
    """Give free places to those who have waited longest."""
    state = _without_expired(state, now_ms)
    free = len(state.waiters)
    if rules.concurrency is not None:
        free = max(0, min(free, rules.concurrency - len(state.leases)))
    let_in = state.waiters[:free]
    state = replace(state, waiters=state.waiters[free:])
    if rules.concurrency is not None:
        for waiter in let_in:
            state = _leased(state, waiter.ticket, rules, now_ms)
    return Settled(state, tuple(waiter.awakeable_id for waiter in let_in))


def _leased(state: State, ticket: str, rules: Rules, now_ms: int) -> State:
    return replace(state, leases=(*state.leases, Lease(ticket, now_ms + rules.lease_ms)))


def _has_lease(state: State, ticket: str) -> bool:
    return any(lease.ticket == ticket for lease in state.leases)


def _without_expired(state: State, now_ms: int) -> State:
    live = tuple(lease for lease in state.leases if lease.expires_at_ms > now_ms)
    return state if len(live) == len(state.leases) else replace(state, leases=live)
