"""When the next request may start, so that a provider's limit per minute is never passed. Pure.

A bucket leaks at a steady rate, and a request starts when what it asks for fits. Providers count
over a sliding minute, over a fixed one, or with a bucket of their own, and do not say which. So the
bucket is small and the rate is lower than the limit by the size of the bucket:

    size of the bucket + 60 s of the rate = the limit

Then no window of 60 s, wherever it begins, has more than the limit: requests i to j take at most
the bucket and what leaks between their starts. A request larger than the bucket keeps that true by
waiting until as much has leaked as it exceeds the bucket, after the bucket is empty.
"""

from __future__ import annotations

import msgspec

WINDOW_MS = 60_000
_BURST = 0.1
"""Size of a bucket, as a part of the limit."""


class Bucket(msgspec.Struct, frozen=True):
    """What has been taken of one limit."""

    empty_at_ms: float = 0.0
    """When all that was taken has leaked, milliseconds since the epoch."""


def size(per_minute: float) -> float:
    """Return how much fits into the bucket of a limit; one request always does."""
    return max(1.0, per_minute * _BURST)


def rate(per_minute: float) -> float:
    """Return how much leaks per millisecond."""
    return max(per_minute - size(per_minute), per_minute / 2) / WINDOW_MS


def starts_at(bucket: Bucket, amount: float, per_minute: float, now_ms: float) -> float:
    """Return the earliest time at which a request may start.

    Args:
        bucket: As it is now.
        amount: What the request takes: tokens, or 1 for a request.
        per_minute: The limit.
        now_ms: Milliseconds since the epoch.
    """
    room = size(per_minute) - amount
    return max(now_ms, bucket.empty_at_ms - room / rate(per_minute))


def taken(bucket: Bucket, amount: float, per_minute: float, at_ms: float) -> Bucket:
    """Return the bucket after a request that starts at `at_ms` has taken `amount`."""
    return Bucket(max(bucket.empty_at_ms, at_ms) + amount / rate(per_minute))


def corrected(bucket: Bucket, difference: float, per_minute: float) -> Bucket:
    """Return the bucket when a request has turned out larger, or smaller, by `difference`."""
    return Bucket(max(0.0, bucket.empty_at_ms + difference / rate(per_minute)))
