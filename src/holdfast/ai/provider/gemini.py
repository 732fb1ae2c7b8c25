"""The Gemini API, also on Vertex AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from holdfast.ai.provider.json_value import (
    JsonObject,
    count_in,
    object_in,
    objects_in,
    rest_of,
    text_in,
)
from holdfast.ai.provider.reader import Reader, never
from holdfast.ai.provider.sse import Event
from holdfast.domain.detail import ModelCall, TokenUsage


def request(body: JsonObject) -> ModelCall:
    """Read a request. The name of the model is in its path."""
    system = object_in(body.get("systemInstruction") or body.get("system_instruction"))
    messages: list[JsonObject] = [{**system, "role": "system"}] if system else []
    messages += [{"kind": "tool", **tool} for tool in objects_in(body.get("tools"))]
    known = ("contents", "systemInstruction", "system_instruction", "tools")
    return ModelCall(
        provider="gcp.gemini",
        request_model="",
        operation="generate_content",
        settings=rest_of(body, *known),
        messages=[*messages, *objects_in(body.get("contents"))],
    )


def answer(call: ModelCall, body: JsonObject) -> ModelCall:
    """Add an answer."""
    candidates = list(objects_in(body.get("candidates")))
    contents = [object_in(candidate.get("content")) for candidate in candidates]
    calls = [
        {
            "id": text_in(function.get("id")),
            "name": text_in(function.get("name")),
            "arguments": function.get("args"),
        }
        for content in contents
        for part in objects_in(content.get("parts"))
        if (function := object_in(part.get("functionCall")))
    ]
    said: Any = contents[0] if len(contents) == 1 else contents
    return msgspec.structs.replace(
        call,
        response_model=text_in(body.get("modelVersion")),
        response_id=text_in(body.get("responseId")),
        answer=said or None,
        tool_calls=calls,
        usage=_usage(object_in(body.get("usageMetadata"))),
        finish_reasons=[
            reason for candidate in candidates if (reason := text_in(candidate.get("finishReason")))
        ],
    )


def _usage(given: JsonObject) -> TokenUsage:
    said = count_in(given.get("candidatesTokenCount"))
    thought = count_in(given.get("thoughtsTokenCount"))
    # What was thought is counted apart here; with us it is part of the sum.
    output = None if said is None and thought is None else (said or 0) + (thought or 0)
    return TokenUsage(
        input=count_in(given.get("promptTokenCount")),
        cached_input=count_in(given.get("cachedContentTokenCount")),
        output=output,
        reasoning=thought,
    )


def assembled(events: Sequence[Event]) -> JsonObject:
    """Put the chunks of a stream together."""
    body: JsonObject = {}
    candidates: dict[int, JsonObject] = {}
    for event in events:
        chunk = event.body
        body |= {name: chunk[name] for name in chunk if name != "candidates"}
        for given in objects_in(chunk.get("candidates")):
            index = count_in(given.get("index")) or 0
            empty: JsonObject = {"content": {"role": "model", "parts": []}, "index": index}
            candidate = candidates.setdefault(index, empty)
            for part in objects_in(object_in(given.get("content")).get("parts")):
                _add(candidate["content"]["parts"], part)
            candidate |= rest_of(given, "content", "index")
    return {**body, "candidates": [candidates[index] for index in sorted(candidates)]}


def _add(parts: list[JsonObject], part: JsonObject) -> None:
    last = parts[-1] if parts else {}
    is_same = last.get("thought") == part.get("thought")
    if isinstance(part.get("text"), str) and isinstance(last.get("text"), str) and is_same:
        parts[-1] = {**last, **part, "text": last["text"] + part["text"]}
    else:
        parts.append(part)


def text(event: Event) -> str:
    """Return the text that a chunk adds to the first candidate."""
    for candidate in objects_in(event.body.get("candidates")):
        if not candidate.get("index"):
            parts = objects_in(object_in(candidate.get("content")).get("parts"))
            return "".join(text_in(part.get("text")) for part in parts if not part.get("thought"))
    return ""


def has_end(events: Sequence[Event]) -> bool:
    """Return whether the stream is whole. A prompt that was blocked has no candidates."""
    return any(
        event.body.get("promptFeedback")
        or any(one.get("finishReason") for one in objects_in(event.body.get("candidates")))
        for event in events
    )


def failure(event: Event) -> str:
    """Return the error that came instead of the next chunk."""
    return text_in(object_in(event.body.get("error")).get("message"))


READER = Reader("gcp.gemini", request, answer, assembled, text, never, has_end, failure)
