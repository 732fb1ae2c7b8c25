"""What is shown of a model call: its request and its answer, as far as the SDK knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from agents import FunctionTool, Model, ModelResponse, OpenAIChatCompletionsModel
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.openai_responses import OpenAIResponsesModel
from pydantic import BaseModel

from holdfast.domain.detail import ModelCall, TokenUsage

if TYPE_CHECKING:
    from agents.items import TResponseStreamEvent

_PARAMETERS = ("system_instructions", "input", "model_settings", "tools", "output_schema")
"""Of `Model.get_response`, in their order."""
_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")


def named(positional: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a model call by name."""
    return {**dict(zip(_PARAMETERS, positional, strict=False)), **given}


def describe_call(model: Model, given: Mapping[str, Any], *, is_streamed: bool) -> ModelCall:
    """Return what is known of a call before it is made."""
    settings: Any = given.get("model_settings")
    return ModelCall(
        provider="openai" if isinstance(model, _OPENAI_MODELS) else "",
        request_model=str(getattr(model, "model", "")),
        settings={} if settings is None else _chosen(settings),
        messages=[*_tools(given.get("tools") or ()), *_messages(given)],
        is_streamed=is_streamed,
    )


_OPENAI_MODELS = (OpenAIResponsesModel, OpenAIChatCompletionsModel)


def describe_answer(call: ModelCall, answer: ModelResponse) -> ModelCall:
    """Return what is known of a call with its answer."""
    return _answered(call, answer.response_id, answer.output, answer.usage)


def describe_events(call: ModelCall, events: list[TResponseStreamEvent]) -> ModelCall:
    """Return what is known of a call with the events of its answer."""
    for event in reversed(events):
        if event.type in _LAST_EVENTS:
            response: Any = cast("Any", event).response
            found = _answered(call, response.id, response.output, response.usage)
            return msgspec.structs.replace(found, response_model=str(response.model or ""))
    return call


def _answered(call: ModelCall, response_id: str | None, output: list[Any], usage: Any) -> ModelCall:
    items = [_plain(item) for item in output]
    calls = [
        {"id": item.get("call_id"), "name": item.get("name"), "arguments": item.get("arguments")}
        for item in items
        if item.get("type") == "function_call"
    ]
    # Streams of the chat API have none, and the SDK makes one up.
    known = "" if response_id in (None, FAKE_RESPONSES_ID) else response_id
    return msgspec.structs.replace(
        call, response_id=known, answer=items, tool_calls=calls, usage=_usage(usage)
    )


def _usage(usage: Any) -> TokenUsage:
    if usage is None:
        return TokenUsage()
    return TokenUsage(
        input=usage.input_tokens,
        output=usage.output_tokens,
        cached_input=getattr(usage.input_tokens_details, "cached_tokens", None),
        reasoning=getattr(usage.output_tokens_details, "reasoning_tokens", None),
    )


def _chosen(settings: Any) -> dict[str, Any]:
    fields = cast("dict[str, Any]", vars(settings))
    return {
        name: value for name, value in fields.items() if isinstance(value, str | int | float | bool)
    }


def _tools(tools: Sequence[Any]) -> list[Any]:
    return [
        {"kind": "tool", "name": tool.name, "schema": tool.params_json_schema}
        if isinstance(tool, FunctionTool)
        else {"kind": "tool", "name": str(tool.name)}
        for tool in tools
    ]


def _messages(given: Mapping[str, Any]) -> list[Any]:
    system, said = given.get("system_instructions"), given.get("input")
    first = [{"role": "system", "content": system}] if system else []
    if isinstance(said, str):
        return [*first, {"role": "user", "content": said}]
    return [*first, *(_plain(item) for item in said or ())]


def _plain(item: Any) -> Any:
    if isinstance(item, BaseModel):
        return item.model_dump(mode="json", exclude_unset=True, warnings=False)
    return item
