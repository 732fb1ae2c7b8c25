"""How the log of a process looks on standard error."""

from __future__ import annotations

import json
import logging
import sys

import click

from holdfast.cli.output import clean

_STANDARD = frozenset(
    (*vars(logging.LogRecord("", 0, "", 0, "", None, None)), "message", "asctime", "taskName")
)
_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def set_up_log(level: str, form: str, *, source: str = "", is_supervised: bool = False) -> None:
    """Send the log of this process to standard error.

    Args:
        level: Least important level shown.
        form: `text` or `json`.
        source: Named in every line of text, where several processes share a terminal.
        is_supervised: The comings and goings of workers are told by a supervisor, not by the log.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonForm() if form == "json" else _TextForm(source))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("holdfast").setLevel(level.upper())
    if is_supervised and level == "info":
        logging.getLogger("holdfast.transport").setLevel(logging.WARNING)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _TextForm(logging.Formatter):
    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = f"{source} " if source else ""

    def format(self, record: logging.LogRecord) -> str:
        at = self.formatTime(record, "%H:%M:%S")
        level = click.style(f"{record.levelname:<7}", fg=_COLORS.get(record.levelno))
        # A path or an error of somebody else may be in it, and must not forge a line.
        line = f"{at} {self._source}{level} {clean(record.getMessage())}"
        extras = clean(" ".join(f"{name}={value}" for name, value in _extras(record).items()))
        if extras:
            line += "  " + click.style(extras, dim=True)
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line if sys.stderr.isatty() else click.unstyle(line)


class _JsonForm(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at_ms": round(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)
