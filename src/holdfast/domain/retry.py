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

    def delay_ms(self, failure_count: int) -> int | None:
        """Return the wait after the n-th failure (from 1), or None when attempts are used up."""
        assert failure_count >= 1
        if self.max_attempts is not None and failure_count >= self.max_attempts:
            return None
        # The exponent is bounded first: 2.0 ** 2000 overflows, the cap is reached long before.
        exponent = min(failure_count - 1, 64)
        return int(min(self.initial_interval_ms * self.factor**exponent, self.max_interval_ms))
