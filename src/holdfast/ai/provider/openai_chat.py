"""OpenAI Chat Completions, and those who speak it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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

_DONE = "[DONE]"


def request(body: JsonObject) -> ModelCall:
    """Read a request. Definitions of tools come before the messages."""
    tools = [{"kind": "tool", **tool} for tool in objects_in(body.get("tools"))]
    return ModelCall(
        provider="openai",
        request_model=text_in(body.get("model")),
        settings=rest_of(body, "model", "messages", "tools", "stream", "stream_options"),
        messages=[*tools, *objects_in(body.get("messages"))],
        is_streamed=bool(body.get("stream")),
    )


def answer(call: ModelCall, body: JsonObject) -> ModelCall:
    """Add an answer."""
    choices = list(objects_in(body.get("choices")))
    messages = [object_in(choice.get("message")) for choice in choices]
    calls = [
        {
            "id": text_in(tool.get("id")),
            "name": text_in(function.get("name")),
            "arguments": arguments_in(function.get("arguments")),
        }
        for message in messages
        for tool in objects_in(message.get("tool_calls"))
        if (function := object_in(tool.get("function")))
    ]
    said: Any = messages[0] if len(messages) == 1 else messages
    return msgspec.structs.replace(
        call,
        response_model=text_in(body.get("model")),
        response_id=text_in(body.get("id")),
        answer=said or None,
        tool_calls=calls,
        usage=usage(object_in(body.get("usage"))),
        finish_reasons=[
            reason for choice in choices if (reason := text_in(choice.get("finish_reason")))
        ],
    )


def usage(given: JsonObject) -> TokenUsage:
    """Read token counts. Cached and reasoning ones are part of the sums."""
    prompt = object_in(given.get("prompt_tokens_details"))
    completion = object_in(given.get("completion_tokens_details"))
    return TokenUsage(
        input=count_in(given.get("prompt_tokens")),
        cached_input=count_in(prompt.get("cached_tokens")),
        output=count_in(given.get("completion_tokens")),
        reasoning=count_in(completion.get("reasoning_tokens")),
    )


def assembled(events: Sequence[Event]) -> JsonObject:
    """Put the chunks of a stream together."""
    body: JsonObject = {}
    choices: dict[int, JsonObject] = {}
    for event in events:
        chunk = event.body
        body |= {name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)}
        for given in objects_in(chunk.get("choices")):
            index = count_in(given.get("index")) or 0
            choice = choices.setdefault(index, {"index": index, "message": {"role": "assistant"}})
            _add(choice["message"], object_in(given.get("delta")))
            if given.get("finish_reason"):
                choice["finish_reason"] = given["finish_reason"]
    return {**body, "choices": [choices[index] for index in sorted(choices)]}


def _add(message: JsonObject, delta: JsonObject) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls: list[JsonObject] = message.setdefault("tool_calls", [])
            for piece in objects_in(value):
                _add_call(calls, piece)
        elif name != "role" and isinstance(value, str):
            message[name] = text_in(message.get(name)) + value


def _add_call(calls: list[JsonObject], piece: JsonObject) -> None:
    index = count_in(piece.get("index"))
    call = next((call for call in calls if call["index"] == index), None)
    if call is None:
        function: JsonObject = {"name": "", "arguments": ""}
        call = JsonObject(index=index, id="", type="function", function=function)
        calls.append(call)
    given = object_in(piece.get("function"))
    call["id"] = text_in(piece.get("id")) or call["id"]
    for name in ("name", "arguments"):
        call["function"][name] += text_in(given.get(name))


def text(event: Event) -> str:
    """Return the text that a chunk adds to the first choice."""
    for choice in objects_in(event.body.get("choices")):
        if not choice.get("index"):
            return text_in(object_in(choice.get("delta")).get("content"))
    return ""


def is_end(event: Event) -> bool:
    """Return whether this is the marker at the end."""
    return event.data == _DONE


def has_end(events: Sequence[Event]) -> bool:
    """Return whether the stream is whole; not all who speak this API send the marker."""
    return any(
        choice.get("finish_reason")
        for event in events
        for choice in objects_in(event.body.get("choices"))
    )


def failure(event: Event) -> str:
    """Return the error that came instead of the next chunk."""
    error = event.body.get("error")
    return text_in(object_in(error).get("message")) or text_in(error) or ("error" if error else "")


READER = Reader("openai", request, answer, assembled, text, is_end, has_end, failure)
