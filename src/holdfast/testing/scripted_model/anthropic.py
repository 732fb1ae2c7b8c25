"""The Anthropic Messages API: requests in, answers and stream events out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

from .reading import Conversation, Entry, conversation_of, objects_in, text_in
from .scenario import JsonObject, ModelRequest, Turn, pieces_of, usage_of


def read(body: JsonObject) -> Conversation:
    """Read the conversation of a request. The system prompt is no part of it."""
    entries: list[Entry] = []
    for message in objects_in(body.get("messages")):
        content = message.get("content")
        if message.get("role") == "assistant":
            entries.append(Entry("model", text_in(content)))
            continue
        entries += [
            Entry("tool", text_in(block.get("content")))
            for block in objects_in(content)
            if block.get("type") == "tool_result"
        ]
        if text := text_in(content):
            entries.append(Entry("user", text))
    return conversation_of(entries)


def answer(turn: Turn, request: ModelRequest, created_at_s: int) -> JsonObject:
    """Return the body of an answer that is not streamed."""
    return {
        **_frame(request),
        "content": _content(turn),
        "stop_reason": _stop_reason(turn),
        "usage": _usage(turn, request),
    }


def events(turn: Turn, request: ModelRequest, created_at_s: int) -> Iterator[str]:
    """Yield the server-sent events of a streamed answer, each with its empty line."""
    for event in _events(turn, request):
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"


def _events(turn: Turn, request: ModelRequest) -> Iterator[JsonObject]:
    usage = _usage(turn, request)
    opening: JsonObject = {**_frame(request), "content": [], "stop_reason": None}
    yield {"type": "message_start", "message": {**opening, "usage": {**usage, "output_tokens": 1}}}
    for index, block in enumerate(_content(turn)):
        is_text = block["type"] == "text"
        empty: JsonObject = {**block, "text": ""} if is_text else {**block, "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": empty}
        if index == 0:
            yield {"type": "ping"}
        said = str(block["text"]) if is_text else json.dumps(block["input"])
        kind, field = ("text_delta", "text") if is_text else ("input_json_delta", "partial_json")
        for piece in pieces_of(said):
            delta = {"type": kind, field: piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": _stop_reason(turn), "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": usage}
    yield {"type": "message_stop"}


def _frame(request: ModelRequest) -> JsonObject:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": request.model,
        "stop_sequence": None,
    }


def _content(turn: Turn) -> list[JsonObject]:
    content: list[JsonObject] = [] if turn.text is None else [{"type": "text", "text": turn.text}]
    for call in turn.tool_calls:
        block: JsonObject = {
            "type": "tool_use",
            "id": f"toolu_{secrets.token_hex(12)}",
            "name": call.name,
            "input": dict(call.arguments),
        }
        content.append(block)
    return content


def _stop_reason(turn: Turn) -> str:
    return "tool_use" if turn.tool_calls else "end_turn"


def _usage(turn: Turn, request: ModelRequest) -> JsonObject:
    usage = usage_of(turn, request)
    return {
        # What came from the cache is counted apart.
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.output_tokens,
    }
