"""The Gemini API: requests in, answers and stream chunks out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

from .reading import Conversation, Entry, conversation_of, object_in, objects_in
from .scenario import JsonObject, ModelRequest, Turn, pieces_of, usage_of


def read(body: JsonObject) -> Conversation:
    """Read the conversation of a request. The system instruction is no part of it."""
    entries: list[Entry] = []
    for content in objects_in(body.get("contents")):
        parts = list(objects_in(content.get("parts")))
        text = "".join(str(part["text"]) for part in parts if "text" in part)
        if content.get("role") == "model":
            entries.append(Entry("model", text))
            continue
        answers = [object_in(part.get("functionResponse")) for part in parts]
        entries += [Entry("tool", _output(answer)) for answer in answers if answer is not None]
        if text:
            entries.append(Entry("user", text))
    return conversation_of(entries)


def _output(answer: JsonObject) -> str:
    response = object_in(answer.get("response")) or {}
    # The client wraps what is no object.
    value = response.get("result", response.get("output", response))
    return value if isinstance(value, str) else json.dumps(value)


def answer(turn: Turn, request: ModelRequest, created_at_s: int) -> JsonObject:
    """Return the body of an answer that is not streamed."""
    return _chunk(_parts(turn), request, _response_id(), "STOP", _usage(turn, request))


def events(turn: Turn, request: ModelRequest, created_at_s: int) -> Iterator[str]:
    """Yield the server-sent events of a streamed answer, each with its empty line."""
    response_id = _response_id()
    usage = _usage(turn, request)
    parts = [part for part in _parts(turn) if "text" not in part]
    said: list[list[JsonObject]] = [[{"text": piece}] for piece in pieces_of(turn.text or "")]
    if parts:
        said.append(parts)
    for index, chunk in enumerate(said):
        is_last = index == len(said) - 1
        body = _chunk(chunk, request, response_id, "STOP" if is_last else None, usage)
        yield f"data: {json.dumps(body)}\r\n\r\n"


def _response_id() -> str:
    return secrets.token_hex(12)


def _chunk(
    parts: list[JsonObject],
    request: ModelRequest,
    response_id: str,
    finish_reason: str | None,
    usage: JsonObject,
) -> JsonObject:
    candidate: JsonObject = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish_reason is not None:
        candidate["finishReason"] = finish_reason
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": request.model,
        "responseId": response_id,
    }


def _parts(turn: Turn) -> list[JsonObject]:
    parts: list[JsonObject] = [] if turn.text is None else [{"text": turn.text}]
    for call in turn.tool_calls:
        function: JsonObject = {
            "id": f"fc_{secrets.token_hex(8)}",
            "name": call.name,
            "args": dict(call.arguments),
        }
        parts.append({"functionCall": function})
    return parts


def _usage(turn: Turn, request: ModelRequest) -> JsonObject:
    usage = usage_of(turn, request)
    return {
        "promptTokenCount": usage.input_tokens,
        "cachedContentTokenCount": usage.cached_tokens,
        # What was thought is counted apart.
        "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
        "thoughtsTokenCount": usage.reasoning_tokens,
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
