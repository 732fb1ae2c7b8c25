"""The Anthropic Messages API."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from holdfast.ai.provider.json_value import (
    JsonObject,
    arguments_in,
    count_in,
    object_in,
    objects_in,
    rest_of,
    text_in,
)
from holdfast.ai.provider.reader import Reader
from holdfast.ai.provider.sse import Event
from holdfast.domain.detail import ModelCall, TokenUsage

_DELTA_FIELDS = ("text", "thinking", "signature", "partial_json")


def request(body: JsonObject) -> ModelCall:
    """Read a request. System prompt and definitions of tools come before the messages."""
    system = body.get("system")
    messages: list[JsonObject] = [{"role": "system", "content": system}] if system else []
    messages += [{"kind": "tool", **tool} for tool in objects_in(body.get("tools"))]
    return ModelCall(
        provider="anthropic",
        request_model=text_in(body.get("model")),
        settings=rest_of(body, "model", "messages", "system", "tools", "stream"),
        messages=[*messages, *objects_in(body.get("messages"))],
        is_streamed=bool(body.get("stream")),
    )


def answer(call: ModelCall, body: JsonObject) -> ModelCall:
    """Add an answer."""
    content = list(objects_in(body.get("content")))
    calls = [
        {
            "id": text_in(block.get("id")),
            "name": text_in(block.get("name")),
            "arguments": block.get("input"),
        }
        for block in content
        if block.get("type") == "tool_use"
    ]
    reason = text_in(body.get("stop_reason"))
    return msgspec.structs.replace(
        call,
        response_model=text_in(body.get("model")),
        response_id=text_in(body.get("id")),
        answer=content or None,
        tool_calls=calls,
        usage=_usage(object_in(body.get("usage"))),
        finish_reasons=[reason] if reason else [],
    )


def _usage(given: JsonObject) -> TokenUsage:
    counted = count_in(given.get("input_tokens"))
    cached = count_in(given.get("cache_read_input_tokens"))
    written = count_in(given.get("cache_creation_input_tokens"))
    # Cached tokens are counted apart here; with us they are part of the sum.
    whole = None if counted is None else counted + (cached or 0) + (written or 0)
    return TokenUsage(input=whole, cached_input=cached, output=count_in(given.get("output_tokens")))


def assembled(events: Sequence[Event]) -> JsonObject:
    """Put the blocks of a stream together."""
    message: JsonObject = {}
    blocks: dict[int, JsonObject] = {}
    usage: JsonObject = {}
    for event in events:
        body = event.body
        index = count_in(body.get("index")) or 0
        match body.get("type"):
            case "message_start":
                message = dict(object_in(body.get("message")))
                usage |= _known(message.get("usage"))
            case "content_block_start":
                blocks[index] = dict(object_in(body.get("content_block")))
            case "content_block_delta":
                _add(blocks.setdefault(index, {}), object_in(body.get("delta")))
            case "message_delta":
                message |= _known(body.get("delta"))
                usage |= _known(body.get("usage"))
            case _:
                continue
    for block in blocks.values():
        if "partial_json" in block:
            block["input"] = arguments_in(block.pop("partial_json") or "{}")
    content = [blocks[index] for index in sorted(blocks)]
    return {**message, "content": content, "usage": usage}


def _add(block: JsonObject, delta: JsonObject) -> None:
    for name in _DELTA_FIELDS:
        if isinstance(delta.get(name), str):
            block[name] = text_in(block.get(name)) + delta[name]


def _known(value: object) -> JsonObject:
    return {name: found for name, found in object_in(value).items() if found is not None}


def text(event: Event) -> str:
    """Return the text that an event adds to the answer."""
    delta = object_in(event.body.get("delta"))
    return text_in(delta.get("text")) if delta.get("type") == "text_delta" else ""


def is_end(event: Event) -> bool:
    """Return whether this is the last event."""
    return event.name == "message_stop" or event.body.get("type") == "message_stop"


def has_end(events: Sequence[Event]) -> bool:
    """Return whether the stream is whole."""
    return any(map(is_end, events))


def failure(event: Event) -> str:
    """Return the error that broke the stream off, such as an overload."""
    if event.name != "error" and event.body.get("type") != "error":
        return ""
    error = object_in(event.body.get("error"))
    return f"{text_in(error.get('type'))}: {text_in(error.get('message'))}"


READER = Reader("anthropic", request, answer, assembled, text, is_end, has_end, failure)
