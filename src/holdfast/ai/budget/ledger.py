"""What questions, calls and grants do to the state of a budget. Pure."""

from __future__ import annotations

from functools import reduce

from msgspec.structs import replace

from holdfast.ai.budget.message import Amount, Ask, Caps, Reservation, Spend, State, Verdict

RESERVED_MS = 3_600_000
"""A call that never ended, because its invocation was killed, is forgotten after this time."""


def ask(state: State, question: Ask, now_ms: int) -> tuple[State, Verdict]:
    """Let a call start if the budget is not used up, counting what other calls may still take.

    A call that would pass the limit may start while anything is left: so a budget is passed by one
    call at most, and is never stuck with a rest that no call fits into.
    """
    kept = tuple(
        held
        for held in state.reservations
        if held.expires_at_ms > now_ms and held.ticket != question.ticket
    )
    state = replace(state, reservations=kept)
    reserved = reserved_by(state)
    caps = _raised(question.caps, state.granted)
    is_allowed = _has_room(state.spent.plus(reserved), caps)
    if is_allowed:
        own = Reservation(question.ticket, question.expected, now_ms + RESERVED_MS)
        state = replace(state, reservations=(*kept, own))
    return state, Verdict(is_allowed, state.spent, reserved, caps)


def spend(state: State, ended: Spend) -> State:
    """Count what a call has used."""
    return replace(
        state,
        spent=state.spent.plus(ended.used),
        reservations=tuple(held for held in state.reservations if held.ticket != ended.ticket),
    )


def grant(state: State, more: Amount) -> State:
    """Raise the limits."""
    return replace(state, granted=state.granted.plus(more))


def reserved_by(state: State) -> Amount:
    """Return what calls under way are expected to take."""
    return reduce(Amount.plus, (held.expected for held in state.reservations), Amount())


def _raised(caps: Caps, granted: Amount) -> Caps:
    return Caps(
        None if caps.tokens is None else caps.tokens + granted.tokens,
        None if caps.micros is None else caps.micros + granted.micros,
    )


def _has_room(taken: Amount, caps: Caps) -> bool:
    return (caps.tokens is None or taken.tokens < caps.tokens) and (
        caps.micros is None or taken.micros < caps.micros
    )
