"""Durations as people and tools write them."""

from __future__ import annotations

import re

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


def parse_duration_ms(text: str) -> int | None:
    """Read a duration in milliseconds; None when it is none.

    Accepts ISO 8601 (`PT1.5S`, `P1DT2H`), a number with a unit or several of them (`1500ms`,
    `1.5s`, `2 s`, `60 sec`, `5m`, `1h 30m`), and a bare integer, which is milliseconds. Parts of a
    millisecond round up, so that nothing happens too early.
    """
    stripped = text.strip()
    if not 0 < len(stripped) <= _TEXT_LENGTH_MAX:
        return None
    if stripped.isascii() and stripped.isdigit():
        return int(stripped)
    total_us = _parse_iso(stripped) if stripped[0] in "Pp" else _parse_friendly(stripped)
    return None if total_us is None else -(-total_us // 1_000)


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
