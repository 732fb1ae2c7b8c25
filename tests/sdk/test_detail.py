from __future__ import annotations

import asyncio
import json
import logging
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

import holdfast as hf
from holdfast.domain.detail import ModelCall, StepDetail, ToolCall, omit, pack
from holdfast.domain.errors import UsageError
from holdfast.domain.message import Error, FromHandler, ProposeRunCompletion, Value
from holdfast.engine.row import StoredDetail
from holdfast.protocol import frame
from holdfast.protocol.restate.codec import Codec
from holdfast.sdk.price import cost_of
from holdfast.server.detail import Content
from holdfast.testing import environment

CALL = hf.ModelCall(
    provider="openai",
    request_model="gpt-5",
    messages=[{"role": "user", "content": "my name is Ada"}],
    answer={"content": "Hello Ada", "role": "assistant"},
    tool_calls=[{"name": "greet", "arguments": {"who": "Ada"}}],
    settings={"user": "Ada"},
)
trial = hf.Service("Trial")
chosen: list[Any] = []


def say() -> int:
    for call in chosen:
        hf.describe_step(call)
    return 1


async def say_in_a_task() -> int:
    async def below() -> None:
        await asyncio.to_thread(say)

    await asyncio.create_task(below())
    return 1


@trial.handler
async def step(ctx: hf.Context) -> int:
    return await ctx.run("model", say)


@trial.handler
async def task(ctx: hf.Context) -> int:
    return await ctx.run("model", say_in_a_task)


@trial.handler
async def refuse(ctx: hf.Context) -> None:
    def fail() -> None:
        say()
        raise hf.TerminalError("no")

    await ctx.run("model", fail)


@pytest.fixture(autouse=True)
def said() -> list[Any]:
    chosen[:] = [CALL]
    return chosen


async def kept(
    handler: Any = step, **options: Any
) -> tuple[tuple[StoredDetail, ...], list[Content]]:
    """Run a handler; return what it has left behind."""
    async with environment(hf.App(trial, **options)) as env:
        sent = await env.client.send(handler)
        try:
            await env.client.attach(sent.invocation_id)
        except hf.TerminalError:
            assert handler is refuse
        details = env.client._handle.details
        found = await details.of(sent.invocation_id)
        return found, await details.contents(found)


@pytest.mark.parametrize("handler", [step, task, refuse])
async def test_a_step_says_what_it_was(handler: Any) -> None:
    (detail,), (content,) = await kept(handler)
    assert json.loads(content.messages[0]) == CALL.messages[0]
    assert json.loads(content.answer or b"") == CALL.answer
    assert replace(cast("ModelCall", detail.row.call), cost=None) == replace(
        CALL, messages=[], answer=None
    )
    assert not detail.row.is_failed


async def test_the_last_one_counts(said: list[Any]) -> None:
    said.append(hf.ToolCall(name="search", arguments={"q": 1}, result=[2]))
    (detail,), (content,) = await kept()
    assert detail.row.call == ToolCall(name="search")
    assert content == ((b'{"q":1}',), b"[2]")


async def test_a_step_that_says_nothing_leaves_nothing(said: list[Any]) -> None:
    said.clear()
    assert await kept() == ((), [])


def test_outside_of_a_step() -> None:
    with pytest.raises(UsageError, match="HF0610"):
        hf.describe_step(CALL)


@pytest.mark.parametrize(
    "call",
    [
        replace(CALL, messages=[object()]),
        replace(CALL, settings={"a": {1, object()}}),
        replace(CALL, attempts=-1),
        replace(CALL, usage=hf.TokenUsage(input=-5)),
        hf.ToolCall(name="t", result=object()),
    ],
)
async def test_what_cannot_be_recorded_is_refused(said: list[Any], call: Any) -> None:
    refused: list[UsageError] = []

    def describe() -> None:
        with pytest.raises(UsageError, match=r"HF0611") as error:
            hf.describe_step(call)
        refused.append(error.value)

    service = hf.Service("Refused")

    @service.handler
    async def run(ctx: hf.Context) -> None:
        await ctx.run("model", describe)

    async with environment(hf.App(service)) as env:
        await env.client.call(run)
    assert "step 'model'" in refused[0].message


async def test_models_of_pydantic_are_messages_too(said: list[Any]) -> None:
    class Message:
        def model_dump(self, **options: Any) -> dict[str, str]:
            assert options["mode"] == "json"
            return {"role": "user"}

    said[:] = [replace(CALL, messages=[Message()])]
    _, (content,) = await kept()
    assert content.messages == (b'{"role":"user"}',)


