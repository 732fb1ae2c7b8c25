"""A scripted model provider for tests and demos.

It answers the real clients over real HTTP on loopback, without a key and without a network:

    from holdfast.testing.scripted_model import ScriptedModel, ToolCall, Turn

    scenario = [Turn(tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),)), "Sunny."]
    with ScriptedModel({"weather": scenario}) as model:
        client = AsyncOpenAI(base_url=model.url, api_key="any")
        ...
        assert len(model.calls("weather")) == 2

`python -m holdfast.testing.scripted_model MODULE:NAME --port N` serves a mapping of scenarios.
"""

from __future__ import annotations

from .scenario import (
    Fault,
    ModelRequest,
    Scenario,
    ToolCall,
    Turn,
    TurnFunction,
    TurnSpec,
    Usage,
)
from .server import Call, ScriptedModel

__all__ = [
    "Call",
    "Fault",
    "ModelRequest",
    "Scenario",
    "ScriptedModel",
    "ToolCall",
    "Turn",
    "TurnFunction",
    "TurnSpec",
    "Usage",
]
