"""What the scripted model says to the sample agents.

One model name for all of them, as with a real model; what is offered as tools tells which agent is
asking. The words come from the user's prompt and from the tools' answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from holdfast.testing.scripted_model import ModelRequest, Scenario, ToolCall, Turn

MODEL_NAME = "scripted-1"
"""The name under which the scripted model is asked, and which the UI shows."""

ANSWER_DELAY_S = 0.4
"""A real model takes seconds; without any delay nobody could watch the demo."""

_CITY = re.compile(r"\b(?:in|for|at|to|and)\s+([A-ZÀ-Ý][\w'-]*(?:\s[A-ZÀ-Ý][\w'-]*)*)")
_NAME = re.compile(r"(?<=\s)[A-ZÀ-Ý][\w'-]+")
_AMOUNT = re.compile(r"\d[\d,]*(?:\.\d+)?")


def answer(request: ModelRequest) -> Turn:
    """Answer the agent that is asking."""
    if "find_place" in request.tools:
        turn = _weather(request)
    elif "request_review" in request.tools:
        turn = _claim(request)
    else:
        turn = Turn(text=f"You said: {request.prompt}")
    return replace(turn, delay_s=ANSWER_DELAY_S)


SCENARIOS: Mapping[str, Scenario] = {MODEL_NAME: answer}
"""For `ScriptedModel(SCENARIOS)`."""


def _weather(request: ModelRequest) -> Turn:
    """Look the cities up, then ask for forecast and air of each, then sum up: three turns."""
    if request.turn_index == 0:
        calls = [ToolCall("find_place", {"city": city}) for city in _cities_in(request.prompt)]
        return Turn(tool_calls=tuple(calls))
    if request.turn_index == 1:
        places = [output.split(" ", 1)[0] for output in request.tool_outputs]
        calls = [
            ToolCall(tool, {"place_id": place})
            for place in places
            for tool in ("get_forecast", "get_air_quality")
        ]
        return Turn(tool_calls=tuple(calls))
    return Turn(text=" ".join(request.tool_outputs))


def _claim(request: ModelRequest) -> Turn:
    """Check the policy, wait for a person, then pay or say no."""
    amount = _amount_in(request.prompt)
    outcome = request.tool_outputs[-1] if request.tool_outputs else ""
    if request.turn_index == 0:
        return Turn(tool_calls=(ToolCall("check_policy", {"amount": amount}),))
    if request.turn_index == 1:
        arguments = {"claim": request.prompt, "amount": amount}
        return Turn(text=outcome, tool_calls=(ToolCall("request_review", arguments),))
    if request.turn_index == 2 and outcome.startswith("approved"):
        return Turn(tool_calls=(ToolCall("pay", {"amount": amount}),))
    if request.turn_index == 2:
        return Turn(text=f"We cannot pay this claim: it was {outcome}.")
    return Turn(text=f"Your claim was approved. {outcome}")


def _cities_in(prompt: str) -> list[str]:
    """Return what looks like cities: after a preposition, else any name but the first word."""
    return _CITY.findall(prompt) or _NAME.findall(prompt) or ["Oslo"]


def _amount_in(prompt: str) -> float:
    found = _AMOUNT.search(prompt)
    return float(found.group().replace(",", "")) if found else 100.0
