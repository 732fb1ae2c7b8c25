"""What a model call does with its provider's limit, in the handler that makes it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import holdfast as hf
from holdfast.ai.limit.keeper import blocked_until, reserve_place, settle_place
from holdfast.ai.limit.message import Reserve, Rules, Settle
from holdfast.domain.errors import UsageError
from holdfast.sdk.retry import Duration, milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimit:
    """What one key at a model provider allows, shared by all workers of all servers.

    Model calls wait, durably, until they fit. When the provider says `429` all the same, all calls
    with this limit wait for as long as it asks. The app must also serve `limit_keeper`.

    Args:
        name: Calls with equal names share the limit: one for each key at a provider.
        requests_per_minute: None: no limit of this kind; so with the others.
        tokens_per_minute: Of prompts and answers together.
        concurrency: Calls at one time.
        lease: When a call that never ended, because its invocation was killed, counts as ended.

    Raises:
        UsageError: HF0640, no name, or a limit that is not 1 or more.
    """

    name: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None
    lease: Duration = timedelta(minutes=10)

    def __post_init__(self) -> None:
        limits = {
            "requests_per_minute": self.requests_per_minute,
            "tokens_per_minute": self.tokens_per_minute,
            "concurrency": self.concurrency,
        }
        if not self.name:
            raise UsageError("A ProviderLimit takes a name", code="HF0640")
        for name, limit in limits.items():
            if limit is not None and limit < 1:
                raise UsageError(
                    f"{name} of ProviderLimit {self.name!r} must be 1 or more, not {limit!r}",
                    code="HF0640",
                )

    @property
    def rules(self) -> Rules:
        """The limits as the keeper takes them."""
        return Rules(
            self.requests_per_minute,
            self.tokens_per_minute,
            self.concurrency,
            milliseconds(self.lease, "lease"),
        )


class Place:
    """A place that the limit has given to one model call. End it with `leave`."""

    def __init__(self, limit: ProviderLimit, ticket: str, tokens: int) -> None:
        self._limit = limit
        self.ticket = ticket
        self._tokens = tokens

    def leave(self, used_tokens: int | None = None, retry_after_ms: int | None = None) -> None:
        """Report the end of the call.

        Args:
            used_tokens: None: not known.
            retry_after_ms: Set when the provider refused because a limit was passed.
        """
        ended = Settle(self.ticket, self._limit.rules, self._tokens, used_tokens, retry_after_ms)
        hf.current().send(settle_place, ended, key=self._limit.name)


async def enter(limit: ProviderLimit, tokens: int) -> Place:
    """Wait until a model call may start. In a handler, not in the body of a step.

    Args:
        limit: The limit.
        tokens: What the call will take at most, as far as one can tell.
    """
    ctx = hf.current()
    place = Place(limit, f"{ctx.id}/{ctx.uuid().hex}", tokens)
    try:
        await _wait(ctx, limit, place, tokens)
    except (Exception, asyncio.CancelledError):
        # It stands in a queue that others are in, too.
        place.leave(used_tokens=0)
        raise
    return place


async def _wait(ctx: hf.Context, limit: ProviderLimit, place: Place, tokens: int) -> None:
    rules = limit.rules
    signal = ctx.awakeable(bool) if rules.concurrency is not None else None
    awakeable_id = "" if signal is None else signal.id
    ask = Reserve(place.ticket, tokens, rules, awakeable_id)
    granted = await ctx.call(reserve_place, ask, key=limit.name)
    if granted.is_queued and signal is not None:
        await signal
        granted = await ctx.call(reserve_place, ask, key=limit.name)
    start_at_ms = granted.start_at_ms
    while (delay_ms := start_at_ms - int(ctx.now().timestamp() * 1000)) > 0:
        await ctx.sleep(timedelta(milliseconds=delay_ms), "provider limit")
        # Others may have been refused meanwhile, and then nobody shall go on.
        start_at_ms = await ctx.call(blocked_until, key=limit.name)
