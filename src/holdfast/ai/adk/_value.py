"""What tools return, as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from google.genai import types
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from holdfast.domain.errors import UsageError

_KEPT: dict[str, type[BaseModel]] = {
    "Part": types.Part,
    "FunctionResponse": types.FunctionResponse,
}
"""What the kit treats in another way than JSON values: media, and answers with a schedule."""
_TAG = "holdfast:genai"


def encode_value(value: object, tool: str) -> Any:
    """Return the result of a tool as JSON.

    Raises:
        UsageError: HF0620, something in it has no JSON form.
    """
    if type(value) in _KEPT.values():
        kept = cast("BaseModel", value)
        return {
            _TAG: type(value).__name__,
            "value": kept.model_dump(mode="json", exclude_none=True),
        }
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, object]", value)
        return {str(name): encode_value(item, tool) for name, item in fields.items()}
    if isinstance(value, list | tuple):
        return [encode_value(item, tool) for item in cast("list[object]", value)]
    try:
        return to_jsonable_python(value)
    except (PydanticSerializationError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Tool {tool!r} returned a {type(value).__name__}, which cannot be recorded.",
            code="HF0620",
            hint="Return JSON values, Pydantic models or parts of google.genai; or give the tool "
            "mode='plain' and make its side effects durable steps.",
        ) from error


def decode_value(value: Any) -> Any:
    """Return the result of a tool from its recorded form."""
    found: object = value
    if isinstance(found, dict):
        fields = cast("dict[str, Any]", found)
        if _TAG in fields:
            return _KEPT[fields[_TAG]].model_validate(fields["value"])
        return {name: decode_value(item) for name, item in fields.items()}
    if isinstance(found, list):
        return [decode_value(item) for item in cast("list[object]", found)]
    return value
