"""What chunks of a stream can mean. One vocabulary, whatever wrote them and whoever shows them.

A chunk is any JSON value. A string is text; an object with one of the `type`s below means what its
class says; everything else is data that only its readers understand.
"""

from __future__ import annotations

from typing import Any

import msgspec


class _Chunk(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A chunk with a meaning."""


class Text(_Chunk, frozen=True, tag="text"):
    """The next part of what an agent says."""

    delta: str


class Reasoning(_Chunk, frozen=True, tag="reasoning"):
    """The next part of what a model thinks."""

    delta: str


class ToolCallDelta(_Chunk, frozen=True, tag="tool_call_delta"):
    """The next part of the arguments of a tool call, as JSON text. A `ToolCall` follows."""

    id: str
    """Of the call."""
    name: str
    """Of the tool."""
    delta: str


class ToolCall(_Chunk, frozen=True, tag="tool_call"):
    """A tool is called."""

    id: str
    name: str
    arguments: Any = None
    """JSON value."""


class ToolResult(_Chunk, frozen=True, tag="tool_result"):
    """What a tool call has returned, or why it failed."""

    id: str
    """Of the call."""
    result: Any = None
    error: str | None = None


class Custom(_Chunk, frozen=True, tag="custom"):
    """Something else that has a name."""

    name: str
    value: Any = None


class Data(msgspec.Struct, frozen=True):
    """A chunk without a meaning of ours."""

    value: msgspec.Raw


Chunk = Text | Reasoning | ToolCallDelta | ToolCall | ToolResult | Custom
"""Chunks with a meaning."""

_decoder: msgspec.json.Decoder[str | Chunk] = msgspec.json.Decoder(str | Chunk)


def parse_chunk(content: bytes) -> Chunk | Data:
    """Return what a chunk means.

    Args:
        content: JSON.
    """
    try:
        chunk = _decoder.decode(content)
    except msgspec.ValidationError:
        return Data(msgspec.Raw(content))
    return Text(chunk) if isinstance(chunk, str) else chunk
