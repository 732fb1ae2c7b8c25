"""What type checkers see of the SDK. Checked by mypy, never run.

A `type: ignore` here is a demand: strict mode reports those that are not needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

import holdfast as hf
from holdfast.client import Sent


@dataclass
class Prompt:
    text: str


@dataclass
class Answer:
    text: str


service = hf.Service("S")
chat = hf.VirtualObject("Chat", retry=hf.RetryPolicy(max_attempts=3))


@service.handler
async def ask(ctx: hf.Context, prompt: Prompt) -> Answer:
    return Answer(prompt.text)


@service.handler(name="other", retry=hf.RetryPolicy(initial_interval=timedelta(seconds=1)))
async def ping(ctx: hf.Context) -> str:
    return "pong"


@chat.handler
async def say(ctx: hf.Context, text: str) -> int:
    return len(text)


@chat.shared(inactivity_timeout=5)
async def history(ctx: hf.Context) -> list[str]:
    return []


assert_type(ask, hf.Handler[Prompt, Answer])
assert_type(ping, hf.Handler[None, str])
assert_type(say, hf.Handler[str, int])
assert_type(history, hf.Handler[None, list[str]])


async def fetch(city: str, days: int = 1) -> list[float]:
    return []


def compute(number: int) -> str:
    return str(number)


def soon(city: str) -> Awaitable[int]:
    return asyncio.sleep(0, 1)


async def steps(ctx: hf.Context) -> None:
    assert_type(await ctx.run("soon", soon, "Bern"), int)
    assert_type(await ctx.run("fetch", fetch, "Bern", days=2), list[float])
    assert_type(await ctx.run("compute", compute, 3, retry=hf.RetryPolicy()), str)
    assert_type(await ctx.run("lambda", lambda: fetch("Bern")), list[float])
    assert_type(await ctx.sleep(3), None)
    assert_type(await ctx.sleep(timedelta(days=1)), None)
    ctx.run("called", fetch("Bern"))  # type: ignore[call-overload]
    ctx.run(fetch, "Bern")  # type: ignore[call-overload]


async def calls(ctx: hf.Context) -> None:
    assert_type(await ctx.call(ask, Prompt("hi")), Answer)
    assert_type(await ctx.call(ping), str)
    assert_type(await ctx.call(say, "hi", key="k"), int)
    assert_type(await ctx.call(history, key="k"), list[str])
    assert_type(await ctx.call("S/ask", {"text": "hi"}, type=Answer), Answer)
    assert_type(await ctx.call("S/ask", {"text": "hi"}), Any)
    assert_type(await ctx.call(ask, Prompt("hi")).invocation_id, str)
    assert_type(await ctx.send(say, "hi", key="k", delay=3), str)
    ctx.call(ask, "not a prompt")  # type: ignore[misc]
    ctx.call(ask)  # type: ignore[arg-type]
    ctx.send(say, 3, key="k")  # type: ignore[misc]


async def combinators(ctx: hf.Context) -> None:
    assert_type(await asyncio.gather(ctx.run("a", compute, 1), ctx.sleep(1)), tuple[str, None])
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ctx.run("a", compute, 1))
        group.create_task(ctx.call(ask, Prompt("hi")))
    assert_type(task.result(), str)
    assert_type(await asyncio.wait_for(ctx.run("a", compute, 1), 5), str)
    done, _ = await asyncio.wait([ctx.run("a", compute, 1)])
    for future in done:
        assert_type(future.result(), str)
    assert_type(await asyncio.create_task(ctx.run("a", compute, 1)), str)
    assert_type(await asyncio.shield(ctx.run("a", compute, 1)), str)


async def rest(ctx: hf.Context) -> None:
    assert_type(await ctx.get("a", type=int), int | None)
    assert_type(await ctx.keys(), list[str])
    ctx.set("a", 1)
    await ctx.set("a", 1)
    await ctx.clear_all()
    awakeable = ctx.awakeable(type=Answer)
    assert_type(awakeable.id, str)
    assert_type(await awakeable, Answer)
    assert_type(await ctx.attach("inv_1", type=Answer), Answer)
    assert_type(ctx.now(), datetime)
    assert_type(ctx.uuid(), UUID)
    assert_type(ctx.random.random(), float)
    assert_type(hf.current(), hf.Context)
    with ctx.scope("label"):
        pass


async def clients(client: hf.Client, sync: hf.SyncClient) -> None:
    assert_type(await client.call(ask, Prompt("hi")), Answer)
    assert_type(await client.call(history, key="k"), list[str])
    assert_type(await client.send(ping, delay=timedelta(seconds=1)), Sent)
    assert_type(await client.attach("inv_1", type=Answer), Answer)
    assert_type(await client.output("inv_1", type=Answer), Answer | None)
    assert_type(sync.call(say, "hi", key="k"), int)
    assert_type(sync.call("S/ping", type=str), str)
    assert_type(sync.send(say, "hi", key="k"), Sent)
    await client.call(say, 3, key="k")  # type: ignore[misc]


@service.handler  # type: ignore[arg-type]
def synchronous(ctx: hf.Context) -> str:
    return ""


app = hf.App(service, chat, deployment_name="d")
assert_type(app, hf.App)
