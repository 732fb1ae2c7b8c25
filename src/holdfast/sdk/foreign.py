"""What is made up for when the server knows nothing of ours.

Over HTTP, messages are those of Restate's protocol, whoever the server is. What it does not say is
derived here from what it does say; what it cannot be told is refused, or done by the handler's
side. The clock is in `Machine.sys_now`.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.domain.errors import UsageError
from holdfast.domain.message import Completion, DelayRule, Entry, Error, Run, Start, StepFailures
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule

_BEHAVIORS = {OnMaxAttempts.PAUSE: 1, OnMaxAttempts.KILL: 2}


def completed_start(start: Start, entries: Sequence[Entry], now_ms: int) -> Start:
    """Say how often the open steps have failed.

    The server counts failed attempts since the last command, of whatever kind they were. For the
    step that fails again and again this is its own number; for other open ones it is an upper
    bound.

    Args:
        start: As received.
        entries: The journal so far.
        now_ms: Wall clock.
    """
    if not start.retry_count:
        return start
    done = {entry.completion_id for entry in entries if isinstance(entry, Completion)}
    since_ms = now_ms - start.duration_ms
    failures = tuple(
        StepFailures(entry.completion_id, start.retry_count, since_ms)
        for entry in entries
        if isinstance(entry, Run) and entry.completion_id not in done
    )
    return replace(start, step_failures=failures)


def with_own_count(known: StepFailures | None, own: tuple[int, int]) -> StepFailures | None:
    """Return how often a step has failed that records its failures itself.

    Args:
        known: What the server counts. Each record of a failure is a command, so it counts those
            since the last one, and that one.
        own: Recorded failures, and the time of the first.
    """
    count, since_ms = own
    if count == 0:
        return known
    later = 0 if known is None else max(0, known.count - 1)
    return StepFailures(0 if known is None else known.completion_id, count + later, since_ms)


def error_without_rule(error: Error, start: Start, schedule: RetrySchedule | None) -> Error:
    """Count a failure that chooses its wait here, as such a server would not count it.

    Args:
        error: As it would be sent to a server of ours.
        start: Of the attempt.
        schedule: Of the handler; None: the default of both kinds of servers.

    Returns:
        An error without a rule. At the end of the policy it pauses or ends the invocation.
    """
    if error.delay_rule is DelayRule.UNCOUNTED or error.next_retry_delay_ms is None:
        return error
    schedule = schedule or RetrySchedule()
    is_least = error.delay_rule is DelayRule.LEAST
    delay_ms = schedule.delay_ms(
        start.retry_count + 1,
        start.duration_ms,
        chosen_ms=None if is_least else error.next_retry_delay_ms,
        least_ms=error.next_retry_delay_ms if is_least else 0,
    )
    behavior = error.behavior if delay_ms is not None else _BEHAVIORS[schedule.on_max_attempts]
    return replace(
        error,
        next_retry_delay_ms=delay_ms,
        delay_rule=DelayRule.UNCOUNTED,
        behavior=max(behavior, error.behavior),
    )


def refuse_extension(start: Start, what: str) -> None:
    """Refuse what the server of this attempt cannot be told.

    Raises:
        UsageError: HF1385.
    """
    if not start.has_extensions:
        raise UsageError(
            f"{what} cannot be used here: the server speaks Restate's protocol over HTTP, which "
            "has no place for it",
            code="HF1385",
            hint="Leave it out, or run the handlers as a worker of a Holdfast server.",
        )
