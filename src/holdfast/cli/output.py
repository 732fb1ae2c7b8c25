"""Tables, JSON and times for standard output.

A table is for people on a terminal, and lines of tab-separated values without a head in a pipe.
What servers send may hold anything, so whatever is shown on a terminal is cleaned first: a control
character in a payload must not move the cursor or forge a line.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

import click

SCHEMA_VERSION = 1
"""Of all JSON that commands print; raised when a member changes its meaning."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))

STATUS_COLORS = {
    "running": "cyan",
    "suspended": "blue",
    "backing-off": "yellow",
    "paused": "yellow",
    "failed": "red",
    "succeeded": "green",
}


def clean(value: object) -> str:
    """Return a value as one line that cannot do anything to a terminal."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _CONTROLS.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def note(text: str) -> None:
    """Tell the person something that is not data."""
    click.echo(text, err=True)


def print_json(value: dict[str, object]) -> None:
    """Print a JSON object, indented on a terminal."""
    shown = {"schema_version": SCHEMA_VERSION, **value}
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(shown, ensure_ascii=False, indent=indent))


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows; cells must be clean."""
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(click.unstyle(cell) for cell in row))
        return
    lines = [[click.style(head, bold=True) for head in heads], *rows]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [
            cell + " " * (width - _width(cell)) for cell, width in zip(line, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names with values; values must be clean."""
    if not sys.stdout.isatty():
        for name, value in facts:
            click.echo(f"{name}\t{click.unstyle(value)}")
        return
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def styled_status(status: str) -> str:
    """Return a status in its colour; it is told by its word and never by colour alone."""
    return click.style(clean(status), fg=STATUS_COLORS.get(status))


def moment(text: object, now: datetime | None = None) -> str:
    """Return a time: how long ago on a terminal, as it came in a pipe.

    Args:
        text: ISO 8601 as servers send it; anything else is shown as it is, None as nothing.
        now: For tests.
    """
    if not isinstance(text, str):
        return "" if text is None else clean(text)
    if not sys.stdout.isatty():
        return clean(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return clean(text)
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    return f"in {span(-seconds)}" if seconds < -0.5 else f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """Return a length of time in one or two units."""
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for index, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            smaller = _UNITS[index + 1] if index + 1 < len(_UNITS) else (1, "s")
            rest = int(seconds % size) // smaller[0]
            return f"{int(seconds) // size} {unit}" + (f" {rest} {smaller[1]}" if rest else "")
    raise AssertionError("a minute is the smallest unit above")


def _width(cell: str) -> int:
    return len(click.unstyle(cell))
