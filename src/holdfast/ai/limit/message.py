"""What is said to the object that keeps a provider's limits, and what it keeps."""

from __future__ import annotations

import msgspec

from holdfast.ai.limit.pace import Bucket


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """Limits of one key at a provider; None: no limit of this kind."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    lease_ms: int = 600_000
    """After this time a call that was never reported as ended counts as ended."""


class Reserve(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model call asks when it may start."""

    ticket: str
    """Names the call; a second question with it gets a place once only."""
    tokens: int
    """What it will take at most, as far as one can tell."""
    rules: Rules
    awakeable_id: str = ""
    """Completed when a place is free, where `Granted.is_queued`."""


class Granted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer."""

    start_at_ms: int = 0
    """Milliseconds since the epoch."""
    is_queued: bool = False
    """All places are taken: wait for the awakeable, then ask again."""


class Settle(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model call has ended."""

    ticket: str
    rules: Rules
    reserved_tokens: int = 0
    used_tokens: int | None = None
    """None: not known; what was reserved counts."""
    retry_after_ms: int | None = None
    """Set when the provider said that a limit was passed: nobody starts before."""


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A call under way."""

    ticket: str
    expires_at_ms: int


class Waiter(msgspec.Struct, frozen=True, array_like=True):
    """A call that waits for a place."""

    ticket: str
    awakeable_id: str


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that the object keeps."""

    requests: Bucket = Bucket()
    tokens: Bucket = Bucket()
    blocked_until_ms: int = 0
    leases: tuple[Lease, ...] = ()
    waiters: tuple[Waiter, ...] = ()
