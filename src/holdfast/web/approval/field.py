"""Fields of the page: made from JSON schemas, and read back from what a browser sends.

Every top-level property of a schema is a field of its own. What has no field of its own kind is
JSON in a text area, so that any schema can be filled in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

_INPUTS = {"date": "date", "email": "email", "uri": "url"}
_LONG_TEXT_LENGTH = 200


class Field(NamedTuple):
    """One thing to fill in."""

    name: str
    """As the browser sends it."""
    key: str
    """The property; empty: the whole value."""
    label: str
    kind: str
    """`text`, `area`, `number`, `flag`, `choice`, `json`, or a kind of HTML input."""
    text: str
    """What is in it at first."""
    choices: tuple[str, ...] = ()
    """Of `choice`: JSON values."""
    is_required: bool = False
    description: str = ""


def fields_of(schema: Mapping[str, Any], group: str, values: Mapping[str, Any]) -> list[Field]:
    """Return the fields of a schema; constants have none.

    Args:
        schema: JSON schema.
        group: What their names begin with.
        values: What is in them at first, by property.
    """
    whole = _resolved(schema, schema)
    properties: object = whole.get("properties")
    if not isinstance(properties, dict):
        return [_field(whole, f"{group}.", "", "", None, is_required=True)]
    needed: object = whole.get("required", [])
    required = cast("list[object]", needed) if isinstance(needed, list) else []
    fields: list[Field] = []
    for key, given in cast("dict[str, Any]", properties).items():
        part = _resolved(given, schema)
        if "const" not in part:
            label = str(part.get("title") or key)
            value = values.get(key, part.get("default"))
            fields.append(
                _field(part, f"{group}.{key}", key, label, value, is_required=key in required)
            )
    return fields


def read_fields(fields: list[Field], sent: Mapping[str, str]) -> Any:
    """Return the value that a browser has sent: an object, or what the only field holds.

    Raises:
        ValueError: A field that is JSON is none; names it.
    """
    values: dict[str, Any] = {}
    for field in fields:
        text = sent.get(field.name, "")
        if field.kind == "flag":
            values[field.key] = bool(text)
        elif text or (field.is_required and field.kind in ("text", "area")):
            values[field.key] = _read(field, text)
    if [field.key for field in fields] == [""]:
        return values.get("")
    return values


def _read(field: Field, text: str) -> Any:
    if field.kind not in ("number", "choice", "json"):
        return text.replace("\r\n", "\n")
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError(f"{field.label or 'the value'} is not JSON: {text[:80]}") from None


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """Follow references inside of the document; what leads nowhere is any JSON."""
    for _ in range(8):
        if not isinstance(schema, dict):
            return {}
        here = cast("dict[str, Any]", schema)
        reference: object = here.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return here
        schema = root
        for step in reference[2:].split("/"):
            schema = cast("dict[str, Any]", schema).get(step) if isinstance(schema, dict) else None
    return {}


def _field(
    part: Mapping[str, Any], name: str, key: str, label: str, value: Any, *, is_required: bool
) -> Field:
    kind, choices = _kind(part)
    if kind == "flag":
        text = "on" if value else ""
    elif kind in ("number", "choice", "json"):
        text = "" if value is None else json.dumps(value, ensure_ascii=False)
    else:
        text = value if isinstance(value, str) else ""
    description = part.get("description", "")
    return Field(
        name,
        key,
        label,
        kind,
        text,
        choices,
        # An empty box means no, and a browser would insist on a yes.
        is_required and kind != "flag",
        description if isinstance(description, str) else "",
    )


def _kind(part: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    options: object = part.get("enum")
    if isinstance(options, list):
        listed = cast("list[object]", options)
        return "choice", tuple(json.dumps(option, ensure_ascii=False) for option in listed)
    match part.get("type"):
        case "boolean":
            return "flag", ()
        case "integer" | "number":
            return "number", ()
        case "string":
            longest: object = part.get("maxLength")
            is_long = isinstance(longest, int) and longest > _LONG_TEXT_LENGTH
            return _INPUTS.get(str(part.get("format")), "area" if is_long else "text"), ()
        case _:
            return "json", ()
