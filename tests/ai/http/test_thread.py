"""Blocking clients: in handlers that are no `async def`, and in threads below those that are."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import openai
import pytest

import holdfast as hf
from holdfast import ai
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ModelRequest, ScriptedModel, Turn

from .shown import shown_text

service = hf.Service("Ask", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=20))


def say(url: str, what: str, *, stream: bool = False) -> str:
    messages: Any = [{"role": "user", "content": what}]
    client = openai.OpenAI(base_url=url, api_key="any", http_client=ai.sync_http_client())
    with client:
        if stream:
            chunks = client.chat.completions.create(model="m", messages=messages, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        answer = client.chat.completions.create(model="m", messages=messages)
        return answer.choices[0].message.content or ""


def echo(request: ModelRequest) -> Turn:
    return Turn(text=f"{request.prompt} {request.prompt}", faults=(Fault(status=503),))


@service.handler
def blocking(ctx: hf.SyncContext, url: str) -> list[str]:
    return [say(url, "a"), ctx.run("between", str, "x"), say(url, "b", stream=True)]


@service.handler
async def threads(ctx: hf.Context, url: str) -> list[str]:
    """Threads of one branch, in no known order."""
    return await asyncio.gather(*(asyncio.to_thread(say, url, what) for what in ("a", "b", "c")))


@service.handler
async def step(ctx: hf.Context, url: str) -> str:
    return await ctx.run("ask", say, url, "a", stream=True)


@service.handler
async def on_the_loop(ctx: hf.Context, url: str) -> str:
    return say(url, "a")


@service.handler
async def below_a_thread(ctx: hf.Context, url: str) -> str:
    def below() -> str:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, say, url, "a").result()

    return await asyncio.to_thread(below)


app = hf.App(service)


@pytest.mark.parametrize(
    ("handler", "answer", "calls", "crash"),
    [
        (blocking, ["a a", "x", "b b"], 4, "after:step"),
        # A crash among them would lose those that are on their way.
        (threads, ["a a", "b b", "c c"], 6, "before:output"),
    ],
    ids=["sync handler", "threads"],
)
async def test_blocking_clients_are_durable(
    handler: Any, answer: list[str], calls: int, crash: str, model: ScriptedModel
) -> None:
    """Each request fails once and is then recorded; nothing that is recorded is asked again."""
    model.scenario("m", echo)
    async with environment(app) as env:
        env.crash_at(crash, every=True)
        assert await env.client.call(handler, model.url) == answer
    assert len(model.calls("m")) == calls


async def test_threads_and_crashes(model: ScriptedModel) -> None:
    """Wherever it dies, each thread finds its own answer again."""
    model.scenario("m", [lambda request: request.prompt * 2])
    async with environment(app) as env:
        env.crash_at("after:step", every=True)
        assert await env.client.call(threads, model.url) == ["aa", "bb", "cc"]


async def test_in_a_step_it_observes(model: ScriptedModel) -> None:
    model.scenario("m", ["hi there"])
    async with environment(app) as env:
        sent = await env.client.send(step, model.url)
        assert await env.client.attach(sent.invocation_id, type=str) == "hi there"
        (detail,) = await env._host.details.of(sent.invocation_id)
        shown = await shown_text(env, sent.invocation_id)
    call: Any = detail.row.call
    assert call.is_streamed
    assert call.time_to_first_token_ms is not None
    assert shown == "hi there"


@pytest.mark.parametrize(
    ("handler", "why"),
    [(on_the_loop, "on the event loop of an async handler"), (below_a_thread, "thread of its own")],
)
async def test_what_is_not_durable_says_so(
    handler: Any, why: str, model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.scenario("m", ["hi"])
    async with environment(app) as env:
        with caplog.at_level(logging.WARNING, "holdfast.ai"):
            sent = await env.client.send(handler, model.url)
            assert await env.client.attach(sent.invocation_id, type=str) == "hi"
        assert await env.steps(sent.invocation_id) == []
    assert any(why in record.getMessage() for record in caplog.records)


async def test_a_cancellation_reaches_the_thread(model: ScriptedModel) -> None:
    """The thread that waits is freed; its request goes on, as threads cannot be stopped."""
    model.scenario("m", [Turn(text="late", delay_s=5)])
    async with hf.embedded(app, store="memory:") as client:
        sent = await client.send(threads, model.url)
        await asyncio.to_thread(model.wait_for_calls, "m", 3)
        await client.cancel(sent.invocation_id)
        with pytest.raises(hf.TerminalError, match="cancelled"):
            await client.attach(sent.invocation_id)
        model.close()
