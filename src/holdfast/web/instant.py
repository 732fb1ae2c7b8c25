"""How times are printed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = "9999-12-31T23:59:59.999Z"


def iso_time(at_ms: int) -> str:
    """Print milliseconds since the epoch as ISO 8601 in UTC: `2026-01-31T12:00:00.500Z`.

    Times beyond the year 9999, which a handler may ask for, print as its last millisecond.
    """
    try:
        at = _EPOCH + timedelta(milliseconds=at_ms)
    except OverflowError:
        return _LAST
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
