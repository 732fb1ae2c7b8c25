"""Ids as clients send them."""

from __future__ import annotations

from holdfast.domain.ids import IdError, parse_deployment_id, parse_invocation_id
from holdfast.web.problem import Refusal, shown


def checked_invocation_id(text: str) -> str:
    """Return a printed invocation id that has been checked.

    Raises:
        Refusal: HF1003, it is malformed.
    """
    try:
        parse_invocation_id(text)
    except IdError:
        raise bad_id("an invocation", text, "inv_1 and 33 more characters") from None
    return text


def checked_deployment_id(text: str) -> str:
    """Return a printed deployment id that has been checked.

    Raises:
        Refusal: HF1003, it is malformed.
    """
    try:
        parse_deployment_id(text)
    except IdError:
        raise bad_id("a deployment", text, "dp_1 and 22 more characters") from None
    return text


def bad_id(what: str, text: str, expected: str) -> Refusal:
    """Return the refusal of a malformed id; `what` is `an invocation`, for example."""
    return Refusal(
        400,
        "HF1003",
        f"{shown(text)} is not {what} id: expected {expected}.",
        hint="Copy the whole id, as it was printed.",
    )
