"""Reads conversations out of request bodies, without trusting their shape."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from .scenario import JsonObject

Speaker: TypeAlias = Literal["user", "model", "tool"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a conversation."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """What all APIs have in common about a conversation."""

    turn_count: int
    """Number of model turns; neighbouring entries of the model are one turn."""
    prompt: str
    """Text of the last message from the user."""
    tool_outputs: tuple[str, ...]
    """Outputs since the last model turn."""


def conversation_of(entries: Sequence[Entry]) -> Conversation:
    """Count the model's turns and find the last words of the user and of the tools."""
    turn_count = 0
    before: Speaker | None = None
    prompt = ""
    outputs: list[str] = []
    for entry in entries:
        if entry.speaker == "model":
            turn_count += before != "model"
            outputs.clear()
        elif entry.speaker == "user":
            prompt = entry.text
        else:
            outputs.append(entry.text)
        before = entry.speaker
    return Conversation(turn_count, prompt, tuple(outputs))


def object_in(value: object) -> JsonObject | None:
    """Return a decoded JSON value if it is an object."""
    return cast("JsonObject", value) if isinstance(value, dict) else None


def objects_in(value: object) -> Iterable[JsonObject]:
    """Yield the JSON objects of a JSON array; anything else yields nothing."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if (found := object_in(item)) is not None:
                yield found


def text_in(content: object) -> str:
    """Return the text of a message content: a string, or parts that carry a `text`."""
    if isinstance(content, str):
        return content
    texts = (part.get("text") for part in objects_in(content))
    return "".join(text for text in texts if isinstance(text, str))


def names_in(tools: object) -> tuple[str, ...]:
    """Return the names of the offered function tools, in the shape of any API."""
    names: list[object] = []
    for tool in objects_in(tools):
        declared = tool.get("functionDeclarations")
        if declared is not None:
            names += [one.get("name") for one in objects_in(declared)]
        elif tool.get("type", "custom") in ("function", "custom"):
            # Chat Completions puts the function one level deeper.
            names.append((object_in(tool.get("function")) or tool).get("name"))
    return tuple(name for name in names if isinstance(name, str))
