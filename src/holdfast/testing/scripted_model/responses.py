"""The OpenAI Responses API: requests in, answers and stream events out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping

from .reading import Conversation, Entry, conversation_of, objects_in, text_in
from .scenario import JsonObject, ModelRequest, ToolCall, Turn, pieces_of, usage_of


def read(body: JsonObject) -> Conversation:
    """Read the conversation of a request. System and developer messages are no part of it."""
    given = body.get("input")
    if isinstance(given, str):
        return conversation_of([Entry("user", given)])
    entries = (_entry(item) for item in objects_in(given))
    return conversation_of([entry for entry in entries if entry is not None])


def _entry(item: Mapping[str, object]) -> Entry | None:
    kind = item.get("type", "message")
    if kind == "message":
        text = text_in(item.get("content"))
        if item.get("role") == "assistant":
            return Entry("model", text)
        return Entry("user", text) if item.get("role") == "user" else None
    if isinstance(kind, str) and kind.endswith("_output"):
        return Entry("tool", text_in(item.get("output")))
    # Everything else that is sent back was said by the model: calls, reasoning, searches.
    return Entry("model", "")


def answer(turn: Turn, request: ModelRequest, created_at_s: int) -> JsonObject:
    """Return the body of an answer that is not streamed."""
    response = _frame(request, created_at_s)
    return {**response, **_ending(turn, request, _output(turn))}


def events(turn: Turn, request: ModelRequest, created_at_s: int) -> Iterator[str]:
    """Yield the server-sent events of a streamed answer, each with its empty line."""
    for number, event in enumerate(_events(turn, request, created_at_s)):
        body = json.dumps({**event, "sequence_number": number})
        yield f"event: {event['type']}\ndata: {body}\n\n"


def _events(turn: Turn, request: ModelRequest, created_at_s: int) -> Iterator[JsonObject]:
    response = _frame(request, created_at_s)
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}
    output = _output(turn)
    for index, item in enumerate(output):
        if item["type"] == "message":
            yield from _message_events(index, item, turn.text or "")
        else:
            yield from _call_events(index, item)
    completed = {**response, **_ending(turn, request, output)}
    yield {"type": "response.completed", "response": completed}


def _message_events(index: int, item: JsonObject, text: str) -> Iterator[JsonObject]:
    opening: JsonObject = {**item, "status": "in_progress", "content": []}
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    place: JsonObject = {"item_id": item["id"], "output_index": index, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": _text_part("")}
    for piece in pieces_of(text):
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": _text_part(text)}
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _call_events(index: int, item: JsonObject) -> Iterator[JsonObject]:
    opening = {**item, "status": "in_progress", "arguments": ""}
    yield {"type": "response.output_item.added", "output_index": index, "item": opening}
    place: JsonObject = {"item_id": item["id"], "output_index": index}
    arguments = str(item["arguments"])
    for piece in pieces_of(arguments):
        yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
    yield {
        "type": "response.function_call_arguments.done",
        **place,
        "name": item["name"],
        "arguments": arguments,
    }
    yield {"type": "response.output_item.done", "output_index": index, "item": item}


def _frame(request: ModelRequest, created_at_s: int) -> JsonObject:
    """Return a response that has just begun."""
    body = request.body
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": created_at_s,
        "model": request.model,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools") or [],
    }


def _ending(turn: Turn, request: ModelRequest, output: list[JsonObject]) -> JsonObject:
    usage = usage_of(turn, request)
    return {
        "status": "completed",
        "output": output,
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        },
    }


def _output(turn: Turn) -> list[JsonObject]:
    output: list[JsonObject] = []
    if turn.text is not None:
        output.append(
            {
                "id": f"msg_{secrets.token_hex(12)}",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [_text_part(turn.text)],
            }
        )
    output.extend(_call_item(call) for call in turn.tool_calls)
    return output


def _call_item(call: ToolCall) -> JsonObject:
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": f"call_{secrets.token_hex(12)}",
        "name": call.name,
        "arguments": json.dumps(dict(call.arguments)),
        "status": "completed",
    }


def _text_part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
