"""What the tests of this integration share."""

from __future__ import annotations

import asyncio

from agents import function_tool

from holdfast.testing.scripted_model import ModelRequest, ToolCall

ran: list[str] = []
"""What the bodies of tools did, in order."""


@function_tool
async def get_weather(city: str) -> str:
    """Look at the sky."""
    ran.append(f"start {city}")
    await asyncio.sleep(0.01)
    ran.append(f"end {city}")
    return f"3 degrees in {city}"


TWO_CITIES = (ToolCall("get_weather", {"city": "Oslo"}), ToolCall("get_weather", {"city": "Rome"}))


def summary(request: ModelRequest) -> str:
    return " | ".join(request.tool_outputs)
