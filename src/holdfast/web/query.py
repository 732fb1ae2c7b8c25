"""Fields of queries, for routes of ours."""

from __future__ import annotations

from holdfast.web.problem import Refusal, shown


def known_fields(fields: list[tuple[str, str]], names: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the values of each field, in order.

    A misspelt field would silently do nothing, so unknown ones are refused.

    Raises:
        Refusal: HF1060.
    """
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


def last_of(known: dict[str, list[str]], name: str) -> str | None:
    """Return the last value of a field; None: it is not there, or empty."""
    # Forms send fields that were left empty.
    return (known.get(name) or [""])[-1] or None


def whole_number(text: str | None, name: str, low: int, high: int, default: int) -> int:
    """Return a number within limits; None is `default`.

    Raises:
        Refusal: HF1060, it is none.
    """
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
