"""Embeddings of OpenAI and Gemini. The vectors are not shown: they are no use to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from holdfast.ai.provider.json_value import (
    JsonObject,
    count_in,
    object_in,
    objects_in,
    rest_of,
    text_in,
)
from holdfast.ai.provider.reader import Reader, always, never, no_text
from holdfast.ai.provider.sse import Event
from holdfast.domain.detail import ModelCall, TokenUsage


def request(body: JsonObject) -> ModelCall:
    """Read a request."""
    given = body.get("input")
    if given is None:
        given = list(objects_in(body.get("requests"))) or body.get("content")
    texts = cast("list[object]", given) if isinstance(given, list) else [given]
    return ModelCall(
        provider="openai",
        request_model=text_in(body.get("model")),
        operation="embeddings",
        settings=rest_of(body, "model", "input", "requests", "content"),
        messages=[{"role": "user", "content": text} for text in texts],
    )


def answer(call: ModelCall, body: JsonObject) -> ModelCall:
    """Add an answer."""
    usage = object_in(body.get("usage"))
    return msgspec.structs.replace(
        call,
        response_model=text_in(body.get("model")),
        usage=TokenUsage(input=count_in(usage.get("prompt_tokens"))),
    )


def assembled(_: Sequence[Event]) -> JsonObject:
    """Return nothing: embeddings are not streamed."""
    return {}


READER = Reader("openai", request, answer, assembled, no_text, never, always, no_text)
