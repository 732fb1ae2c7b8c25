"""How an attempt failed, as Restate's tables show it."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import get_args

from holdfast.domain.message import Command
from holdfast.engine.row import AttemptFailure

_PHRASES = {500: "Internal"}
_ERROR_CODES = {570: "RT0016", 571: "RT0012"}
"""By code that a handler gives."""
_CARRIER_CODES = {
    "HF1340": "RT0010",
    "HF1341": "RT0012",
    "HF1342": "RT0012",
    "HF1343": "RT0010",
    "HF1345": "RT0023",
    "HF1346": "RT0015",
    "HF1347": "RT0019",
}
"""By code at the end of what the server says of an attempt that it could not carry."""
_CODE_AT_END = re.compile(r"\[(HF\d{4})\]$")
_COMMAND_NAMES = {kind.__struct_config__.tag: kind.__name__ for kind in get_args(Command)}


def phrase(failure: AttemptFailure) -> str:
    """Return a failure as `[500 Internal] message`, with its stack trace on further lines."""
    code = failure.code
    try:
        name = _PHRASES.get(code) or HTTPStatus(code).phrase
    except ValueError:
        name = ""
    head = f"[{code} {name}]" if name else f"[{code}]"
    text = f"{head} {failure.message}"
    return f"{text}\n{failure.stacktrace}" if failure.stacktrace else text


def error_code(failure: AttemptFailure) -> str:
    """Return Restate's code for why an attempt failed."""
    found = _CODE_AT_END.search(failure.message)
    if found is not None and found[1] in _CARRIER_CODES:
        return _CARRIER_CODES[found[1]]
    return _ERROR_CODES.get(failure.code, "RT0007")


def command_type(failure: AttemptFailure) -> str | None:
    """Return the type of the command that failed, such as `Run`."""
    return _COMMAND_NAMES.get(failure.related_command_type)
