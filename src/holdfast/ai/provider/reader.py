"""What a provider's API looks like to us: the port that each of the modules beside this one fills.

A stream is put together to the body that the same answer would have had without streaming, so an
answer is read in one way only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from holdfast.ai.provider.json_value import JsonObject
from holdfast.ai.provider.sse import Event
from holdfast.domain.detail import ModelCall


class Reader(NamedTuple):
    """How one API is read."""

    provider: str
    """Unless the address says otherwise."""
    request: Callable[[JsonObject], ModelCall]
    """Reads the body of a request."""
    answer: Callable[[ModelCall, JsonObject], ModelCall]
    """Adds the body of an answer to its call."""
    assembled: Callable[[Sequence[Event]], JsonObject]
    """Puts the events of a stream together."""
    text: Callable[[Event], str]
    """The text that an event adds to the answer; empty if none."""
    is_end: Callable[[Event], bool]
    """Whether an event ends the stream."""
    has_end: Callable[[Sequence[Event]], bool]
    """Whether a stream that has ended is whole."""
    failure: Callable[[Event], str]
    """Why the provider broke the stream off; empty if the event is no such thing."""


def never(_: Event) -> bool:
    """Say of an API that no event ends its streams."""
    return False


def no_text(_: Event) -> str:
    """Say of an API, or of an event, that it adds no text."""
    return ""


def always(_: Sequence[Event]) -> bool:
    """Say of an API that each stream is whole that ends in an orderly way."""
    return True
