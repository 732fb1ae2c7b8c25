"""The arguments of a tool: which there are, and how they become a key and an input.

A tool takes an object. An input that is an object of known members gives its members to the tool;
any other input is the member `input`. A handler with a key has the member `key`, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from holdfast.domain.errors import UsageError
from holdfast.interop.offer import JsonObject, Offer

KEY = "key"
INPUT = "input"

_DEFINITION = "#/$defs/"


class Arguments(NamedTuple):
    """What a handler is invoked with."""

    key: str | None
    input: Any
    """JSON; None: nothing."""


def argument_schema(offer: Offer) -> JsonObject:
    """Return the JSON schema of the arguments; always of an object."""
    schema = resolved(offer.input_schema)
    schema = dict(schema) if _is_flat(offer, schema) else _wrapped(offer.input_schema)
    if offer.is_keyed:
        key: JsonObject = {"type": "string", "minLength": 1, "description": _about_key(offer)}
        schema["properties"] = {KEY: key, **cast("JsonObject", schema["properties"])}
        schema["required"] = [KEY, *cast("list[str]", schema.get("required", []))]
    return schema


def split_arguments(offer: Offer, given: Mapping[str, Any]) -> Arguments:
    """Return the key and the input that the arguments of a tool say.

    Raises:
        UsageError: HF0662, no key, no text as key, or a member that there is not.
    """
    rest = dict(given)
    key = rest.pop(KEY, None) if offer.is_keyed else None
    if offer.is_keyed and (not isinstance(key, str) or not key):
        found = "none" if key is None else repr(key)[:80]
        raise UsageError(
            f"{offer.target} needs the argument {KEY!r}, a text that is not empty; found {found}",
            code="HF0662",
            hint=_about_key(offer),
        )
    if _is_flat(offer, resolved(offer.input_schema)):
        return Arguments(key, rest)
    input = rest.pop(INPUT, None)
    if rest:
        known = [KEY, INPUT] if offer.is_keyed else [INPUT]
        raise UsageError(
            f"{offer.target} has no argument {', '.join(map(repr, sorted(rest)))}",
            code="HF0662",
            hint=f"There is {' and '.join(map(repr, known))}.",
        )
    return Arguments(key, input)


def resolved(schema: JsonObject | None) -> JsonObject:
    """Return a schema whose root is no reference into itself, where that can be done."""
    found = schema or {}
    seen: set[str] = set()
    while isinstance(reference := found.get("$ref"), str) and reference not in seen:
        seen.add(reference)
        definitions = cast("JsonObject", found.get("$defs") or {})
        target = definitions.get(reference.removeprefix(_DEFINITION))
        if not reference.startswith(_DEFINITION) or not isinstance(target, dict):
            break
        beside = {name: value for name, value in found.items() if name != "$ref"}
        found = {**cast("JsonObject", target), **beside}
    return found


def is_object(schema: JsonObject) -> bool:
    """Return whether only objects fit a schema that is resolved."""
    return schema.get("type") == "object"


def _is_flat(offer: Offer, schema: JsonObject) -> bool:
    members = schema.get("properties")
    if not is_object(schema) or not isinstance(members, dict):
        return False
    # A member of that name would hide the key of the object.
    return not (offer.is_keyed and KEY in members)


def _wrapped(schema: JsonObject | None) -> JsonObject:
    if schema is None:
        about = "Any JSON. Leave it out if nothing is needed."
        return {"type": "object", "properties": {INPUT: {"description": about}}}
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    whole: JsonObject = {"type": "object", "properties": {INPUT: inner}}
    if not _allows_null(resolved(schema)):
        whole["required"] = [INPUT]
    # References point to the top of the document, so definitions stay there.
    return {**whole, "$defs": schema["$defs"]} if "$defs" in schema else whole


def _allows_null(schema: JsonObject) -> bool:
    kinds = schema.get("type")
    options = cast("list[JsonObject]", schema.get("anyOf") or [])
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or any(option.get("type") == "null" for option in options)
    )


def _about_key(offer: Offer) -> str:
    if offer.is_run:
        return "Names the run. A key runs once: asked again, it has the same result."
    return f"Names which {offer.service}: each key has state of its own."
