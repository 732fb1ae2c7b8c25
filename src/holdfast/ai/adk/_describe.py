"""What is shown of the kit's model calls: to operators, and to readers of the durable stream."""

from __future__ import annotations

from typing import Any

import msgspec
from google.adk.models import BaseLlm, Gemini
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.genai import types
from pydantic import BaseModel

import holdfast.chunk
from holdfast.ai.guard import warn_once, whereabouts
from holdfast.domain.detail import ModelCall, TokenUsage
from holdfast.domain.errors import UsageError
from holdfast.sdk.verb_stream import emit

_SHOWN_ELSEWHERE = {"system_instruction", "tools", "http_options", "labels"}
_AGENT = "adk_agent_name"
"""The label by which the kit names the agent in a request."""


def describe(
    model: BaseLlm,
    request: LlmRequest,
    responses: list[LlmResponse] | None,
    *,
    is_streamed: bool,
) -> ModelCall:
    """Return what is shown of a call, with the answer or, if it failed, without."""
    # As any: parts of its types come from libraries that need not be there.
    config: Any = request.config
    given: list[object] = config.tools or []
    tools = [_json(tool) for tool in given if isinstance(tool, BaseModel)]
    system: object = config.system_instruction
    messages = [{"role": "system", "parts": [{"text": system}]}] if isinstance(system, str) else []
    call = ModelCall(
        provider="gcp.gemini" if isinstance(model, Gemini) else type(model).__name__,
        request_model=request.model or model.model,
        operation="generate_content",
        settings=config.model_dump(mode="json", exclude_none=True, exclude=_SHOWN_ELSEWHERE),
        messages=[
            *messages,
            *({"kind": "tool", **tool} for tool in tools),
            *(_json(content) for content in request.contents),
        ],
        agent_name=str(config.labels[_AGENT]) if config.labels and _AGENT in config.labels else "",
        is_streamed=is_streamed,
    )
    whole = [response for response in responses or () if not response.partial]
    return _answered(call, whole[-1]) if whole else call


def _answered(call: ModelCall, response: LlmResponse) -> ModelCall:
    reason = response.finish_reason
    return msgspec.structs.replace(
        call,
        response_model=response.model_version or "",
        answer=_json(response.content) if response.content else None,
        tool_calls=[
            {"id": called.id or "", "name": called.name or "", "arguments": called.args}
            for part in _parts(response)
            if (called := part.function_call)
        ],
        usage=_usage(response.usage_metadata),
        finish_reasons=[reason.value] if reason else [],
    )


def _usage(given: types.GenerateContentResponseUsageMetadata | None) -> TokenUsage:
    if given is None:
        return TokenUsage()
    said, thought = given.candidates_token_count, given.thoughts_token_count
    return TokenUsage(
        input=given.prompt_token_count,
        cached_input=given.cached_content_token_count,
        # What was thought is counted apart there; with us it is part of the sum.
        output=None if said is None and thought is None else (said or 0) + (thought or 0),
        reasoning=thought,
    )


def show(response: LlmResponse, stream: str | None) -> None:
    """Put the text of a piece of an answer into the durable stream of the invocation."""
    if stream is None or not response.partial or whereabouts() != "step":
        return
    for part in _parts(response):
        if part.text:
            chunk = (holdfast.chunk.Reasoning if part.thought else holdfast.chunk.Text)(part.text)
            try:
                emit(chunk, stream=stream)
            except UsageError as error:
                # Readers miss something; the call goes on, and its result is what counts.
                warn_once("text of a model could not be put into the stream: %s", error.message)


def _parts(response: LlmResponse) -> list[types.Part]:
    return (response.content and response.content.parts) or []


def _json(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", exclude_none=True)
