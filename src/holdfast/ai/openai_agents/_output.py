"""Tool results as JSON, and back to what the framework would have seen.

A tool may return anything: the framework sends `str()` of it to the model. The recorded form keeps
the value itself where it survives the way through JSON unchanged, and that text where it does not.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias, cast, get_type_hints

from agents import FunctionTool, ToolOutputFileContent, ToolOutputImage, ToolOutputText
from pydantic import Field, TypeAdapter

Record: TypeAlias = dict[str, Any]
_Part: TypeAlias = ToolOutputText | ToolOutputImage | ToolOutputFileContent
_PART: TypeAdapter[_Part] = TypeAdapter(Annotated[_Part, Field(discriminator="type")])


class OutputCodec:
    """Encodes the results of one tool."""

    def __init__(self, tool: FunctionTool) -> None:
        self._typed = _return_adapter(getattr(tool, "__wrapped__", None))

    def encode(self, output: object) -> Record:
        """Return the recorded form of a tool's result."""
        if is_json(output):
            return {"json": output}
        if isinstance(output, _Part):
            return {"part": _dump(output)}
        parts = _parts_in(output)
        if parts:
            return {"parts": [_dump(part) for part in parts]}
        typed = self._encode_typed(output)
        return {"text": str(output)} if typed is None else typed

    def decode(self, record: Record) -> Any:
        """Return the value of a recorded result."""
        if "part" in record:
            return _PART.validate_python(record["part"])
        if "parts" in record:
            return [_PART.validate_python(item) for item in record["parts"]]
        if "typed" in record and self._typed is not None:
            return self._typed.validate_python(record["typed"])
        return record["json"] if "json" in record else record.get("text", record.get("typed"))

    def _encode_typed(self, output: object) -> Record | None:
        """Encode by the tool's return annotation, if that brings the same value back."""
        if self._typed is None:
            return None
        try:
            dumped = self._typed.dump_python(output, mode="json")
            same = self._typed.validate_python(dumped)
        except Exception:
            # The annotation does not fit what the tool returned; the text always does.
            return None
        return {"typed": dumped} if type(same) is type(output) and same == output else None


def _parts_in(output: object) -> list[_Part]:
    """Return the parts of a list that consists of nothing else, as the framework sends it."""
    items = list(cast("Sequence[object]", output)) if isinstance(output, list | tuple) else []
    parts = [item for item in items if isinstance(item, _Part)]
    return parts if len(parts) == len(items) else []


def _dump(part: _Part) -> object:
    return _PART.dump_python(part, mode="json")


def _return_adapter(function: Callable[..., object] | None) -> TypeAdapter[Any] | None:
    if function is None:
        return None
    try:
        annotation = get_type_hints(inspect.unwrap(function), include_extras=True).get("return")
        return None if annotation in (None, Any) else TypeAdapter(annotation)
    except Exception:
        # Annotations that cannot be resolved or have no schema: as if there were none.
        return None


def is_json(value: object) -> bool:
    """Say whether JSON brings back exactly this value."""
    if value is None or type(value) in (str, int, bool):
        return True
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is list:
        return all(is_json(item) for item in cast("list[object]", value))
    if type(value) is dict:
        items = cast("dict[object, object]", value).items()
        return all(type(key) is str and is_json(item) for key, item in items)
    return False
