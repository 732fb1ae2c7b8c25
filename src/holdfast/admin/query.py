"""Query fields of the admin API's own routes."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.admin.invocation_view import STATUSES
from holdfast.admin.payload import SIZE_SHOWN_BYTES
from holdfast.engine.limit import JOURNAL_LENGTH_MAX
from holdfast.engine.row import InvocationRow, Status
from holdfast.storage.base import InvocationFilter
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, shown

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000

_PAYLOAD_SIZE_BYTES_MAX = 1 << 30

Cursor = tuple[int, str]
"""(created_at_ms, id) of the last invocation of a page."""


class Page(NamedTuple):
    """Which invocations to list."""

    query: InvocationFilter
    before: Cursor | None
    limit: int


def parse_page(fields: list[tuple[str, str]]) -> Page:
    """Read the query of the list of invocations.

    A misspelt field would silently list the wrong things, so unknown ones are refused.

    Raises:
        Refusal: HF1060.
    """
    known = _known(fields, ("service", "handler", "key", "status", "limit", "before"))
    names = [
        name for text in known.get("status", ()) for name in text.split(",") if name.strip() != ""
    ]
    statuses = tuple(parse_status(name.strip()) for name in names)
    before = _last(known, "before")
    return Page(
        InvocationFilter(
            service=_last(known, "service"),
            handler=_last(known, "handler"),
            key=_last(known, "key"),
            statuses=statuses or None,
        ),
        None if before is None else parse_cursor(before),
        _parse_int(_last(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
    )


def parse_payload_size_max(fields: list[tuple[str, str]]) -> int:
    """Read how much of each payload to show.

    Raises:
        Refusal: HF1060.
    """
    known = _known(fields, ("payload_size_max",))
    text = _last(known, "payload_size_max")
    return _parse_int(text, "payload_size_max", 0, _PAYLOAD_SIZE_BYTES_MAX, SIZE_SHOWN_BYTES)


def parse_deployment(fields: list[tuple[str, str]]) -> str | None:
    """Read which deployment shall run an invocation; None when it is not said.

    Raises:
        Refusal: HF1060.
    """
    return _last(_known(fields, ("deployment",)), "deployment")


def parse_restart(fields: list[tuple[str, str]]) -> tuple[int, str | None]:
    """Read (index of the last entry to keep, deployment) of a restart.

    Raises:
        Refusal: HF1060.
    """
    known = _known(fields, ("from", "deployment"))
    from_index = _parse_int(_last(known, "from"), "from", 0, JOURNAL_LENGTH_MAX, 0)
    return from_index, _last(known, "deployment")


def parse_mode(fields: list[tuple[str, str]]) -> str:
    """Read how an invocation shall end: `cancel`, `kill` or `purge`.

    Raises:
        Refusal: HF1060.
    """
    mode = (_last(_known(fields, ("mode",)), "mode") or "cancel").lower()
    if mode not in ("cancel", "kill", "purge"):
        raise Refusal(
            400, "HF1060", f"{shown(mode)} is not a mode.", hint="Modes are: cancel, kill, purge."
        )
    return mode


def parse_keys_page(fields: list[tuple[str, str]]) -> tuple[str, int]:
    """Read the query of the list of keys: the key to begin after, and how many.

    Raises:
        Refusal: HF1060.
    """
    known = _known(fields, ("after", "limit"))
    limit = _parse_int(_last(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT)
    return _last(known, "after") or "", limit


def print_cursor(row: InvocationRow) -> str:
    """Return the value of `before` that continues after an invocation."""
    return f"{row.created_at_ms}-{row.id}"


def _known(fields: list[tuple[str, str]], names: tuple[str, ...]) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}
    for name, value in fields:
        if name not in names:
            raise Refusal(
                400,
                "HF1060",
                f"There is no query field {shown(name)} here.",
                hint=f"Fields are: {', '.join(names)}.",
            )
        known.setdefault(name, []).append(value)
    return known


def _last(known: dict[str, list[str]], name: str) -> str | None:
    # Forms send fields that were left empty.
    return (known.get(name) or [""])[-1] or None


def parse_status(name: str) -> Status:
    """Return the status that is printed so.

    Raises:
        Refusal: HF1060.
    """
    status = STATUSES.get(name)
    if status is None:
        raise Refusal(
            400,
            "HF1060",
            f"{shown(name)} is not a status.",
            hint=f"Statuses are: {', '.join(STATUSES)}.",
        )
    return status


def parse_cursor(text: str) -> Cursor:
    """Read what `print_cursor` has printed.

    Raises:
        Refusal: HF1060.
    """
    at, dash, invocation_id = text.partition("-")
    if not dash or not at.isascii() or not at.isdigit() or len(at) > 18:
        raise Refusal(
            400,
            "HF1060",
            f"{shown(text)} is not a value for before.",
            hint="Take it from `next` of the page before.",
        )
    return int(at), checked_invocation_id(invocation_id)


def _parse_int(text: str | None, name: str, low: int, high: int, default: int) -> int:
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not low <= int(text) <= high:
        raise Refusal(
            400,
            "HF1060",
            f"{name} is {shown(text)}; expected a whole number from {low} to {high}.",
            hint=f"Leave it out for {default}.",
        )
    return int(text)
