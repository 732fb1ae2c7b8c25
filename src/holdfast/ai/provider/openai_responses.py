"""The OpenAI Responses API."""

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

_ENDINGS = ("response.completed", "response.incomplete", "response.failed")


def request(body: JsonObject) -> ModelCall:
    """Read a request. Instructions and definitions of tools come before the input."""
    given = body.get("input")
    instructions = body.get("instructions")
    system = [{"role": "system", "content": instructions}] if instructions else []
    tools = [{"kind": "tool", **tool} for tool in objects_in(body.get("tools"))]
    said = [{"role": "user", "content": given}] if isinstance(given, str) else objects_in(given)
    return ModelCall(
        provider="openai",
        request_model=text_in(body.get("model")),
        settings=rest_of(body, "model", "input", "instructions", "tools", "stream"),
        messages=[*system, *tools, *said],
        is_streamed=bool(body.get("stream")),
    )


def answer(call: ModelCall, body: JsonObject) -> ModelCall:
    """Add an answer."""
    output = list(objects_in(body.get("output")))
    calls = [
        {
            "id": text_in(item.get("call_id")),
            "name": text_in(item.get("name")),
            "arguments": arguments_in(item.get("arguments")),
        }
        for item in output
        if item.get("type") == "function_call"
    ]
    usage = object_in(body.get("usage"))
    reason = text_in(object_in(body.get("incomplete_details")).get("reason"))
    status = reason or text_in(body.get("status"))
    return msgspec.structs.replace(
        call,
        response_model=text_in(body.get("model")),
        response_id=text_in(body.get("id")),
        answer=output or None,
        tool_calls=calls,
        usage=TokenUsage(
            input=count_in(usage.get("input_tokens")),
            cached_input=count_in(
                object_in(usage.get("input_tokens_details")).get("cached_tokens")
            ),
            output=count_in(usage.get("output_tokens")),
            reasoning=count_in(
                object_in(usage.get("output_tokens_details")).get("reasoning_tokens")
            ),
        ),
        finish_reasons=[status] if status else [],
    )


def assembled(events: Sequence[Event]) -> JsonObject:
    """Return the response that the last event carries; items that are done, if it broke off."""
    for event in reversed(events):
        if _type(event) in _ENDINGS:
            return object_in(event.body.get("response"))
    done = [
        object_in(event.body.get("item"))
        for event in events
        if _type(event) == "response.output_item.done"
    ]
    opening = [
        object_in(event.body.get("response"))
        for event in events
        if _type(event) == "response.created"
    ]
    return {**(opening[0] if opening else {}), "output": done}


def text(event: Event) -> str:
    """Return the text that an event adds to the answer."""
    is_text = _type(event) == "response.output_text.delta"
    return text_in(event.body.get("delta")) if is_text else ""


def is_end(event: Event) -> bool:
    """Return whether an event carries the whole response."""
    return _type(event) in _ENDINGS


def has_end(events: Sequence[Event]) -> bool:
    """Return whether the stream is whole."""
    return any(map(is_end, events))


def failure(event: Event) -> str:
    """Return the error that broke the stream off. A response that failed is an answer."""
    if _type(event) != "error":
        return ""
    body = event.body
    return text_in(object_in(body.get("error")).get("message") or body.get("message")) or "error"


def _type(event: Event) -> str:
    return event.name or text_in(event.body.get("type"))


READER = Reader("openai", request, answer, assembled, text, is_end, has_end, failure)
