"""Every primitive of our SDK, as services that any server of the protocol can run."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import holdfast as hf

calls: Counter[str] = Counter()
"""How often things happened in this process, by name."""
seen: dict[str, Any] = {}
"""What handlers leave for the test to look at."""

LOG = os.environ.get("PRIMITIVE_LOG", "")


def note(text: str) -> str:
    """Happen, visibly: also for another process."""
    calls[text] += 1
    if LOG:
        with Path(LOG).open("a") as file:
            file.write(f"{text}\n")
    return text


steps = hf.Service("Steps", metadata={"team": "compat"})


@steps.handler
async def greet(ctx: hf.Context, name: str) -> str:
    return f"Hello {name}"


@steps.handler
async def headers(ctx: hf.Context) -> dict[str, str]:
    return dict(ctx.headers)


@steps.handler
async def count(ctx: hf.Context, number: int) -> list[str]:
    return [await ctx.run(f"step/{n}", note, f"{ctx.id} {n}") for n in range(number)]


@steps.handler
async def together(ctx: hf.Context, number: int) -> list[int]:
    async def branch(n: int) -> int:
        first = await ctx.run("double", lambda: n * 2)
        await asyncio.sleep(0.001 * (n % 3))
        return first + await ctx.call(square, n)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(n)) for n in range(number)]
    return [task.result() for task in tasks]


@steps.handler
async def square(ctx: hf.Context, number: int) -> int:
    return number * number


@steps.handler
async def nap(ctx: hf.Context) -> str:
    await ctx.sleep(timedelta(milliseconds=20))
    await asyncio.sleep(0.02)
    try:
        async with asyncio.timeout(0.02):
            await ctx.awakeable()
    except TimeoutError:
        return "timed out"
    return "answered"


@steps.handler(retry=hf.RetryPolicy(initial_interval=0.01))
async def clock(ctx: hf.Context, name: str) -> list[float]:
    """Read the clock in many ways; each attempt must read the same."""
    loop = asyncio.get_running_loop()
    times = [ctx.now().timestamp(), loop.time(), ctx.now().timestamp()]
    await ctx.sleep(0.01)
    times += [ctx.now().timestamp(), loop.time()]
    await ctx.run("wait", asyncio.sleep, 0.02)
    times += [ctx.now().timestamp(), loop.time()]
    seen.setdefault(name, []).append(times)
    await asyncio.sleep(0.01)
    if len(seen[name]) < 3:
        raise ValueError("once more")
    return times


@steps.handler(retry=hf.RetryPolicy(initial_interval=0.01))
async def random(ctx: hf.Context, name: str) -> list[str]:
    numbers = [str(ctx.random.random()), str(ctx.uuid())]
    seen.setdefault(name, []).append(numbers)
    await ctx.sleep(0.001)
    if len(seen[name]) < 2:
        raise ValueError("once more")
    return numbers


@steps.handler(retry=hf.RetryPolicy(initial_interval=0.01))
async def fail_twice(ctx: hf.Context, name: str) -> int:
    note(name)
    if calls[name] < 3:
        raise ValueError(f"attempt {calls[name]}")
    return ctx.attempt


@steps.handler
async def flaky_step(ctx: hf.Context, name: str) -> str:
    """A step that never works, with a policy of its own."""

    def body() -> str:
        raise ValueError(note(name))

    policy = hf.RetryPolicy(max_attempts=3, initial_interval=0.001)
    try:
        return await ctx.run("flaky", body, retry=policy)
    except hf.TerminalError as error:
        return f"gave up: {error.message}"


@steps.handler(retry=hf.RetryPolicy(max_attempts=3, on_max_attempts="kill"))
async def not_ready(ctx: hf.Context, name: str) -> str:
    note(name)
    raise hf.RetryableError("not ready", delay=0.01)


@steps.handler
async def reject(ctx: hf.Context, code: int) -> None:
    raise hf.TerminalError("not today", code=code)


@steps.handler
async def call(ctx: hf.Context, code: int) -> str:
    try:
        await ctx.call(reject, code)
    except hf.TerminalError as error:
        return f"{error.code} {error.message}"
    return "no error"


@steps.handler
async def send_and_attach(ctx: hf.Context, number: int) -> list[Any]:
    later = await ctx.send(square, number, delay=timedelta(milliseconds=10))
    now = await ctx.send(square, number + 1)
    return [await ctx.attach(later, type=int), await ctx.attach(now, type=int)]


@steps.handler
async def wait_for_a_person(ctx: hf.Context, name: str) -> str:
    promise = ctx.awakeable(type=str)
    seen[name] = promise.id
    await ctx.run("ask", note, f"asked {promise.id}")
    return f"they said {await promise}"


@steps.handler
async def answer(ctx: hf.Context, awakeable_id: str) -> None:
    ctx.resolve(awakeable_id, "yes")


@steps.handler
async def listen(ctx: hf.Context, name: str) -> list[str]:
    seen[name] = ctx.id
    return [await ctx.signal("word", str), await ctx.signal("word", str)]


@steps.handler
async def tell(ctx: hf.Context, words: list[str]) -> None:
    for word in words[1:]:
        ctx.send_signal(words[0], "word", word)


@steps.handler
async def compensate(ctx: hf.Context, name: str) -> str:
    seen[name] = ctx.id
    try:
        await ctx.call(sleep_long, name)
    except hf.TerminalError as error:
        await ctx.run("undo", note, f"undone {name}")
        return f"undone after {error.code}"
    return "not cancelled"


@steps.handler
async def sleep_long(ctx: hf.Context, name: str) -> None:
    try:
        await ctx.run("begin", note, f"child of {name} began")
        await ctx.sleep(timedelta(hours=1))
    except hf.TerminalError:
        note(f"child of {name} cancelled")
        raise


@steps.handler
async def cancel_child(ctx: hf.Context, name: str) -> str:
    child = await ctx.send(sleep_long, name)
    await ctx.sleep(0.02)
    ctx.cancel(child)
    try:
        await ctx.attach(child)
    except hf.TerminalError as error:
        return f"{error.code}"
    return "not cancelled"


@steps.handler
async def undo(ctx: hf.Context, name: str) -> str:
    try:
        async with hf.saga() as trip:
            for leg in ("flight", "hotel"):
                await ctx.run(leg, note, f"{name} {leg}")
                trip.compensate(note, f"{name} no {leg}")
            raise hf.TerminalError("no car")
    except hf.TerminalError as error:
        return error.message


@steps.handler
async def first_of(ctx: hf.Context, name: str) -> str:
    quick, slow = ctx.call(square, 3), ctx.call(sleep_long, name)
    winner = await hf.race(quick, slow)
    return f"{winner.index} {winner.value}"


@steps.handler
def blocking(ctx: hf.SyncContext, name: str) -> list[Any]:
    first = ctx.run("first", note, f"{name} blocks")
    ctx.sleep(0.01)
    both = ctx.do(lambda c: asyncio.gather(c.run("a", str, 1), c.run("b", str, 2)))
    return [first, ctx.call(square, 3), *both]


@steps.handler(retry=hf.RetryPolicy(initial_interval=0.01))
async def changed(ctx: hf.Context, name: str) -> list[str]:
    """A program that gets a step before and one behind those it has: after its first attempt."""
    done = []
    if name in seen and ctx.patched("before"):
        done.append(await ctx.run("before", str, "before"))
    done.append(await ctx.run("work", note, f"{ctx.id} work"))
    if name not in seen:
        seen[name] = "changed"
        raise ValueError("the program changes here")
    if ctx.patched("behind"):
        done.append(await ctx.run("behind", str, "behind"))
    return [text.split()[-1] for text in done]


@steps.handler
async def when(ctx: hf.Context) -> float:
    return ctx.now().timestamp()


@steps.handler
async def send_at(ctx: hf.Context, delay_s: float) -> float:
    """Return how late it began."""
    at = ctx.now() + timedelta(seconds=delay_s)
    child = await ctx.send(when, at=at)
    return await ctx.attach(child, type=float) - at.timestamp()


@steps.handler
async def attach_by_key(ctx: hf.Context, name: str) -> list[str]:
    await ctx.send(greet, name, idempotency_key=name)
    greeted = await ctx.attach(hf.invocation(greet, idempotency_key=name))
    return [greeted, await ctx.attach(hf.invocation(run, key=name))]


@steps.handler
async def wander(ctx: hf.Context, name: str) -> None:
    async def body() -> None:
        note(f"{name} wanders")
        try:
            await asyncio.sleep(3600)
        finally:
            note(f"{name} stops")

    await ctx.run("wander", body)


@steps.handler
async def call_with_policy(ctx: hf.Context, name: str) -> str:
    policy = hf.RetryPolicy(max_attempts=2, initial_interval=0.001, on_max_attempts="kill")
    try:
        await ctx.call(fail, name, retry=policy)
    except hf.TerminalError as error:
        return error.message
    return "no error"


@steps.handler
async def fail(ctx: hf.Context, name: str) -> None:
    raise ValueError(note(name))


@steps.handler
async def ours_only(ctx: hf.Context) -> str:
    try:
        ctx.send(square, 1, retry=hf.RetryPolicy(max_attempts=1))
    except hf.UsageError as error:
        return error.code
    return "taken"


@steps.handler
async def half(ctx: hf.Context, number: int) -> list[str]:
    """Steps with waits in between, to be killed in the middle."""
    done = []
    for n in range(number):
        done.append(await ctx.run(f"half {n}", note, f"{ctx.id} half {n}"))
        await ctx.sleep(0.02)
    return done


counter = hf.VirtualObject("Counter")


@counter.handler
async def add(ctx: hf.Context, number: int) -> int:
    value = (await ctx.get("value", type=int) or 0) + number
    ctx.set("value", value)
    return value


@counter.shared
async def get(ctx: hf.Context) -> int:
    return await ctx.get("value", type=int) or 0


@counter.handler
async def empty(ctx: hf.Context) -> list[list[str]]:
    ctx.set("other", b"")
    ctx.clear("value")
    before = await ctx.keys()
    ctx.clear_all()
    return [before, await ctx.keys()]


@counter.handler
async def forget(ctx: hf.Context) -> str:
    try:
        ctx.set("value", 1, ttl=60)
    except hf.UsageError as error:
        return error.code
    return "taken"


@counter.handler
async def lend(ctx: hf.Context) -> list[Any]:
    ctx.set("value", 7, ttl=timedelta(milliseconds=100))
    ctx.set("other", 8, ttl=timedelta(hours=1))
    before = await ctx.get("value", type=int)
    await ctx.sleep(0.11)
    return [before, await ctx.get("value", type=int), await ctx.keys()]


lazy = hf.VirtualObject("Lazy", lazy_state=True)


@lazy.handler
async def bump(ctx: hf.Context) -> list[Any]:
    absent = await ctx.get("absent")
    value = (await ctx.get("value", type=int) or 0) + 1
    ctx.set("value", value)
    return [absent, value, await ctx.keys()]


signup = hf.Workflow("Signup")


@signup.main
async def run(ctx: hf.Context, name: str) -> str:
    ctx.set("name", name)
    clicked = await ctx.promise("clicked", str).value()
    return f"{name} {clicked}"


@signup.handler
async def click(ctx: hf.Context, secret: str) -> str | None:
    name = await ctx.get("name", type=str)
    if name is not None:
        await ctx.promise("clicked", str).resolve(secret)
    return name


app = hf.App(steps, counter, lazy, signup)
