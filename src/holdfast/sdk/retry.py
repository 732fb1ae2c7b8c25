"""When to try again, as users say it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from holdfast.domain.errors import UsageError
from holdfast.domain.retry import (
    RETRY_ATTEMPTS_MAX,
    RETRY_FACTOR_MAX,
    OnMaxAttempts,
    RetrySchedule,
)

Duration = timedelta | float | int
"""A length of time: timedelta, or seconds."""


def milliseconds(duration: Duration, what: str) -> int:
    """Return a duration in milliseconds, rounded to the nearest.

    Raises:
        UsageError: HF0507, not a duration, or negative.
    """
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float) and not isinstance(duration, bool):
        seconds = duration
    else:
        raise UsageError(
            f"{what} must be a timedelta or a number of seconds, not {duration!r}", code="HF0507"
        )
    if not 0 <= seconds < 1e12:
        raise UsageError(f"{what} must be zero or more and finite, not {duration!r}", code="HF0507")
    return round(seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Exponential backoff for failed attempts of a service, a handler, a call or a step.

    On a service or handler the server counts all failed attempts of an invocation. On a call or
    send it replaces the policy of the handler for that one invocation. On a step, its own failures
    are counted, and other steps are not affected.

    What happens when a step has used up its attempts or its time is up to `on_max_attempts`:

    - None: the step raises `TerminalError` at its await, where the handler may catch it.
    - "pause": the invocation pauses until a person resumes it. The handler sees nothing of it.
    - "kill": the invocation ends with the failure. The handler cannot catch it, so nothing that
      it does on errors, such as a compensation, is run.
    """

    initial_interval: Duration = timedelta(milliseconds=500)
    """Wait after the first failure."""
    factor: float = 2.0
    """Each wait is this many times the one before."""
    max_interval: Duration = timedelta(minutes=1)
    """No wait is longer."""
    max_attempts: int | None = 70
    """Total number of attempts, the first included; None means without limit."""
    max_duration: Duration | None = None
    """No attempt starts later than this after the first failure; None means without limit. What
    happens then is what happens after the last attempt."""
    on_max_attempts: Literal["pause", "kill"] | None = None
    """What happens after the last: pause the invocation, or end it with the failure at once.
    None: a handler pauses; a step raises `TerminalError` at its await, where it may be caught."""

    def __post_init__(self) -> None:
        milliseconds(self.initial_interval, "initial_interval")
        milliseconds(self.max_interval, "max_interval")
        if self.max_duration is not None:
            milliseconds(self.max_duration, "max_duration")
        if not 1 <= self.factor <= RETRY_FACTOR_MAX:
            raise UsageError(
                f"factor must be 1 to {RETRY_FACTOR_MAX:,}, not {self.factor!r}", code="HF0507"
            )
        if self.max_attempts is not None and not 1 <= self.max_attempts <= RETRY_ATTEMPTS_MAX:
            raise UsageError(
                f"max_attempts must be 1 to {RETRY_ATTEMPTS_MAX:,}, or None, not"
                f" {self.max_attempts!r}",
                code="HF0507",
            )
        if self.on_max_attempts not in (None, "pause", "kill"):
            raise UsageError(
                f"on_max_attempts must be 'pause' or 'kill', not {self.on_max_attempts!r}",
                code="HF0507",
            )

    def to_schedule(self) -> RetrySchedule:
        """Return the policy in the engine's units."""
        is_kill = self.on_max_attempts == "kill"
        return RetrySchedule(
            initial_interval_ms=milliseconds(self.initial_interval, "initial_interval"),
            factor=self.factor,
            max_interval_ms=milliseconds(self.max_interval, "max_interval"),
            max_attempts=self.max_attempts,
            on_max_attempts=OnMaxAttempts.KILL if is_kill else OnMaxAttempts.PAUSE,
            max_duration_ms=(
                None
                if self.max_duration is None
                else milliseconds(self.max_duration, "max_duration")
            ),
        )
