"""When a delayed invocation starts, as users say it."""

from __future__ import annotations

from datetime import datetime

from holdfast.domain.errors import UsageError
from holdfast.sdk.retry import Duration, milliseconds

_CODE = "HF0531"


def moment_ms(at: datetime | None) -> int:
    """Return a point in time in milliseconds since the epoch; None is 0.

    Raises:
        UsageError: HF0531, no datetime, or one that does not say its time zone.
    """
    if at is None:
        return 0
    # Callers without type checks may pass anything.
    if not isinstance(at, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError(f"at must be a datetime, not {at!r}", code=_CODE)
    if at.utcoffset() is None:
        raise UsageError(
            f"at={at!r} has no time zone, so it is another moment on another machine",
            code=_CODE,
            hint="Write datetime(…, tzinfo=UTC), or at.astimezone() for local time.",
        )
    return round(at.timestamp() * 1000)


def start_ms(delay: Duration | None, at: datetime | None, now_ms: int) -> int:
    """Return when to start, in milliseconds since the epoch; 0 for at once. Past times are now.

    Raises:
        UsageError: HF0507, no duration; HF0531, no moment, or both are given.
    """
    refuse_both(delay, at)
    if at is not None:
        at_ms = moment_ms(at)
        return at_ms if at_ms > now_ms else 0
    delay_ms = 0 if delay is None else milliseconds(delay, "delay")
    return now_ms + delay_ms if delay_ms else 0


def refuse_both(delay: Duration | None, at: datetime | None) -> None:
    """Refuse two answers to one question.

    Raises:
        UsageError: HF0531.
    """
    if delay is not None and at is not None:
        raise UsageError(
            "delay= and at= both say when to start", code=_CODE, hint="Give one of them."
        )
