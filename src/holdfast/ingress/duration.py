"""Durations as people and clients write them, in milliseconds."""

from __future__ import annotations

import re

from holdfast.web.problem import Refusal, shown

DELAY_MS_MAX = 36_525 * 86_400_000
"""One hundred years."""

_TEXT_LENGTH_MAX = 64

_NUMBER = r"([0-9]+)(?:[.,]([0-9]+))?"
_ISO = re.compile(
    rf"P(?:{_NUMBER}W)?(?:{_NUMBER}D)?(?:T(?=[0-9])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?",
    re.IGNORECASE,
)
_ISO_UNITS_US = (604_800_000_000, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000)
_FRIENDLY = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*([a-zA-Zµ]+)\s*,?\s*")

_UNITS_US = {
    name: size
    for size, names in (
        (1, "us µs usec usecs micro micros microsecond microseconds"),
        (1_000, "ms msec msecs milli millis millisecond milliseconds"),
        (1_000_000, "s sec secs second seconds"),
        (60_000_000, "m min mins minute minutes"),
        (3_600_000_000, "h hr hrs hour hours"),
        (86_400_000_000, "d day days"),
        (604_800_000_000, "w wk wks week weeks"),
    )
    for name in names.split()
}


def parse_delay_ms(text: str) -> int:
    """Read the delay of a send.

    Accepts ISO 8601 (`PT1.5S`, `P1DT2H`), a number with a unit or several of them (`1500ms`,
    `1.5s`, `2 s`, `60 sec`, `5m`, `1h 30m`), and a bare integer, which is milliseconds. Parts of a
    millisecond round up, so that nothing starts too early.

    Raises:
        Refusal: HF1030 not a duration; HF1031 longer than a hundred years.
    """
    stripped = text.strip()
    delay_us = None
    if 0 < len(stripped) <= _TEXT_LENGTH_MAX:
        if stripped.isascii() and stripped.isdigit():
            delay_us = int(stripped) * 1_000
        elif stripped[0] in "Pp":
            delay_us = _parse_iso(stripped)
        else:
            delay_us = _parse_friendly(stripped)
    if delay_us is None:
        raise Refusal(
            400,
            "HF1030",
            f"Delay {shown(text)} is not a duration.",
            hint="Write for example 1500ms, 1.5s, 5m, 2h, 1d, PT1.5S, or milliseconds as 1500.",
        )
    delay_ms = -(-delay_us // 1_000)
    if delay_ms > DELAY_MS_MAX:
        raise Refusal(
            400,
            "HF1031",
            f"Delay {shown(text)} is {delay_ms // 86_400_000} days; the longest is"
            f" {DELAY_MS_MAX // 86_400_000} days (100 years).",
            hint="Choose an earlier time, or let the handler sleep until then.",
        )
    return delay_ms


def _parse_iso(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None or not text[-1].isalpha() or text[-1] in "PTpt":
        return None
    total = 0
    groups = match.groups()
    for index, unit in enumerate(_ISO_UNITS_US):
        whole, fraction = groups[2 * index], groups[2 * index + 1]
        if whole is None:
            continue
        total += _scaled(whole, fraction, unit)
    return total


def _parse_friendly(text: str) -> int | None:
    total = position = 0
    while position < len(text):
        match = _FRIENDLY.match(text, position)
        unit = None if match is None else _UNITS_US.get(match[3].lower())
        if match is None or unit is None:
            return None
        total += _scaled(match[1], match[2], unit)
        position = match.end()
    return None if text.endswith(",") else total


def _scaled(whole: str, fraction: str | None, unit: int) -> int:
    """Return `whole.fraction` units, in integers: floats would drop milliseconds of long delays."""
    scale = int("1" + "0" * len(fraction or ""))
    return -(-(int(whole) * scale + int(fraction or 0)) * unit // scale)
