"""The OpenAI Chat Completions API: requests in, answers and stream chunks out."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

from .reading import Conversation, Entry, Speaker, conversation_of, object_in, objects_in, text_in
from .scenario import JsonObject, ModelRequest, ToolCall, Turn, pieces_of, usage_of

_SPEAKERS: dict[object, Speaker] = {"user": "user", "assistant": "model", "tool": "tool"}


def read(body: JsonObject) -> Conversation:
    """Read the conversation of a request. System and developer messages are no part of it."""
    return conversation_of(
        [
            Entry(_SPEAKERS[message["role"]], text_in(message.get("content")))
            for message in objects_in(body.get("messages"))
            if message.get("role") in _SPEAKERS
        ]
    )


def answer(turn: Turn, request: ModelRequest, created_at_s: int) -> JsonObject:
    """Return the body of an answer that is not streamed."""
    message: JsonObject = {"role": "assistant", "content": turn.text, "refusal": None}
    if turn.tool_calls:
        message["tool_calls"] = [_tool_call(call, _arguments(call)) for call in turn.tool_calls]
    return {
        **_head("chat.completion", request, created_at_s),
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": _finish_reason(turn),
                "logprobs": None,
            }
        ],
        "usage": _usage(turn, request),
    }


def events(turn: Turn, request: ModelRequest, created_at_s: int) -> Iterator[str]:
    """Yield the server-sent events of a streamed answer, each with its empty line."""
    head = _head("chat.completion.chunk", request, created_at_s)

    def chunk(delta: JsonObject, finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return _event({**head, "choices": [choice]})

    yield chunk({"role": "assistant", "content": None if turn.text is None else ""})
    for piece in pieces_of(turn.text or ""):
        if piece:
            yield chunk({"content": piece})
    for index, call in enumerate(turn.tool_calls):
        opening = {**_tool_call(call, arguments=""), "index": index}
        yield chunk({"tool_calls": [opening]})
        for piece in pieces_of(_arguments(call)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _finish_reason(turn))
    options = object_in(request.body.get("stream_options")) or {}
    if options.get("include_usage"):
        yield _event({**head, "choices": [], "usage": _usage(turn, request)})
    yield "data: [DONE]\n\n"


def _head(kind: str, request: ModelRequest, created_at_s: int) -> JsonObject:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": created_at_s,
        "model": request.model,
    }


def _tool_call(call: ToolCall, arguments: str) -> JsonObject:
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _arguments(call: ToolCall) -> str:
    return json.dumps(dict(call.arguments))


def _finish_reason(turn: Turn) -> str:
    return "tool_calls" if turn.tool_calls else "stop"


def _usage(turn: Turn, request: ModelRequest) -> JsonObject:
    usage = usage_of(turn, request)
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


def _event(data: JsonObject) -> str:
    return f"data: {json.dumps(data)}\n\n"
