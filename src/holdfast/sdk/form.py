"""JSON schemas of what people fill in, from types or as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from holdfast.domain.errors import UsageError
from holdfast.domain.json_schema import NoSchema, check_schema
from holdfast.sdk.serde import JSON, serde_for

Schema = dict[str, Any]


def schema_of(form: Any, what: str) -> Schema:
    """Return the JSON schema of a type; a mapping is one already.

    Raises:
        UsageError: HF0591, there is none; HF0504, there is no JSON for the type.
    """
    if isinstance(form, Mapping):
        return {str(name): value for name, value in cast("Mapping[str, Any]", form).items()}
    serde = serde_for(form)
    schema = serde.schema() if serde.content_type == JSON else None
    if schema is None:
        raise UsageError(
            f"{what} is {form!r}, which has no JSON schema",
            code="HF0591",
            hint="Give a dataclass, a pydantic model, another type, or a JSON schema as a dict.",
        )
    return dict(schema)


def encode_schema(schema: Schema, what: str) -> bytes:
    """Return a schema as JSON that has been checked.

    Raises:
        UsageError: HF0591, it is no JSON schema.
    """
    try:
        encoded = msgspec.json.encode(schema, order="deterministic")
        check_schema(encoded)
    except (NoSchema, TypeError, ValueError) as error:
        raise UsageError(
            f"{what} is no JSON schema: {error}",
            code="HF0591",
            hint="Schemas are complete: references to other documents are not followed.",
        ) from error
    return encoded


def arguments_schema(arguments: Mapping[str, Any], editable: Mapping[str, Any]) -> Schema:
    """Return the schema of what arguments may become: those that may not change are constants.

    Args:
        arguments: As they are.
        editable: Types or JSON schemas of those that may change, by name. One that is not among
            the arguments may be added.

    Raises:
        UsageError: HF0591, see `schema_of`; or two types of one name are not the same.
    """
    properties: Schema = {
        name: {"const": value} for name, value in arguments.items() if name not in editable
    }
    definitions: Schema = {}
    for name, form in editable.items():
        schema = schema_of(form, f"editable[{name!r}]")
        for defined, definition in schema.pop("$defs", {}).items():
            # References point to the top of the document, so definitions have to go there.
            if definitions.setdefault(defined, definition) != definition:
                raise UsageError(
                    f"editable has two types that are called {defined}",
                    code="HF0591",
                    hint="Rename one of them, or give a JSON schema.",
                )
        properties[name] = schema
    whole: Schema = {
        "type": "object",
        "properties": properties,
        "required": list(arguments),
        "additionalProperties": False,
    }
    return {**whole, "$defs": definitions} if definitions else whole