def test_equal_messages_have_equal_bytes() -> None:
    one = pack(replace(CALL, messages=[{"a": 1, "b": 2}]), hf_encode)
    two = pack(replace(CALL, messages=[{"b": 2, "a": 1}]), hf_encode)
    assert one == two


def hf_encode(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


# -- what is let out -------------------------------------------------------------------------------


async def test_redact_sees_a_call_before_it_leaves() -> None:
    def redact(call: ModelCall | ToolCall) -> ModelCall | ToolCall:
        hidden = json.loads(json.dumps(msgspec.to_builtins(call)).replace("Ada", "[name]"))
        return msgspec.convert(hidden, ModelCall | ToolCall)

    found, (content,) = await kept(redact=redact)
    assert json.loads(content.messages[0]) == {"role": "user", "content": "my name is [name]"}
    assert "Ada" not in f"{found}{content}"


async def test_what_redact_cannot_handle_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    def redact(call: ModelCall | ToolCall) -> ModelCall | ToolCall:
        raise KeyError("x")

    with caplog.at_level(logging.ERROR):
        (detail,), (content,) = await kept(redact=redact)
    assert "redact has failed" in caplog.text
    assert detail.row.omitted == "redaction"
    assert "Ada" not in f"{detail}{content}{caplog.text}"


@pytest.mark.parametrize("way", ["option", "variable"])
async def test_content_may_be_left_out(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"capture_prompts": False} if way == "option" else {}
    monkeypatch.setenv("HOLDFAST_CAPTURE_PROMPTS", "off" if way == "variable" else "on")
    (detail,), (content,) = await kept(**options)
    assert (detail.row.omitted, content) == ("off", ((), None))
    assert cast("ModelCall", detail.row.call).request_model == "gpt-5"
    assert "Ada" not in f"{detail}"


def test_a_variable_that_says_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CAPTURE_PROMPTS", "0")
    with pytest.raises(UsageError, match="HF0612"):
        hf.App(trial)
    assert not hf.App(trial, capture_prompts=False).details.capture_prompts


def test_omitted_tools_keep_their_names_only() -> None:
    tool = hf.ToolCall(name="t", call_id="1", arguments={"a": 1}, result=2)
    assert omit(tool, "off") == StepDetail(ToolCall(name="t", call_id="1"), omitted="off")


# -- on the wire -----------------------------------------------------------------------------------


def test_details_travel_on_the_worker_socket() -> None:
    detail = pack(CALL, hf_encode)
    sent: list[FromHandler] = [ProposeRunCompletion(1, Value(b"1"), detail)]
    assert frame.decode_messages(frame.encode_messages(sent)) == sent


def test_details_do_not_travel_to_other_servers() -> None:
    codec = Codec(6, is_keyed=False)
    bare = codec.encode(ProposeRunCompletion(1, Value(b"1")))
    assert codec.encode(ProposeRunCompletion(1, Value(b"1"), pack(CALL, hf_encode))) == bare
    assert codec.encode(Error(500, "x", failed_steps=(1,))) == codec.encode(Error(500, "x"))


# -- prices ----------------------------------------------------------------------------------------


def priced(model: str, provider: str = "openai", **usage: Any) -> hf.Cost | None:
    call = hf.ModelCall(provider=provider, request_model=model, usage=hf.TokenUsage(**usage))
    return cost_of(call)


async def test_a_call_gets_its_price(said: list[Any]) -> None:
    said[:] = [replace(CALL, usage=hf.TokenUsage(input=1000, output=10))]
    (detail,), _ = await kept()
    cost = cast("ModelCall", detail.row.call).cost
    assert cost is not None
    assert cost.table.startswith("genai-prices ")
    assert float(cost.amount) > 0


async def test_a_price_that_is_said_stays(said: list[Any]) -> None:
    said[:] = [replace(CALL, usage=hf.TokenUsage(input=1000), cost=hf.Cost(amount="7"))]
    (detail,), _ = await kept()
    assert cast("ModelCall", detail.row.call).cost == hf.Cost(amount="7")


def test_cached_tokens_cost_less() -> None:
    whole = priced("gpt-5-mini", input=1000, output=10)
    cached = priced("gpt-5-mini", input=1000, cached_input=900, output=10)
    assert whole is not None
    assert cached is not None
    assert float(cached.amount) < float(whole.amount)


def test_what_is_not_known_has_no_price() -> None:
    assert priced("no-such-model", input=1) is None
    assert priced("gpt-5", provider="nobody", input=1) is None
    assert priced("gpt-5") is None
    assert priced("gpt-5", input=1, cached_input=5) is None
