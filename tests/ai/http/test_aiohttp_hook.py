"""Clients on aiohttp: what is given to them is a real response of the library."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

import holdfast as hf
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn

from .shown import shown_text

pytestmark = pytest.mark.usefixtures("instrumented")

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
service = hf.Service("Ask", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=20))


async def post(url: str, **options: Any) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", **options) as response,
    ):
        assert response.content_type == "application/json"
        assert str(response.url) == f"{url}/chat/completions"
        answer = await response.json()
        return str(answer["choices"][0]["message"]["content"])


@service.handler
async def plain(ctx: hf.Context, url: str) -> str:
    return await post(url, json=BODY)


@service.handler
async def as_text(ctx: hf.Context, url: str) -> str:
    return await post(url, data=json.dumps(BODY))


@service.handler
async def streaming(ctx: hf.Context, url: str) -> list[int]:
    body = {**BODY, "stream": True}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/chat/completions", json=body) as response,
    ):
        return [len(chunk) async for chunk in response.content.iter_any()]


@service.handler
async def checked(ctx: hf.Context, url: str) -> str:
    body = {**BODY, "model": "nobody"}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        try:
            await session.post(f"{url}/chat/completions", json=body)
        except aiohttp.ClientResponseError as error:
            return f"{error.status} {error.headers['x-should-retry'] if error.headers else ''}"
    return "nothing"


@service.handler
async def in_a_step(ctx: hf.Context, url: str) -> str:
    return await ctx.run("ask", post, url, json=BODY)


app = hf.App(service)


@pytest.mark.parametrize("handler", [plain, as_text])
async def test_the_answer_is_recorded_once(handler: Any, model: ScriptedModel) -> None:
    """Larger than what the library buffers."""
    text = "hi " * 100_000
    faults = (Fault(status=503), Fault(drop=True))
    model.scenario("m", [Turn(text=text, faults=faults)])
    async with environment(app) as env:
        env.crash_at("after:step")
        assert await env.client.call(handler, model.url) == text
    assert len(model.calls("m")) == 3


async def test_streams(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="one two three", faults=(Fault(drop_after_events=2),))])
    async with environment(app) as env:
        env.crash_at("after:step")
        sent = await env.client.send(streaming, model.url)
        assert sum(await env.client.attach(sent.invocation_id, type=list[int])) > 100
        shown = await shown_text(env, sent.invocation_id)
    assert shown == "one two three"
    assert len(model.calls("m")) == 2


async def test_error_statuses_are_raised_as_asked(model: ScriptedModel) -> None:
    async with environment(app) as env:
        assert await env.client.call(checked, model.url) == "404 false"


async def test_in_a_step_it_observes(model: ScriptedModel) -> None:
    model.scenario("m", ["hi"])
    async with environment(app) as env:
        sent = await env.client.send(in_a_step, model.url)
        assert await env.client.attach(sent.invocation_id, type=str) == "hi"
        (detail,) = await env._host.details.of(sent.invocation_id)
    call: Any = detail.row.call
    assert (call.request_model, call.finish_reasons) == ("m", ["stop"])


async def test_a_cancelled_call_closes_its_connection(model: ScriptedModel) -> None:
    model.scenario("m", [Turn(text="late", delay_s=60)])
    async with hf.embedded(app, store="memory:") as client:
        sent = await client.send(plain, model.url)
        await asyncio.to_thread(model.wait_for_calls, "m", 1)
        await client.cancel(sent.invocation_id)
        await asyncio.to_thread(model.wait_for_hang_ups, "m", 1, timeout_s=20)
        with pytest.raises(hf.TerminalError, match="cancelled"):
            await client.attach(sent.invocation_id)
