"""Arguments of tools: schemas out, keys and inputs back."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.errors import UsageError
from holdfast.interop.argument import argument_schema, split_arguments
from holdfast.interop.offer import Offer

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}
TEXT: dict[str, Any] = {"type": "string"}


def offer(schema: dict[str, Any] | None, *, is_keyed: bool = False) -> Offer:
    return Offer(
        service="Weather",
        handler="look",
        is_keyed=is_keyed,
        is_run=False,
        documentation="",
        input_schema=schema,
        output_schema=None,
    )


def test_members_of_an_object_are_arguments() -> None:
    named = {"$ref": "#/$defs/City", "$defs": {"City": CITY}}
    for schema in (CITY, named):
        found = argument_schema(offer(schema))
        assert (found["type"], found["required"]) == ("object", ["name"])
        assert "$ref" not in found
        assert split_arguments(offer(schema), {"name": "Oslo"}) == (None, {"name": "Oslo"})


def test_a_schema_is_not_changed_by_its_use() -> None:
    before = {**CITY, "properties": dict(CITY["properties"])}
    found = argument_schema(offer(CITY, is_keyed=True))
    assert found["required"] == ["key", "name"]
    assert before == CITY


def test_other_inputs_are_one_argument() -> None:
    found = argument_schema(offer(TEXT))
    assert found == {"type": "object", "properties": {"input": TEXT}, "required": ["input"]}
    assert split_arguments(offer(TEXT), {"input": "Oslo"}) == (None, "Oslo")


def test_what_may_be_nothing_may_be_left_out() -> None:
    optional = {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}], "$defs": {"City": CITY}}
    found = argument_schema(offer(optional))
    assert "required" not in found
    # References lead to the top.
    assert found["$defs"] == {"City": CITY}
    assert split_arguments(offer(optional), {}) == (None, None)
    assert "required" not in argument_schema(offer(None))


def test_a_key_beside_a_member_of_that_name() -> None:
    schema = {"type": "object", "properties": {"key": TEXT}, "required": ["key"]}
    assert argument_schema(offer(schema))["required"] == ["key"]
    assert argument_schema(offer(schema, is_keyed=True))["required"] == ["key", "input"]
    given = {"key": "ada", "input": {"key": "x"}}
    assert split_arguments(offer(schema, is_keyed=True), given) == ("ada", {"key": "x"})


def test_a_reference_into_itself_ends() -> None:
    loop = {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert argument_schema(offer(loop))["required"] == ["input"]
    elsewhere = {"$ref": "https://example.com/schema"}
    assert argument_schema(offer(elsewhere))["properties"] == {"input": elsewhere}


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        (TEXT, {"input": "Oslo"}),
        (TEXT, {"key": "", "input": "Oslo"}),
        (TEXT, {"key": 7, "input": "Oslo"}),
        (TEXT, {"key": "a", "inptu": "Oslo"}),
        (CITY, {"name": "Oslo"}),
    ],
)
def test_wrong_arguments_are_refused(schema: dict[str, Any], given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        split_arguments(offer(schema, is_keyed=True), given)
    assert caught.value.code == "HF0662"
    assert caught.value.hint
