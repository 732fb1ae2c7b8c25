"""Failures that say when to try again: `RetryableError`, and the `Retry-After` of HTTP responses.

No library is imported for the latter. An exception counts when it has `.response.headers`, as those
of httpx, requests, OpenAI and Anthropic do, or `.headers`, as those of aiohttp and urllib do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast

from holdfast.sdk.retry import Duration, milliseconds

RETRY_AFTER_MS_MAX = 3_600_000
"""Longer waits that a response asks for are cut to this: one hour."""

_CAUSES_MAX = 32
"""Of a chain of exceptions. Chains may be rings."""


class RetryableError(Exception):
    """Fails the attempt, or the step, and says when to try again.

    The failure counts against `max_attempts` and `max_duration` like any other, so that a service
    which is never ready does not keep an invocation for ever.

    Args:
        message: For people.
        delay: The wait, instead of the one of the policy; None: that of the policy.

    Raises:
        UsageError: HF0507, the delay is no duration.
    """

    # For subclasses that do not call `__init__`.
    message: str = ""
    delay: Duration | None = None
    delay_ms: int | None = None

    def __init__(self, message: str = "", delay: Duration | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.delay = delay
        self.delay_ms = None if delay is None else milliseconds(delay, "delay")


class AskedDelay(NamedTuple):
    """What a failure says about the next attempt."""

    delay_ms: int
    is_least: bool
    """Whether the policy's wait holds where it is longer."""


def asked_delay(error: BaseException, now_ms: int) -> AskedDelay | None:
    """Return when a failure asks to be tried again, looking through groups and causes.

    Of a group the longest wait counts.

    Args:
        now_ms: Wall clock, for responses that name a date.
    """
    for link in _chain(error):
        if isinstance(link, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", link)
            asked = [asked_delay(member, now_ms) for member in group.exceptions[:_CAUSES_MAX]]
            found = [one for one in asked if one is not None]
            if found:
                is_least = None in asked or any(one.is_least for one in found)
                return AskedDelay(max(one.delay_ms for one in found), is_least)
        if isinstance(link, RetryableError):
            if link.delay_ms is not None:
                return AskedDelay(link.delay_ms, is_least=False)
        elif (after_ms := _retry_after_ms(cast("object", link), now_ms)) is not None:
            return AskedDelay(min(after_ms, RETRY_AFTER_MS_MAX), is_least=True)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if link is None:
            return
        yield link
        link = link.__cause__


def _retry_after_ms(error: object, now_ms: int) -> int | None:
    try:
        headers: Any = getattr(getattr(error, "response", None), "headers", None)
        if headers is None:
            headers = getattr(error, "headers", None)
        if headers is None:
            return None
        found = {str(name).lower(): str(value) for name, value in headers.items()}
    except Exception:  # Attributes of foreign exceptions may do anything.
        return None
    in_ms = _number(found.get("retry-after-ms"))
    if in_ms is not None:
        return int(in_ms)
    text = found.get("retry-after")
    in_s = _number(text)
    if in_s is not None:
        return int(in_s * 1000)
    return None if text is None else _until_ms(text, now_ms)


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else -1.0
    except ValueError:
        return None
    # Also cuts what no integer could hold.
    return min(number, 1e9) if number >= 0 and not math.isnan(number) else None


def _until_ms(text: str, now_ms: int) -> int | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # No date, or one beyond what dates can be: as if there were none.
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0, int(at.timestamp() * 1000) - now_ms)
