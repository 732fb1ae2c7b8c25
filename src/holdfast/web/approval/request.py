"""What is asked of approvals: queries of lists, and decisions as programs and pages send them."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.ids import IdError, parse_awakeable_id
from holdfast.server.approval_port import Verdict
from holdfast.storage.base import ApprovalFilter, ApprovalPlace, StoredApproval
from holdfast.web.approval.view import STATUSES
from holdfast.web.problem import Refusal, shown
from holdfast.web.query import known_fields, last_of, whole_number

LIMIT_DEFAULT = 100
LIMIT_MAX = 1_000
_FIELDS_MAX = 1_000
_FIELDS = ("status", "assignee", "service", "limit", "before")
_EXAMPLE = '{"comment": "fine", "by": "ada", "value": {"amount": 120}}'


class Page(NamedTuple):
    """Which approvals to list."""

    query: ApprovalFilter
    before: ApprovalPlace | None
    limit: int


def parse_page(query: bytes) -> Page:
    """Read the query of a list.

    Raises:
        Refusal: HF1060.
    """
    known = known_fields(parse_fields(query), _FIELDS)
    names = [name.strip() for text in known.get("status", ()) for name in text.split(",")]
    statuses: list[ApprovalStatus] = []
    for name in filter(None, names):
        if name not in STATUSES:
            raise Refusal(
                400,
                "HF1060",
                f"There is no status {shown(name)} of approvals.",
                hint=f"Use one or more of: {', '.join(STATUSES)}.",
            )
        statuses += STATUSES[name]
    before = last_of(known, "before")
    return Page(
        ApprovalFilter(
            tuple(sorted(set(statuses))) or None,
            last_of(known, "service"),
            last_of(known, "assignee"),
        ),
        None if before is None else _parse_cursor(before),
        whole_number(last_of(known, "limit"), "limit", 1, LIMIT_MAX, LIMIT_DEFAULT),
    )


def print_cursor(stored: StoredApproval) -> str:
    """Return the value of `before` that continues after an approval."""
    place = stored.place
    return f"{place.asked_at_ms}-{place.invocation_id}-{place.signal_index}"


def _parse_cursor(text: str) -> ApprovalPlace:
    at, _, rest = text.partition("-")
    invocation_id, _, index = rest.rpartition("-")
    numbers = (at, index)
    if not invocation_id or not all(n.isascii() and n.isdigit() and len(n) < 18 for n in numbers):
        raise Refusal(
            400,
            "HF1060",
            f"{shown(text)} is not a value for before.",
            hint="Take it from `next` of the page before.",
        )
    return ApprovalPlace(int(at), invocation_id, int(index))


def parse_fields(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query or of a form, in order.

    Raises:
        Refusal: HF1418, there are more than anybody fills in.
    """
    try:
        return parse_qsl(
            query.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS_MAX
        )
    except ValueError:
        raise Refusal(
            400,
            "HF1418",
            f"There are more than {_FIELDS_MAX} fields.",
            hint="Send large things as JSON.",
        ) from None


def checked_approval_id(text: str) -> str:
    """Return the id of an approval that has been checked.

    Raises:
        Refusal: HF1003, it is malformed.
    """
    try:
        parse_awakeable_id(text)
    except IdError:
        raise Refusal(
            400,
            "HF1003",
            f"{shown(text)} is not an approval id: expected sign_1 and 38 more characters.",
            hint="Copy the whole id, as it was printed.",
        ) from None
    return text


_NOTHING = msgspec.Raw()


class _Decision(msgspec.Struct, forbid_unknown_fields=True):
    value: msgspec.Raw = _NOTHING
    arguments: msgspec.Raw = _NOTHING
    comment: str = ""
    by: str = ""


_decisions = msgspec.json.Decoder(_Decision)


def parse_decision(body: bytes, *, is_approved: bool, by: str | None) -> Verdict:
    """Read what a program sends. An empty body says nothing more.

    Args:
        by: Who decides, if that is known; None: the body says it.

    Raises:
        Refusal: HF1418.
    """
    try:
        decision = _decisions.decode(body or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400,
            "HF1418",
            f"The body is not a decision: {error}.",
            hint=f"Send for example {_EXAMPLE}",
        ) from None
    return Verdict(
        is_approved,
        _given(decision.value),
        _given(decision.arguments),
        decision.by if by is None else by,
        decision.comment,
    )


def _given(value: msgspec.Raw) -> bytes | None:
    content = bytes(value)
    return content if content not in (b"", b"null") else None
