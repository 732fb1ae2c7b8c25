"""No window of a minute has more than the limit."""

from __future__ import annotations

import random

import pytest

from holdfast.ai.limit.pace import WINDOW_MS, Bucket, corrected, rate, size, starts_at, taken


def schedule(amounts: list[float], per_minute: float, gaps_ms: list[float]) -> list[float]:
    """Return when requests start that ask one after the other, `gaps_ms` apart."""
    bucket, asked_ms, started = Bucket(), 1_000_000.0, list[float]()
    for amount, gap_ms in zip(amounts, gaps_ms, strict=True):
        asked_ms += gap_ms
        at_ms = starts_at(bucket, amount, per_minute, asked_ms)
        bucket = taken(bucket, amount, per_minute, at_ms)
        started.append(at_ms)
    return started


def busiest_window(amounts: list[float], started: list[float]) -> float:
    """Return the most that starts within a minute, whichever request it begins with."""
    return max(
        sum(a for a, at in zip(amounts, started, strict=True) if begin <= at < begin + WINDOW_MS)
        for begin in started
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_window_has_more_than_the_limit(seed: int) -> None:
    chance = random.Random(seed)
    per_minute = chance.choice([600.0, 60_000.0, 1_000_000.0])
    largest = chance.choice([0.02, 0.1, 0.5, 0.9]) * per_minute
    amounts = [chance.uniform(1, largest) for _ in range(200)]
    gaps_ms = [chance.choice([0.0, 0.0, 50.0, 5_000.0]) for _ in amounts]
    started = schedule(amounts, per_minute, gaps_ms)
    assert started == sorted(started)
    assert busiest_window(amounts, started) <= per_minute * 1.000001


@pytest.mark.parametrize("per_minute", [1, 2, 5, 60, 500])
def test_requests_are_never_more_than_the_limit(per_minute: int) -> None:
    amounts = [1.0] * (3 * per_minute + 2)
    started = schedule(amounts, per_minute, [0.0] * len(amounts))
    assert busiest_window(amounts, started) <= per_minute


def test_most_of_the_limit_is_used() -> None:
    amounts = [500.0] * 400
    started = schedule(amounts, 60_000, [0.0] * len(amounts))
    minutes = (started[-1] - started[0]) / WINDOW_MS
    assert sum(amounts) / minutes >= 0.88 * 60_000


def test_the_first_requests_do_not_wait() -> None:
    assert schedule([100.0] * 10, 60_000, [0.0] * 10) == [1_000_000.0] * 10


def test_what_was_not_used_is_given_back() -> None:
    bucket = taken(Bucket(), 6_000, 60_000, 1_000_000)
    back = corrected(bucket, -6_000, 60_000)
    assert back.empty_at_ms == pytest.approx(1_000_000)
    assert starts_at(bucket, 6_000, 60_000, 1_000_000) > 1_000_000
    assert starts_at(back, 6_000, 60_000, 1_000_000) == pytest.approx(1_000_000)


def test_size_and_rate_make_up_the_limit() -> None:
    assert size(60_000) + WINDOW_MS * rate(60_000) == pytest.approx(60_000)
