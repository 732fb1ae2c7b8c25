"""How times and durations are printed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = "9999-12-31T23:59:59.999Z"

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def iso_time(at_ms: int) -> str:
    """Print milliseconds since the epoch as ISO 8601 in UTC: `2026-01-31T12:00:00.500Z`.

    Times beyond the year 9999, which a handler may ask for, print as its last millisecond.
    """
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return _LAST
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def friendly(duration_ms: int) -> str:
    """Print a duration as `1d`, `1s 500ms`, `0s`."""
    parts: list[str] = []
    for unit, size in _UNITS:
        count, duration_ms = divmod(duration_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
