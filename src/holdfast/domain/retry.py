"""When to try again."""

from __future__ import annotations

import math
from enum import IntEnum

import msgspec

RETRY_INTERVAL_MS_MAX = 10**15
"""Longest wait of a schedule, about 30,000 years; so is its `max_duration_ms`."""

RETRY_FACTOR_MAX = 1_000_000

RETRY_ATTEMPTS_MAX = 2**31 - 1


class OnMaxAttempts(IntEnum):
    """What happens when the last attempt has failed."""

    PAUSE = 0
    KILL = 1


class RetrySchedule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Exponential backoff, in the engine's units. Defaults are those of Restate 1.7."""

    initial_interval_ms: int = 500
    factor: float = 2.0
    max_interval_ms: int = 60_000
    max_attempts: int | None = 70
    """Total number of attempts, the first included; None means without limit."""
    on_max_attempts: OnMaxAttempts = OnMaxAttempts.PAUSE
    max_duration_ms: int | None = None
    """No attempt starts later than this after the first failure; None means without limit."""

    def problem(self) -> str | None:
        """Return what is wrong with it, for people; None: it is possible."""
        waits: dict[str, int | None] = {
            "initial_interval_ms": self.initial_interval_ms,
            "max_interval_ms": self.max_interval_ms,
            "max_duration_ms": self.max_duration_ms,
        }
        for name, wait_ms in waits.items():
            if wait_ms is not None and not 0 <= wait_ms <= RETRY_INTERVAL_MS_MAX:
                return f"{name} is {wait_ms}, expected 0 to {RETRY_INTERVAL_MS_MAX}"
        if not 1 <= self.factor <= RETRY_FACTOR_MAX:
            # A factor below 1 would shrink the waits, down to a busy loop.
            return f"factor is {self.factor}, expected 1 to {RETRY_FACTOR_MAX}"
        if self.max_attempts is not None and not 1 <= self.max_attempts <= RETRY_ATTEMPTS_MAX:
            most = RETRY_ATTEMPTS_MAX
            return f"max_attempts is {self.max_attempts}, expected 1 to {most}, or none"
        return None

    def delay_ms(
        self,
        failure_count: int,
        elapsed_ms: int = 0,
        *,
        chosen_ms: int | None = None,
        least_ms: int = 0,
    ) -> int | None:
        """Return the wait after a failure, or None when attempts or time are used up.

        Args:
            failure_count: Number of this failure, from 1.
            elapsed_ms: Time since the first one.
            chosen_ms: Wait that the failure itself asks for, instead of the policy's.
            least_ms: The shortest wait that it asks for.
        """
        assert failure_count >= 1
        if self.max_attempts is not None and failure_count >= self.max_attempts:
            return None
        delay_ms = max(
            self._interval_ms(failure_count) if chosen_ms is None else chosen_ms, least_ms
        )
        if self.max_duration_ms is not None and elapsed_ms + delay_ms > self.max_duration_ms:
            return None
        return delay_ms

    def _interval_ms(self, failure_count: int) -> int:
        # By logarithms, because powers overflow. Also what `problem` refuses gets a wait: rows of
        # before it was refused hold such schedules.
        most_ms = min(max(self.max_interval_ms, 0), RETRY_INTERVAL_MS_MAX)
        first_ms = min(max(self.initial_interval_ms, 0), most_ms)
        if not 1 <= self.factor < math.inf or not first_ms:
            return first_ms
        exponent = failure_count - 1
        if math.log(first_ms) + exponent * math.log(self.factor) > math.log(most_ms) + 1:
            return most_ms
        return min(int(first_ms * self.factor**exponent), most_ms)
