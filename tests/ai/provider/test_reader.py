"""Readers of the providers' APIs: the same call with and without streaming, and odd bodies."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.ai.provider import anthropic, embedding, gemini, openai_chat, openai_responses
from holdfast.ai.provider.reader import Reader
from holdfast.ai.provider.route import model_request
from holdfast.ai.provider.sse import Event, Scanner, events_in
from holdfast.domain.detail import ModelCall, TokenUsage
from holdfast.testing.scripted_model import ToolCall, Turn, Usage
from holdfast.testing.scripted_model.route import DIALECTS
from holdfast.testing.scripted_model.scenario import Api, ModelRequest

READERS: dict[Api, Reader] = {
    "anthropic": anthropic.READER,
    "chat": openai_chat.READER,
    "gemini": gemini.READER,
    "responses": openai_responses.READER,
}
ALL = [*READERS.values(), embedding.READER]
TURN = Turn(
    text="Let me look, please.",
    tool_calls=(ToolCall("weather", {"city": "Oslo"}), ToolCall("hotel", {"city": "Rome"})),
    usage=Usage(input_tokens=100, output_tokens=20, cached_tokens=30, reasoning_tokens=5),
)


def asked(api: Api) -> ModelRequest:
    return ModelRequest(
        api=api,
        model="m",
        stream=True,
        body={"stream_options": {"include_usage": True}},
        turn_index=0,
        prompt="",
        tool_outputs=(),
        tools=(),
    )


def call_of(reader: Reader) -> ModelCall:
    return ModelCall(provider=reader.provider, request_model="m")


def without_ids(call: ModelCall) -> Any:
    """As JSON, without what is new for every answer and what only one of the ways sends."""
    said = json.loads(msgspec.json.encode(call))
    text = json.dumps([said.get("answer"), said.get("tool_calls")])
    calls = [(tool["name"], tool["arguments"]) for tool in said["tool_calls"]]
    return calls, said["usage"], said["finish_reasons"], "Let me look, please." in text


@pytest.mark.parametrize("api", READERS)
def test_streams_read_like_whole_answers(api: Api) -> None:
    reader, dialect = READERS[api], DIALECTS[api]
    whole: Any = dialect.answer(TURN, asked(api), 0)
    events = events_in("".join(dialect.events(TURN, asked(api), 0)))
    once = reader.answer(call_of(reader), whole)
    streamed = reader.answer(call_of(reader), reader.assembled(events))
    assert without_ids(streamed) == without_ids(once)
    assert once.response_id
    assert once.response_model == "m"
    reasoning = None if api == "anthropic" else 5
    assert once.usage == TokenUsage(input=100, cached_input=30, output=20, reasoning=reasoning)
    assert [call["arguments"] for call in once.tool_calls] == [{"city": "Oslo"}, {"city": "Rome"}]
    assert "".join(map(reader.text, events)) == "Let me look, please."
    assert reader.has_end(events)
    ends = [reader.is_end(event) for event in events]
    assert ends == [False] * (len(ends) - 1) + [api != "gemini"]
    assert not any(map(reader.failure, events))


@pytest.mark.parametrize("api", READERS)
def test_a_cut_stream_is_not_whole(api: Api) -> None:
    reader = READERS[api]
    events = events_in("".join(DIALECTS[api].events(TURN, asked(api), 0)))
    assert not reader.has_end(events[: len(events) // 2])


def test_requests_show_the_whole_prompt_in_order() -> None:
    tool = {"name": "weather"}
    chat = openai_chat.READER.request(
        {"model": "m", "temperature": 0, "tools": [tool], "messages": [{"role": "user"}]}
    )
    assert chat.messages == [{"kind": "tool", "name": "weather"}, {"role": "user"}]
    assert chat.settings == {"temperature": 0}
    message = anthropic.READER.request(
        {"model": "m", "system": "be kind", "max_tokens": 9, "messages": [{"role": "user"}]}
    )
    assert message.messages == [{"role": "system", "content": "be kind"}, {"role": "user"}]
    assert message.settings == {"max_tokens": 9}
    response = openai_responses.READER.request(
        {"model": "m", "instructions": "be kind", "input": "hi", "stream": True}
    )
    assert [item["role"] for item in response.messages] == ["system", "user"]
    assert response.is_streamed
    content = gemini.READER.request(
        {"systemInstruction": {"parts": [{"text": "be kind"}]}, "contents": [{"role": "user"}]}
    )
    assert [item["role"] for item in content.messages] == ["system", "user"]
    vectors = embedding.READER.request({"model": "e", "input": ["a", "b"]})
    assert [item["content"] for item in vectors.messages] == ["a", "b"]


def test_which_requests_are_model_calls() -> None:
    def read(host: str, path: str, body: object) -> tuple[str, str, bool] | None:
        found = model_request("POST", host, path, json.dumps(body).encode())
        if found is None:
            return None
        return found.call.provider, found.call.request_model, found.call.is_streamed

    chat, body = "/v1/chat/completions", {"model": "m"}
    assert read("api.openai.com", chat, body) == ("openai", "m", False)
    assert read("api.groq.com", f"/openai{chat}", body) == ("groq", "m", False)
    assert read("localhost", chat, {"model": "m", "stream": True}) == ("openai", "m", True)
    azure = "/openai/deployments/mine/chat/completions"
    assert read("x.openai.azure.com", azure, {}) == ("azure.ai.openai", "mine", False)
    path = "/v1beta/models/g:streamGenerateContent"
    assert read("generativelanguage.googleapis.com", path, {}) == ("gcp.gemini", "g", True)
    assert read("localhost", "/v1/models/g:batchEmbedContents", {}) == ("gcp.gemini", "g", False)
    vertex = "/v1/projects/p/locations/l/publishers/anthropic/models/c:streamRawPredict"
    found = read("europe-aiplatform.googleapis.com", vertex, {})
    assert found == ("anthropic", "c", True)
    assert read("l.aiplatform.googleapis.com", vertex, {}) == ("gcp.vertex_ai", "c", True)
    assert read("localhost", "/v1/messages", body) == ("anthropic", "m", False)
    # Something else of the same name.
    assert read("api.openai.com", "/v1/threads/t/messages", {"role": "user"}) is None
    assert read("example.com", "/v1/models/g:countTokens", {}) is None
    assert read("example.com", chat, [1]) is None
    assert model_request("GET", "api.openai.com", chat, b"{}") is None
    assert model_request("POST", "api.openai.com", chat, b"\xff{") is None


KEYS = re.split(
    r"\s+",
    """id model usage choices message delta tool_calls function arguments index content parts text
    candidates finishReason usageMetadata output type call_id response error input messages tools
    content_block partial_json name role system instructions contents requests stop_reason""",
)
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
BODIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
NAMES = st.sampled_from(
    [
        *("", "error", "message_start", "content_block_start", "content_block_delta"),
        *("message_delta", "response.output_item.done", "response.completed"),
    ]
)


@given(BODIES, st.lists(st.tuples(NAMES, BODIES), max_size=4))
def test_odd_bodies_raise_nothing(body: Any, said: list[tuple[str, Any]]) -> None:
    events = [Event(name, json.dumps({"type": name, **data})) for name, data in said]
    events.append(Event("", "no JSON"))
    for reader in ALL:
        call = reader.request(body)
        reader.answer(call, body)
        reader.answer(call, reader.assembled(events))
        reader.has_end(events)
        for event in events:
            assert isinstance(reader.text(event), str)
            assert isinstance(reader.failure(event), str)
            reader.is_end(event)


@given(st.integers(1, 7), st.sampled_from(["\n", "\r\n"]))
def test_events_are_found_however_the_bytes_are_cut(size: int, end: str) -> None:
    lines = ["event: a", "data: ä 1", "", ": note", "data: x", "data: y", "", "data: last"]
    content = end.join(lines).encode()
    scanner = Scanner()
    events = [
        event
        for start in range(0, len(content), size)
        for event in scanner.feed(content[start : start + size])
    ]
    assert events == [("a", "ä 1"), ("", "x\ny")]
    assert scanner.close() == [("", "last")]
