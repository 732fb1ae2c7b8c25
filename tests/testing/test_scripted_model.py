"""The scripted model, driven by the real OpenAI client over real HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import ResponseInputParam

from holdfast.testing.scripted_model import (
    Fault,
    ModelRequest,
    ScriptedModel,
    ToolCall,
    Turn,
    Usage,
)

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    """A scripted model that listens, without scenarios."""
    with ScriptedModel() as server:
        yield server


@pytest.fixture
async def client(model: ScriptedModel) -> AsyncIterator[openai.AsyncOpenAI]:
    """The real client, its own retries off."""
    async with openai.AsyncOpenAI(base_url=model.url, api_key="any", max_retries=0) as opened:
        yield opened


async def test_chat_plays_turn_after_turn(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Whole conversation: parallel tool calls, their outputs, a closing text."""
    calls = (ToolCall("get_weather", {"city": "Oslo"}), ToolCall("get_weather", {"city": "Rome"}))
    model.scenario("trip", [Turn(tool_calls=calls), "Pack a coat."])

    first = await client.chat.completions.create(model="trip", messages=HELLO, tools=[TOOL])
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls"
    assert message.content is None
    assert message.tool_calls is not None
    functions = [call.function for call in message.tool_calls if call.type == "function"]
    assert [json.loads(function.arguments) for function in functions] == [
        {"city": "Oslo"},
        {"city": "Rome"},
    ]
    assert len({call.id for call in message.tool_calls}) == 2

    messages: list[ChatCompletionMessageParam] = [*HELLO, message.to_dict()]  # type: ignore[list-item]  # a dump of the message is a message param
    messages += [
        {"role": "tool", "tool_call_id": call.id, "content": "3 degrees"}
        for call in message.tool_calls
    ]
    second = await client.chat.completions.create(model="trip", messages=messages, tools=[TOOL])
    assert second.choices[0].message.content == "Pack a coat."
    assert second.choices[0].finish_reason == "stop"

    arrived = model.calls("trip")
    assert [call.request.turn_index for call in arrived] == [0, 1]
    assert arrived[1].request.tool_outputs == ("3 degrees", "3 degrees")
    assert arrived[1].request.tools == ("get_weather",)
    assert arrived[0].body["model"] == "trip"
    assert 0 < arrived[0].at_ms <= arrived[1].at_ms


async def test_same_request_gets_same_turn_with_new_ids(
    model: ScriptedModel, client: openai.AsyncOpenAI
) -> None:
    """The server keeps no conversation; only ids tell two answers apart."""
    model.scenario("trip", [Turn(tool_calls=(ToolCall("get_weather"),)), "done"])
    answers = [await client.chat.completions.create(model="trip", messages=HELLO) for _ in range(2)]
    calls = [(answer.choices[0].message.tool_calls or [])[0] for answer in answers]
    assert answers[0].id != answers[1].id
    assert calls[0].id != calls[1].id
    assert len(model.calls("trip")) == 2


