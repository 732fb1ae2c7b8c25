"""When to try again."""

from __future__ import annotations

from enum import IntEnum

import msgspec


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
        # The exponent is bounded first: 2.0 ** 2000 overflows, the cap is reached long before.
        exponent = min(failure_count - 1, 64)
        return int(min(self.initial_interval_ms * self.factor**exponent, self.max_interval_ms))
