"""How durations are printed."""

from __future__ import annotations

_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def friendly(duration_ms: int) -> str:
    """Print a duration as `1d`, `1s 500ms`, `0s`."""
    parts: list[str] = []
    for unit, size in _UNITS:
        count, duration_ms = divmod(duration_ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"
