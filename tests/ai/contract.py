"""What every integration must keep: an agent of three turns with parallel tools, crashed anywhere.

A framework's test brings an app with one handler, `Agent/run`, that runs an agent on the model
`contract` of the scripted provider, with the tools `weather(city)` and `book(city)` below. It is
crashed before, in and after each of its steps, and must answer as without a crash, with no
completed model or tool call made twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import holdfast as hf
from holdfast.testing import environment
from holdfast.testing.scripted_model import (
    ModelRequest,
    ScriptedModel,
    ToolCall,
    Turn,
    TurnSpec,
)

MODEL = "contract"
PROMPT = "Where shall I go?"
ANSWER = "Booked Rome: 21 degrees in Rome, 3 degrees in Oslo."
STEPS = 6
"""Three model calls, two parallel tools, one tool."""


def _last(request: ModelRequest) -> Turn:
    assert any("booked Rome" in output for output in request.tool_outputs), request.tool_outputs
    return Turn(text=ANSWER)


SCENARIO: list[TurnSpec] = [
    Turn(tool_calls=(ToolCall("weather", {"city": "Oslo"}), ToolCall("weather", {"city": "Rome"}))),
    Turn(tool_calls=(ToolCall("book", {"city": "Rome"}),)),
    _last,
]


@dataclass
class Tools:
    """The bodies of the tools, and what they did."""

    ran: Counter[str] = field(default_factory=Counter[str])
    """Completed calls, by what was done."""
    _inside: int = 0
    most_at_once: int = 0

    async def weather(self, city: str) -> str:
        """Return the weather in a city."""
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        try:
            await asyncio.sleep(0.02 if city == "Oslo" else 0.01)
        finally:
            self._inside -= 1
        self.ran[f"weather {city}"] += 1
        return f"{3 if city == 'Oslo' else 21} degrees in {city}"

    async def book(self, city: str) -> str:
        """Book a journey to a city."""
        self.ran[f"book {city}"] += 1
        return f"booked {city}"


def contract_model() -> ScriptedModel:
    """Return the provider, not started: use it as a context manager."""
    return ScriptedModel({MODEL: SCENARIO})


async def run_contract(
    model: ScriptedModel, make_app: Callable[[Tools], hf.App], crash: str | None
) -> None:
    """Run the agent once, crashed at one place, and check what must hold."""
    tools = Tools()
    before = len(model.calls(MODEL))
    async with environment(make_app(tools)) as env:
        if crash is not None:
            env.crash_at(crash)
        sent = await env.client.send("Agent/run", PROMPT)
        assert await env.client.attach(sent.invocation_id) == ANSWER
        steps = await env.steps(sent.invocation_id)
    asked = len(model.calls(MODEL)) - before
    assert len(steps) == STEPS, steps
    assert set(tools.ran) == {"weather Oslo", "weather Rome", "book Rome"}
    # A step whose result was lost runs again, and so does the tool beside one that died with it.
    repeated = (asked - 3) + (tools.ran.total() - 3)
    match crash and crash.partition(":")[0]:
        case None:
            assert repeated == 0
            assert tools.most_at_once == 2, "the parallel tools did not run at once"
        case "during":
            assert 1 <= repeated <= 2, (asked, tools.ran)
        case _:
            assert asked == 3
            assert 0 <= repeated <= 1, tools.ran


def crash_points() -> list[str | None]:
    """Return the places, for `pytest.mark.parametrize`."""
    points = [
        f"{when}:step {number}"
        for number in range(1, STEPS + 1)
        for when in ("before", "during", "after")
    ]
    return [None, *points]
