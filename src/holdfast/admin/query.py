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
from holdfast.web.query import known_fields, last_of, whole_number

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
    is_short: bool
    """Whether summaries are enough."""


def parse_page(fields: list[tuple[str, str]]) -> Page:
    """Read the query of the list of invocations.

    A misspelt field would silently list the wrong things, so unknown ones are refused.

    Raises:
        Refusal: HF1060.
    """
    known = known_fields(fields, ("service", "handler", "key", "status", "limit", "before", "view"))
    names = [
        name for text in known.get("status", ()) for name in text.split(",") if name.strip() != ""
    ]
    statuses = tuple(parse_status(name.strip()) for name in names)
    before = last_of(known, "before")
    return Page(
        InvocationFilter(
            service=last_of(known, "service"),
            handler=last_of(known, "handler"),
            key=last_of(known, "key"),
            statuses=statuses or None,
        ),
        None if before is None else parse_cursor(before),
        whole_number(last_of(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
        _parse_is_short(last_of(known, "view")),
    )


def _parse_is_short(text: str | None) -> bool:
    if text not in (None, "full", "summary"):
        raise Refusal(
            400,
            "HF1060",
            f"Field view is {shown(text)}.",
            hint="It takes full, or summary: without what is not needed in a list.",
        )
    return text == "summary"


def parse_payload_size_max(fields: list[tuple[str, str]]) -> int:
    """Read how much of each payload to show.

    Raises:
        Refusal: HF1060.
    """
    known = known_fields(fields, ("payload_size_max",))
    text = last_of(known, "payload_size_max")
    return whole_number(text, "payload_size_max", 0, _PAYLOAD_SIZE_BYTES_MAX, SIZE_SHOWN_BYTES)


def parse_deployment(fields: list[tuple[str, str]]) -> str | None:
    """Read which deployment shall run an invocation; None when it is not said.

    Raises:
        Refusal: HF1060.
    """
    return last_of(known_fields(fields, ("deployment",)), "deployment")


def parse_restart(fields: list[tuple[str, str]]) -> tuple[int, str | None]:
    """Read (index of the last entry to keep, deployment) of a restart.

    Raises:
        Refusal: HF1060.
    """
    known = known_fields(fields, ("from", "deployment"))
    from_index = whole_number(last_of(known, "from"), "from", 0, JOURNAL_LENGTH_MAX, 0)
    return from_index, last_of(known, "deployment")


def parse_mode(fields: list[tuple[str, str]]) -> str:
    """Read how an invocation shall end: `cancel`, `kill` or `purge`.

    Raises:
        Refusal: HF1060.
    """
    mode = (last_of(known_fields(fields, ("mode",)), "mode") or "cancel").lower()
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
    known = known_fields(fields, ("after", "limit"))
    limit = whole_number(last_of(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT)
    return last_of(known, "after") or "", limit


def print_cursor(row: InvocationRow) -> str:
    """Return the value of `before` that continues after an invocation."""
    return f"{row.created_at_ms}-{row.id}"


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
