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
from holdfast.client import Chunk, InvocationStream, Replaced, Sent


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


def find_out(key: str, number: int) -> hf.Happened[str] | hf.NotHappened:
    return hf.Happened(key) if number else hf.NotHappened()


async def find_out_soon(key: str, number: int) -> hf.Happened[str]:
    return hf.Happened(key)


def soon(city: str) -> Awaitable[int]:
    return asyncio.sleep(0, 1)


async def steps(ctx: hf.Context) -> None:
    assert_type(await ctx.run("soon", soon, "Bern"), int)
    assert_type(await ctx.run("fetch", fetch, "Bern", days=2), list[float])
    assert_type(await ctx.run("compute", compute, 3, retry=hf.RetryPolicy()), str)
    assert_type(await ctx.run("lambda", lambda: fetch("Bern")), list[float])
    assert_type(await ctx.run("once", compute, 3, on_unknown="fail"), str)
    assert_type(await ctx.run("asked", compute, 3, on_unknown="ask"), str)
    assert_type(await ctx.run("found", compute, 3, on_unknown=find_out), str)
    assert_type(await ctx.run("found", compute, 3, on_unknown=find_out_soon), str)
    ctx.run("typo", compute, 3, on_unknown="verify")  # type: ignore[call-overload]
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
    assert_type(await ctx.call(ask, Prompt("hi"), retry=hf.RetryPolicy(max_duration=60)), Answer)
    assert_type(await ctx.send(say, "hi", key="k", at=datetime.now().astimezone()), str)
    print(await ctx.call(ask, Prompt("hi")))  # where anything goes, too
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
    ctx.set("a", 1, ttl=timedelta(minutes=5))
    ctx.set("a", 1, ttl="5m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
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
    assert_type(await client.call(ping, retry=hf.RetryPolicy()), str)
    stream = client.stream(ask, Prompt("hi"))
    assert_type(stream, InvocationStream[Answer])
    assert_type(await stream.result(), Answer)
    async for event in stream:
        assert_type(event, Chunk | Replaced)
    client.stream(ask, 3)  # type: ignore[misc]
    assert_type(client.read_stream("inv_1"), InvocationStream[Any])
    assert_type(sync.send(ping, at=datetime.now().astimezone(), retry=hf.RetryPolicy()), Sent)
    await client.call(say, 3, key="k")  # type: ignore[misc]


@service.handler(
    retry=hf.RetryPolicy(max_duration=timedelta(hours=1)),
    journal_retention=3,
    idempotency_retention=timedelta(days=2),
    inactivity_timeout=1.5,
    abort_timeout=1,
    invocation_timeout=timedelta(minutes=1),
    concurrency=5,
    lazy_state=True,
    private=True,
    metadata={"team": "a"},
    documentation="Does much.",
)
async def optioned(ctx: hf.Context, prompt: Prompt) -> Answer:
    raise hf.RetryableError("later", delay=timedelta(seconds=3))


assert_type(optioned, hf.Handler[Prompt, Answer])
hf.Service("T", concurrency=3, metadata=None)
hf.Service("T", concurrency="3")  # type: ignore[arg-type]
hf.VirtualObject("T", concurency=3)  # type: ignore[call-arg]
service.handler(timeout=3)  # type: ignore[call-overload]


@service.handler
def blocking(ctx: hf.SyncContext, prompt: Prompt) -> Answer:
    assert_type(ctx.run("compute", compute, 3, retry=hf.RetryPolicy()), str)
    assert_type(ctx.run("fetch", fetch, "Bern"), list[float])
    assert_type(ctx.call(ask, prompt), Answer)
    assert_type(ctx.call(say, "hi", key="k"), int)
    assert_type(ctx.send(ask, prompt, delay=3), str)
    assert_type(ctx.get("n", type=int), int | None)
    assert_type(ctx.do(lambda c: c.call(ping)), str)
    assert_type(ctx.uuid(), UUID)
    assert_type(ctx.patched("a"), bool)
    assert_type(ctx.now(), datetime)
    return Answer("")


@chat.shared(private=True)
def blocking_too(ctx: hf.SyncContext) -> list[str]:
    return []


@hf.Workflow("BlockingFlow").main
def blocking_main(ctx: hf.SyncContext, prompt: Prompt) -> int:
    return 1


assert_type(blocking, hf.Handler[Prompt, Answer])
assert_type(blocking_main, hf.Handler[Prompt, int])
assert_type(blocking_too, hf.Handler[None, list[str]])


@service.handler  # type: ignore[arg-type]
def synchronous(ctx: hf.Context) -> str:
    return ""


app = hf.App(service, chat, deployment_name="d")
assert_type(app, hf.App)


signup = hf.Workflow("Signup", workflow_retention=timedelta(days=7), private=True)


@signup.main
async def sign_up(ctx: hf.Context, prompt: Prompt) -> Answer:
    promise = ctx.promise("confirmed", Answer)
    assert_type(promise, hf.Promise[Answer])
    assert_type(await promise.value(), Answer)
    assert_type(await promise.peek(), Answer | None)
    assert_type(await promise.resolve(Answer("a")), None)
    assert_type(await promise.reject("no", code=400), None)
    assert_type(await asyncio.gather(promise.value(), promise.peek()), tuple[Answer, Answer | None])
    assert_type(await ctx.promise("untyped").value(), Any)
    promise.resolve(1)  # type: ignore[arg-type]
    return Answer(ctx.key)


@signup.handler(name="confirm", retry=hf.RetryPolicy())
async def confirm_it(ctx: hf.Context) -> bool:
    assert_type(await ctx.call(sign_up, Prompt("a"), key="k"), Answer)
    return True


assert_type(sign_up, hf.Handler[Prompt, Answer])
assert_type(confirm_it, hf.Handler[None, bool])
hf.App(signup)
hf.Service("S", workflow_retention=1)  # type: ignore[call-arg]


@signup.handler(workflow_retention=1)  # type: ignore[call-overload, untyped-decorator]
async def wrong_option(ctx: hf.Context) -> None: ...


async def in_a_test() -> None:
    async with hf.testing.environment(app, always_replay=True) as env:
        assert_type(env, hf.testing.Environment)
        assert_type(env.now, datetime)
        assert_type(await env.client.call(sign_up, Prompt("a"), key="k"), Answer)
        assert_type(await env.advance(timedelta(days=1)), None)
        recording = await env.recording("inv_1")
        assert_type((await hf.testing.replay(recording, app)).is_ok, bool)
        env.crash_at("after:step", evry=True)  # type: ignore[call-arg]


def gate(ctx: hf.Context) -> None:
    assert_type(ctx.patched("v2"), bool)


@service.handler
async def early_ends(ctx: hf.Context, invocation_id: str) -> None:
    winner = await hf.race(ctx.sleep(1), ctx.call(sign_up, Prompt("a"), key="k"))
    assert_type(winner, hf.Winner[Answer | None])
    three = await hf.race(ctx.run("a", len, "a"), ctx.signal("b", str), ctx.awakeable(bytes))
    assert_type(three.value, int | str | bytes)
    assert_type(three.index, int)
    assert_type((await hf.race(*[ctx.signal("a", int)])).value, int)
    async with hf.saga() as saga:
        assert_type(saga, hf.Saga)
        saga.compensate(len, "a", name="undo", retry=hf.RetryPolicy(max_attempts=3))
        saga.compensate("len")  # type: ignore[arg-type]
    assert_type(await ctx.signal("n", Answer), Answer)
    assert_type(await ctx.signal("n"), Any)
    await ctx.send_signal(invocation_id, "n", Answer("a"))
    await ctx.reject_signal(invocation_id, "n", "no")
    known = hf.invocation(sign_up, key="k")
    assert_type(known, hf.Invocation[Answer])
    assert_type(await ctx.attach(known), Answer)
    assert_type(await ctx.output(known), Answer | None)
    assert_type(await ctx.output(invocation_id, type=int), int | None)
    assert_type(await ctx.output(invocation_id), Any)


async def early_ends_outside(client: hf.Client, sync: hf.SyncClient) -> None:
    known = hf.invocation(sign_up, key="k")
    assert_type(await client.attach(known), Answer)
    assert_type(await client.output(known), Answer | None)
    assert_type(sync.attach(known), Answer)
    assert_type(sync.output(known), Answer | None)
    await client.signal(known, "n", 1)
    sync.reject_signal(known, "n", "no")
