"""Looks into decoded JSON without trusting its shape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias, cast

import msgspec

JsonObject: TypeAlias = dict[str, Any]


def decoded(content: bytes | str) -> object:
    """Return decoded JSON; `None` for what is none."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def object_in(value: object) -> JsonObject:
    """Return a JSON object; an empty one for anything else."""
    return cast("JsonObject", value) if isinstance(value, dict) else {}


def objects_in(value: object) -> Iterator[JsonObject]:
    """Yield the objects of a JSON array; anything else yields nothing."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if isinstance(item, dict):
                yield cast("JsonObject", item)


def text_in(value: object) -> str:
    """Return a string; an empty one for anything else."""
    return value if isinstance(value, str) else ""


def count_in(value: object) -> int | None:
    """Return a count; `None` for anything else."""
    return value if type(value) is int and value >= 0 else None


def rest_of(body: JsonObject, *names: str) -> JsonObject:
    """Return what a body has besides these."""
    return {name: value for name, value in body.items() if name not in names}


def arguments_in(value: object) -> object:
    """Return arguments of a tool call, decoded if they are JSON in a string."""
    if not isinstance(value, str):
        return value
    found = decoded(value)
    return value if found is None else found
