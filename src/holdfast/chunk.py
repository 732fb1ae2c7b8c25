"""Chunks of streams that have a meaning: what `ctx.emit` takes besides text and plain data."""

from __future__ import annotations

from holdfast.domain.stream_chunk import (
    Custom,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)

__all__ = ["Custom", "Reasoning", "Text", "ToolCall", "ToolCallDelta", "ToolResult"]
