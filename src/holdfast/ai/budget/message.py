"""What is said to the object that keeps a budget, and what it keeps.

Money is in millionths of the budget's currency, because model calls cost fractions of a cent.
"""

from __future__ import annotations

import msgspec


class Amount(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens and money."""

    tokens: int = 0
    micros: int = 0

    def plus(self, other: Amount) -> Amount:
        """Return the sum."""
        return Amount(self.tokens + other.tokens, self.micros + other.micros)


class Caps(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of a budget; None: none of this kind."""

    tokens: int | None = None
    micros: int | None = None


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model call asks whether it may start."""

    ticket: str
    """Names the call; a second question with it counts once."""
    expected: Amount
    caps: Caps


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer, and how the budget stands."""

    is_allowed: bool
    spent: Amount
    reserved: Amount
    """By calls that are under way."""
    caps: Caps
    """With what has been granted on top."""


class Spend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model call has ended."""

    ticket: str
    used: Amount


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    """Of a call that is under way."""

    ticket: str
    expected: Amount
    expires_at_ms: int


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that the object keeps."""

    spent: Amount = Amount()
    granted: Amount = Amount()
    """On top of the limits, by people."""
    reservations: tuple[Reservation, ...] = ()