async def test_chat_stream(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Deltas join to the text and the arguments; usage comes when it is asked for."""
    turn = Turn(
        text="Let me see what I can find.",
        tool_calls=(ToolCall("get_weather", {"city": "São Paulo"}), ToolCall("get_time")),
        usage=Usage(input_tokens=11, output_tokens=7, cached_tokens=3, reasoning_tokens=2),
    )
    model.scenario("trip", [turn])
    text = ""
    arguments = {0: "", 1: ""}
    finish_reasons = []
    usage = None
    stream = await client.chat.completions.create(
        model="trip", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                arguments[call.index] += call.function.arguments or ""
            finish_reasons.append(choice.finish_reason)
    assert text == turn.text
    assert [json.loads(said) for said in arguments.values()] == [{"city": "São Paulo"}, {}]
    assert finish_reasons[-1] == "tool_calls"
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (11, 7)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 3


async def test_responses(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Parallel calls, then a text, in the Responses API."""
    calls = (ToolCall("get_weather", {"city": "Oslo"}), ToolCall("get_weather", {"city": "Rome"}))
    usage = Usage(input_tokens=5, output_tokens=6)
    model.scenario("trip", [Turn(tool_calls=calls, usage=usage), "Pack a coat."])

    first = await client.responses.create(model="trip", input="hello")
    assert [item.type for item in first.output] == ["function_call", "function_call"]
    assert first.usage is not None
    assert first.usage.total_tokens == 11

    given: ResponseInputParam = [{"role": "user", "content": "hello"}]
    for item in first.output:
        assert item.type == "function_call"
        given.append(item.to_dict())  # type: ignore[arg-type]  # a dump of the item is an input item
    for item in first.output:
        assert item.type == "function_call"
        given.append(
            {"type": "function_call_output", "call_id": item.call_id, "output": "3 degrees"}
        )
    second = await client.responses.create(model="trip", input=given)
    assert second.output_text == "Pack a coat."
    assert model.calls("trip")[1].request.tool_outputs == ("3 degrees", "3 degrees")


@pytest.mark.parametrize("stream", [False, True])
async def test_responses_continued_by_id(
    model: ScriptedModel, client: openai.AsyncOpenAI, stream: bool
) -> None:
    """`previous_response_id` is the one thing the server remembers."""
    model.scenario("chat", ["one", "two", "three"])
    previous: str | None = None
    said = []
    for prompt in ("a", "b", "c"):
        if stream:
            async with client.responses.stream(
                model="chat", input=prompt, previous_response_id=previous
            ) as streamed:
                parsed = await streamed.get_final_response()
            previous = parsed.id
            said.append(parsed.output_text)
        else:
            created = await client.responses.create(
                model="chat", input=prompt, previous_response_id=previous
            )
            previous = created.id
            said.append(created.output_text)
    assert said == ["one", "two", "three"]


async def test_responses_stream(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """The client's own accumulator accepts the events and arrives at the same answer."""
    turn = Turn(text="Let me see.", tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),))
    model.scenario("trip", [turn])
    async with client.responses.stream(model="trip", input="hello") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    assert "response.function_call_arguments.delta" in kinds
    assert final.output_text == "Let me see."
    call = final.output[1]
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Oslo"}


async def test_turns_made_from_the_request(
    model: ScriptedModel, client: openai.AsyncOpenAI
) -> None:
    """A turn may be a function, and so may a whole scenario."""

    def ask(request: ModelRequest) -> Turn:
        return Turn(tool_calls=(ToolCall("get_weather", {"city": request.prompt.split()[-1]}),))

    def whole(request: ModelRequest) -> str:
        return f"turn {request.turn_index}, call {request.call_number}: {request.prompt}"

    model.scenario("one", [ask])
    model.scenario("whole", whole)
    asked = await client.responses.create(model="one", input="How is it in Bergen")
    call = asked.output[0]
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"city": "Bergen"}
    await client.responses.create(model="whole", input="x")
    answer = await client.responses.create(model="whole", input="hi")
    assert answer.output_text == "turn 0, call 2: hi"


