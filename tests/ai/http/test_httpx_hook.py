"""Clients on httpx2 and httpx: real ones, over real HTTP, against a scripted model."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

import holdfast as hf
from holdfast import ai
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn

from .shown import shown_text

HELLO: Any = [{"role": "user", "content": "hello"}]
QUICK = hf.RetryPolicy(initial_interval=0.001, max_attempts=3)
service = hf.Service("Ask", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=20))
caught: list[Exception] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    caught.clear()


def openai_client(url: str, **options: Any) -> openai.AsyncOpenAI:
    client = ai.http_client(timeout=30)
    return openai.AsyncOpenAI(base_url=url, api_key="any", http_client=client, **options)


async def say(url: str) -> str:
    async with openai_client(url) as client:
        answer = await client.chat.completions.create(model="m", messages=HELLO)
    return answer.choices[0].message.content or ""


@service.handler
async def plain(ctx: hf.Context, url: str) -> str:
    return await say(url)


@service.handler
async def limited(ctx: hf.Context, url: str) -> str:
    """With a policy that is used up; what the client then raises is told."""
    try:
        with ai.agent_scope("a", ai.Options(model_retry=QUICK)):
            return await say(url)
    except openai.APIError as error:
        caught.append(error)
        await ctx.run("note", str, "x")
        return type(error).__name__


@service.handler
async def refused(ctx: hf.Context, url: str) -> str:
    client = ai.http_client()
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any", http_client=client) as any_:
        message: Any = await any_.messages.create(model="nobody", max_tokens=9, messages=HELLO)
    return str(message)


@service.handler
async def streaming(ctx: hf.Context, url: str) -> list[str]:
    async with openai_client(url) as client:
        stream = await client.chat.completions.create(model="m", messages=HELLO, stream=True)
        return [
            chunk.choices[0].delta.content or ""
            async for chunk in stream
            if chunk.choices and chunk.choices[0].delta.content
        ]


@service.handler
async def in_a_step(ctx: hf.Context, url: str) -> str:
    return await ctx.run("ask", say, url)


@service.handler
async def large(ctx: hf.Context, url: str) -> int:
    async with ai.http_client() as client:
        body = {"model": "m", "messages": HELLO}
        async with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            sizes = [len(chunk) async for chunk in response.aiter_raw()]
    assert max(sizes) <= 4096
    return sum(sizes)


@service.handler
async def older(ctx: hf.Context, url: str) -> str:
    async with ai.http_client("httpx") as client:
        body = {"model": "m", "messages": HELLO}
        response = await client.post(f"{url}/chat/completions", json=body)
        response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


async def elsewhere(url: str) -> int:
    async with ai.http_client() as client:
        response = await client.get(f"{url}/models")
        posted = await client.post(f"{url}/moderations", json={"model": "m"})
    return int(response.status_code) + int(posted.status_code)


@service.handler
async def other_requests(ctx: hf.Context, url: str) -> int:
    return await ctx.run("fetch", elsewhere, url)


app = hf.App(service)


@pytest.mark.parametrize("handler", [plain, older])
async def test_the_answer_is_recorded_once(handler: Any, model: ScriptedModel) -> None:
    model.scenario("m", ["hi"])
    async with environment(app) as env:
        env.crash_at("after:step")
        assert await env.client.call(handler, model.url) == "hi"
    assert len(model.calls("m")) == 1


async def test_retries_are_in_one_place(model: ScriptedModel) -> None:
    """The client would try three times by itself; three attempts are three requests."""
    model.scenario("m", [Turn(text="hi", faults=(Fault(status=503),) * 20)])
    async with environment(app) as env:
        env.crash_at("after:note")
        assert await env.client.call(limited, model.url) == "InternalServerError"
    assert len(model.calls("m")) == 3
    first, again = caught
    assert isinstance(first, openai.InternalServerError)
    assert isinstance(again, openai.InternalServerError)
    assert str(first) == str(again)
    assert "scripted fault" in str(first)


async def test_a_connection_that_fails_for_good(model: ScriptedModel) -> None:
    """The client tries again, and is told the same without another request."""
    model.scenario("m", [Turn(text="hi", faults=(Fault(drop=True),) * 20)])
    async with environment(app) as env:
        env.crash_at("after:note")
        assert await env.client.call(limited, model.url) == "APIConnectionError"
    assert len(model.calls("m")) == 3
    assert len(caught) == 2


async def test_what_passes_is_tried_again(model: ScriptedModel) -> None:
    faults = (Fault(status=429, retry_after_s=300), Fault(status=500), Fault(drop=True))
    model.scenario("m", [Turn(text="at last", faults=faults)])
    async with environment(app) as env:
        begun = env.now
        assert await env.client.call(plain, model.url) == "at last"
        assert (env.now - begun).total_seconds() >= 300
    assert len(model.calls("m")) == 4


async def test_a_hopeless_request_ends_the_invocation(model: ScriptedModel) -> None:
    async with environment(app) as env:
        with pytest.raises(hf.TerminalError, match=r"NotFoundError: .*no scenario"):
            await env.client.call(refused, model.root_url)


async def test_text_goes_to_the_stream_and_the_answer_to_the_handler(
    model: ScriptedModel,
) -> None:
    """A stream that breaks is begun again: readers are told to forget what the lost one wrote."""
    text = "one two three four"
    faults = (Fault(drop_after_events=4),)
    model.scenario("m", [Turn(text=text, event_delay_s=0.005, faults=faults)])
    async with environment(app) as env:
        env.crash_at("after:step")
        sent = await env.client.send(streaming, model.url)
        pieces = await env.client.attach(sent.invocation_id, type=list[str])
        assert "".join(pieces) == text
        shown = await shown_text(env, sent.invocation_id)
    assert shown == text
    assert len(model.calls("m")) == 2


async def test_in_a_step_it_observes(model: ScriptedModel) -> None:
    """The step is what is recorded; the request is what it is described by."""
    model.scenario("m", ["hi"])
    async with environment(app) as env:
        sent = await env.client.send(in_a_step, model.url)
        assert await env.client.attach(sent.invocation_id, type=str) == "hi"
        assert await env.steps(sent.invocation_id) == ["ask"]
        (detail,) = await env._host.details.of(sent.invocation_id)
    call = detail.row.call
    assert isinstance(call, hf.ModelCall)
    assert (call.provider, call.request_model, call.response_model) == ("openai", "m", "m")
    assert call.usage.output == 1
    assert call.finish_reasons == ["stop"]


async def test_calls_are_described(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="hi there", faults=(Fault(status=503),))])
    async with environment(app) as env:
        sent = await env.client.send(plain, model.url)
        assert await env.client.attach(sent.invocation_id, type=str) == "hi there"
        details = await env._host.details.of(sent.invocation_id)
        contents = await env._host.details.contents(details)
    calls: list[Any] = [detail.row.call for detail in details]
    assert sorted("503" in call.error for call in calls) == [False, True]
    assert all(b'"hello"' in content.messages[0] for content in contents)


async def test_recorded_bodies_come_in_small_pieces(model: ScriptedModel) -> None:
    model.scenario("m", ["x" * 20_000])
    async with environment(app) as env:
        env.crash_at("after:step")
        assert await env.client.call(large, model.url) > 20_000
    assert len(model.calls("m")) == 1


async def test_other_requests_pass(model: ScriptedModel) -> None:
    async with environment(app) as env:
        sent = await env.client.send(other_requests, model.url)
        assert await env.client.attach(sent.invocation_id, type=int) == 200 + 404
        assert await env._host.details.of(sent.invocation_id) == ()


async def test_a_cancelled_call_closes_its_connection(model: ScriptedModel) -> None:
    """Also in the middle of a stream, and past the client's own `except Exception`."""
    model.scenario("m", [Turn(text="a b c d", event_delay_s=20)])
    async with hf.embedded(app, store="memory:") as client:
        for handler in (streaming, plain):
            sent = await client.send(handler, model.url)
            number = len(model.calls("m")) + 1
            if handler is plain:
                model.scenario("m", [Turn(text="late", delay_s=60)])
            await asyncio.to_thread(model.wait_for_calls, "m", number)
            await client.cancel(sent.invocation_id)
            await asyncio.to_thread(model.wait_for_hang_ups, "m", number, timeout_s=20)
            with pytest.raises(hf.TerminalError, match="cancelled") as ended:
                await client.attach(sent.invocation_id)
            assert ended.value.code == 409
            assert len(model.calls("m")) == number


async def test_outside_of_handlers_it_says_so(
    model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.scenario("m", ["hi"])
    with caplog.at_level(logging.WARNING, "holdfast.ai"):
        for _ in range(2):
            async with openai_client(model.url) as client:
                answer = await client.chat.completions.create(model="m", messages=HELLO)
                assert answer.choices[0].message.content == "hi"
    said = [record.getMessage() for record in caplog.records if record.name == "holdfast.ai"]
    assert len(said) == 1
    assert "A model call runs outside of a durable handler" in said[0]


async def test_clients_of_both_libraries() -> None:
    async with ai.http_client() as newer, ai.http_client("httpx") as older:
        assert isinstance(newer, httpx2.AsyncClient)
        assert isinstance(older, httpx.AsyncClient)
        assert newer.follow_redirects
    with pytest.raises(hf.UsageError) as unknown:
        ai.http_client("urllib9")  # type: ignore[arg-type]
    assert unknown.value.code == "HF0600"
