"""Delays of sends, in milliseconds."""

from __future__ import annotations

from holdfast.domain.duration import parse_duration_ms
from holdfast.web.problem import Refusal, shown

DELAY_MS_MAX = 36_525 * 86_400_000
"""One hundred years."""


def parse_delay_ms(text: str) -> int:
    """Read the delay of a send; see `parse_duration_ms` for how it may be written.

    Raises:
        Refusal: HF1030 not a duration; HF1031 longer than a hundred years.
    """
    delay_ms = parse_duration_ms(text)
    if delay_ms is None:
        raise Refusal(
            400,
            "HF1030",
            f"Delay {shown(text)} is not a duration.",
            hint="Write for example 1500ms, 1.5s, 5m, 2h, 1d, PT1.5S, or milliseconds as 1500.",
        )
    if delay_ms > DELAY_MS_MAX:
        raise Refusal(
            400,
            "HF1031",
            f"Delay {shown(text)} is {delay_ms // 86_400_000} days; the longest is"
            f" {DELAY_MS_MAX // 86_400_000} days (100 years).",
            hint="Choose an earlier time, or let the handler sleep until then.",
        )
    return delay_ms
