"""Model calls of adapters as durable steps, with a real client over real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

import holdfast as hf
from holdfast import ai
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn

HELLO: Any = [{"role": "user", "content": "hello"}]
QUICK = hf.RetryPolicy(initial_interval=0.001, max_attempts=3)

service = hf.Service("Ask", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=20))
caught: list[Exception] = []


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    caught.clear()
    with ScriptedModel() as server:
        yield server


async def ask(url: str, name: str, options: ai.Options | None = None) -> str:
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        answer = await ai.durable_model_call(
            lambda: client.chat.completions.create(model=name, messages=HELLO),
            encode=lambda answer: answer.model_dump(mode="json", exclude_unset=True),
            decode=ChatCompletion.model_validate,
            options=options,
        )
    return answer.choices[0].message.content or ""


@service.handler
async def plain(ctx: hf.Context, url: str) -> str:
    return await ask(url, "m")


@service.handler
async def catching(ctx: hf.Context, url: str) -> str:
    try:
        with ai.agent_scope("asker", ai.Options(model_retry=QUICK)):
            return await ask(url, "m")
    except openai.APIStatusError as error:
        caught.append(error)
        await ctx.run("note", str, error.status_code)
        return f"caught {type(error).__name__} {error.status_code}"


app = hf.App(service)


async def test_one_call_for_one_answer(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="hi", faults=(Fault(status=503), Fault(status=429)))])
    async with environment(app) as env:
        env.crash_at("after:step")
        assert await env.client.call(plain, model.url) == "hi"
    assert len(model.calls("m")) == 3


async def test_retry_after_is_kept_to(model: ScriptedModel) -> None:
    """In virtual time: the next attempt is no earlier than the provider says."""
    model.scenario("m", [Turn(text="hi", faults=(Fault(status=429, retry_after_s=600),))])
    async with environment(app) as env:
        begun = env.now
        assert await env.client.call(plain, model.url) == "hi"
        assert (env.now - begun).total_seconds() >= 600
    assert len(model.calls("m")) == 2


async def test_a_hopeless_request_ends_the_invocation(model: ScriptedModel) -> None:
    async with environment(app) as env:
        with pytest.raises(hf.TerminalError, match="no scenario"):
            await env.client.call(plain, model.url)
    assert len(model.calls()) == 0


@pytest.mark.parametrize(("faults", "calls"), [((Fault(status=503),) * 9, 3), ((), 0)])
async def test_errors_keep_their_type_at_replay(
    faults: tuple[Fault, ...], calls: int, model: ScriptedModel
) -> None:
    """The first time, and after a crash behind it, when it comes from the journal."""
    if faults:
        model.scenario("m", [Turn(text="hi", faults=faults)])
    name = "InternalServerError 503" if faults else "NotFoundError 404"
    async with environment(app) as env:
        env.crash_at("after:note")
        assert await env.client.call(catching, model.url) == f"caught {name}"
    assert len(model.calls("m")) == calls
    first, again = caught
    assert type(first) is type(again)
    assert str(first) == str(again)
    assert isinstance(first, hf.TerminalError)
    assert isinstance(again, openai.APIStatusError)
    assert first.args == again.args


class Filtered(Exception):
    """What a framework raises about an answer."""


async def test_what_the_answer_decides_is_not_tried_again() -> None:
    tries: list[int] = []
    filtering = hf.Service("Filtering")

    async def call() -> str:
        tries.append(1)
        raise Filtered("not for you")

    @filtering.handler
    async def run(ctx: hf.Context) -> str:
        try:
            return await ai.durable_model_call(call, encode=str, decode=str, final=(Filtered,))
        except Filtered as error:
            return f"{error}"

    async with environment(hf.App(filtering)) as env:
        env.crash_at("after:step")
        assert await env.client.call(run) == "not for you"
    assert len(tries) == 1


async def test_a_cancelled_call_closes_its_connection(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="late", delay_s=60)])
    async with hf.embedded(app, store="memory:") as client:
        sent = await client.send(plain, model.url)
        await asyncio.to_thread(model.wait_for_calls, "m", 1)
        began = asyncio.get_running_loop().time()
        await client.cancel(sent.invocation_id)
        await asyncio.to_thread(model.wait_for_hang_ups, "m", 1, timeout_s=20)
        with pytest.raises(hf.TerminalError) as ended:
            await client.attach(sent.invocation_id)
    assert ended.value.code == 409
    # Generous, for machines that do other things; it takes milliseconds.
    assert asyncio.get_running_loop().time() - began < 10
    assert len(model.calls("m")) == 1


async def test_no_framework_can_catch_a_cancellation(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="late", delay_s=60)])
    swallowing = hf.Service("Swallowing")

    @swallowing.handler
    async def run(ctx: hf.Context, url: str) -> str:
        with ai.agent_scope("a"):
            try:
                return await ask(url, "m")
            except Exception:
                return await ask(url, "other model")

    async with hf.embedded(hf.App(swallowing), store="memory:") as client:
        sent = await client.send(run, model.url)
        await asyncio.to_thread(model.wait_for_calls, "m", 1)
        await client.cancel(sent.invocation_id)
        with pytest.raises(hf.TerminalError, match="cancelled") as ended:
            await client.attach(sent.invocation_id)
    assert ended.value.code == 409
    assert len(model.calls()) == 1


async def test_a_stream_of_events_is_recorded_as_one() -> None:
    opened: list[int] = []
    seen: list[str] = []
    streaming = hf.Service("Streaming")

    async def events() -> AsyncIterator[str]:
        opened.append(1)
        for word in ("a", "b", "c"):
            yield word

    @streaming.handler
    async def run(ctx: hf.Context) -> list[str]:
        return await ai.durable_model_stream(
            events, encode=str.upper, decode=str.lower, on_event=seen.append
        )

    async with environment(hf.App(streaming)) as env:
        env.crash_at("after:step")
        assert await env.client.call(run) == ["a", "b", "c"]
    assert len(opened) == 1
    assert seen == ["a", "b", "c"]


async def test_outside_of_a_handler(model: ScriptedModel) -> None:
    with pytest.raises(hf.UsageError) as refused:
        await ask(model.url, "m")
    assert refused.value.code == "HF0502"
