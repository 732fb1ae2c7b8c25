"""Fields from JSON schemas, and values from fields."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.web.approval.field import fields_of, read_fields

SCHEMA: dict[str, Any] = {
    "$ref": "#/$defs/Form",
    "$defs": {
        "Form": {
            "type": "object",
            "required": ["amount", "why", "where"],
            "properties": {
                "amount": {"type": "number"},
                "count": {"type": "integer", "default": 3},
                "why": {"type": "string", "title": "Why?", "description": "In a word"},
                "long": {"type": "string", "maxLength": 2000},
                "day": {"type": "string", "format": "date"},
                "is_urgent": {"type": "boolean", "default": True},
                "color": {"enum": ["red", 7, None]},
                "where": {"$ref": "#/$defs/Place"},
                "fixed": {"const": 1},
                "anything": {"$ref": "#/$defs/nowhere"},
            },
        },
        "Place": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def test_each_property_is_a_field() -> None:
    fields = {field.key: field for field in fields_of(SCHEMA, "value", {"amount": 1.5})}
    kinds = {key: field.kind for key, field in fields.items()}
    assert kinds == {
        "amount": "number",
        "count": "number",
        "why": "text",
        "long": "area",
        "day": "date",
        "is_urgent": "flag",
        "color": "choice",
        "where": "json",
        "anything": "json",
    }
    assert (fields["amount"].text, fields["count"].text) == ("1.5", "3")
    assert (fields["why"].label, fields["why"].description) == ("Why?", "In a word")
    assert fields["color"].choices == ('"red"', "7", "null")
    assert fields["is_urgent"].text == "on"
    assert {key for key, field in fields.items() if field.is_required} == {"amount", "why", "where"}


def test_what_a_browser_sends_is_read_back() -> None:
    fields = fields_of(SCHEMA, "value", {})
    sent = {
        "value.amount": "12.5",
        "value.why": "",
        "value.long": "a\r\nb",
        "value.color": '"red"',
        "value.where": '{"city": "Rome"}',
        "value.unknown": "1",
    }
    assert read_fields(fields, sent) == {
        "amount": 12.5,
        "why": "",
        "long": "a\nb",
        "is_urgent": False,
        "color": "red",
        "where": {"city": "Rome"},
    }
    with pytest.raises(ValueError, match="where is not JSON"):
        read_fields(fields, sent | {"value.where": "Rome"})


@pytest.mark.parametrize(
    ("schema", "sent", "value"),
    [
        ({"type": "string"}, "yes", "yes"),
        ({"type": "integer"}, "7", 7),
        ({"type": "array"}, "[1]", [1]),
        ({}, '{"a": 1}', {"a": 1}),
        ({"type": "string"}, "", ""),
    ],
)
def test_a_schema_without_properties_is_one_field(
    schema: dict[str, Any], sent: str, value: Any
) -> None:
    [field] = fields_of(schema, "value", {})
    assert read_fields([field], {field.name: sent}) == value


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"properties": 3},
        {"properties": {"a": True, "b": {"enum": 3}, "c": {"type": ["string", "null"]}}},
        {"properties": {"a": {"type": "string", "maxLength": "x", "title": 3}}, "required": 1},
    ],
)
def test_odd_schemas_have_fields_too(schema: dict[str, Any]) -> None:
    fields = fields_of(schema, "value", {})
    assert read_fields(fields, {field.name: "" for field in fields}) in ({}, None)