async def test_status_faults_are_used_up(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """One fault per attempt, then the turn succeeds; the client's own retries see `retry-after`."""
    faults = (Fault(status=429, retry_after_s=0.01), Fault(status=503, retry_after_s=0.01))
    model.scenario("busy", [Turn(text="finally", faults=faults)])
    with pytest.raises(openai.RateLimitError) as limited:
        await client.responses.create(model="busy", input="hello")
    assert limited.value.response.headers["retry-after"] == "0.01"
    assert "scripted fault of turn 1" in str(limited.value)
    with pytest.raises(openai.InternalServerError):
        await client.responses.create(model="busy", input="hello")
    assert (await client.responses.create(model="busy", input="hello")).output_text == "finally"
    retrying = client.with_options(max_retries=2)
    assert (await retrying.responses.create(model="busy", input="other")).output_text == "finally"
    assert len(model.calls("busy")) == 6


async def test_dropped_connections(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """A drop before the answer, and one in the middle of a stream."""
    model.scenario("lost", [Turn(text="a b c d", faults=(Fault(drop=True),))])
    with pytest.raises(openai.APIConnectionError):
        await client.responses.create(model="lost", input="hello")
    assert (await client.responses.create(model="lost", input="hello")).output_text == "a b c d"

    model.scenario("cut", [Turn(text="a b c d", faults=(Fault(drop_after_events=3),))])
    stream = await client.chat.completions.create(model="cut", messages=HELLO, stream=True)
    chunks = aiter(stream)
    for _ in range(3):
        await anext(chunks)
    with pytest.raises(openai.APIConnectionError):
        await anext(chunks)


async def test_delays(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """A slow attempt runs into the client's timeout; the next one does not."""
    model.scenario("slow", [Turn(text="ok", faults=(Fault(delay_s=30),))])
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.05).responses.create(model="slow", input="x")
    assert (await client.responses.create(model="slow", input="x")).output_text == "ok"


async def test_parallel_conversations(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Many conversations share a scenario at the same time."""
    model.scenario("echo", [lambda request: request.prompt])
    answers = await asyncio.gather(
        *(client.responses.create(model="echo", input=f"n {n}") for n in range(30))
    )
    assert [answer.output_text for answer in answers] == [f"n {n}" for n in range(30)]
    assert len(model.calls()) == 30


async def test_clear_errors(model: ScriptedModel, client: openai.AsyncOpenAI) -> None:
    """Whatever the scenario cannot answer is said to the client, and not retried by it."""

    def broken(request: ModelRequest) -> str:
        raise KeyError("no such city")

    model.scenario("known", ["only one"])
    model.scenario("broken", broken)
    with pytest.raises(openai.NotFoundError, match=r"'nobody' has no scenario.*broken, known"):
        await client.responses.create(model="nobody", input="x")
    beyond: list[ChatCompletionMessageParam] = [*HELLO, {"role": "assistant", "content": "a"}]
    with pytest.raises(openai.BadRequestError, match=r"1 turns, but .* turn 2"):
        await client.chat.completions.create(model="known", messages=beyond)
    with pytest.raises(openai.BadRequestError, match="no such city"):
        await client.responses.create(model="broken", input="x")
    with pytest.raises(openai.NotFoundError, match="no such route"):
        await client.moderations.create(input="x")
    assert sorted([found.id async for found in client.models.list()]) == ["broken", "known"]


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
async def test_bad_bodies(client: openai.AsyncOpenAI, body: bytes) -> None:
    """A body that is no JSON object is answered, not crashed on."""
    with pytest.raises(openai.BadRequestError, match="request body is not"):
        await client.post("/responses", content=body, cast_to=object)


async def test_closing_frees_waiting_clients() -> None:
    """A client that waits for a slow answer is cut off, and the port can be used again."""
    async with ScriptedModel({"slow": [Turn(text="late", delay_s=60)]}) as model:
        port = model.port
        client = openai.AsyncOpenAI(base_url=model.url, api_key="any", max_retries=0)
        waiting = asyncio.create_task(client.responses.create(model="slow", input="x"))
        await asyncio.to_thread(model.wait_for_calls, "slow", 1)
    with pytest.raises(openai.APIConnectionError):
        await asyncio.wait_for(waiting, timeout=5)
    with pytest.raises(RuntimeError, match="not started"):
        _ = model.url
    async with ScriptedModel({"slow": ["now"]}, port=port) as again:
        assert again.port == port
        assert (await client.responses.create(model="slow", input="x")).output_text == "now"
    await client.close()


async def test_waiting_for_calls_gives_up(model: ScriptedModel) -> None:
    """Waiting says how far it got."""
    with pytest.raises(TimeoutError, match="0 of 2 calls of 'slow' arrived"):
        await asyncio.to_thread(model.wait_for_calls, "slow", 2, timeout_s=0.01)


def test_turn_must_say_something() -> None:
    """An empty turn is a mistake in the scenario."""
    with pytest.raises(ValueError, match="text, tool calls"):
        Turn()


async def test_command_line(tmp_path: Path) -> None:
    """`python -m` serves a mapping and prints where."""
    (tmp_path / "cli_scenarios.py").write_text("SCENARIOS = {'hi': ['ho']}")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "holdfast.testing.scripted_model", "cli_scenarios:SCENARIOS"),
        stdout=asyncio.subprocess.PIPE,
        env={"PYTHONPATH": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with openai.AsyncOpenAI(base_url=url, api_key="any") as client:
            assert (await client.responses.create(model="hi", input="x")).output_text == "ho"
    finally:
        process.terminate()
        await process.wait()
