"""Services written with Restate's Python SDK, and a listener that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import restate
from restate import (
    Context,
    ObjectContext,
    ObjectSharedContext,
    RunOptions,
    Service,
    TerminalError,
    VirtualObject,
    Workflow,
    WorkflowContext,
    WorkflowSharedContext,
)
from restate.serde import BytesSerde

calls: Counter[str] = Counter()
"""How often things happened, by name."""
seen: dict[str, Any] = {}
"""What handlers leave for the test to look at."""

steps = Service("Steps", metadata={"team": "compat"})


@steps.handler()
async def greet(ctx: Context, name: str) -> str:
    return f"Hello {name}"


@steps.handler()
async def count(ctx: Context, number: int) -> list[int]:
    """Run steps one after the other; each body runs once however often the handler does."""

    def body(n: int) -> int:
        calls[f"count {n}"] += 1
        return n * n

    calls["count"] += 1
    return [await ctx.run_typed(f"step {n}", body, n=n) for n in range(number)]


@steps.handler()
async def together(ctx: Context, number: int) -> list[int]:
    def body(n: int) -> int:
        return n

    futures = [ctx.run_typed(f"step {n}", body, n=n) for n in range(number)]
    futures += [ctx.service_call(square, arg=n) for n in range(number)]
    await restate.gather(*futures)
    return [await future for future in futures]


@steps.handler()
async def square(ctx: Context, number: int) -> int:
    return number * number


@steps.handler()
async def nap(ctx: Context, naps: list[int]) -> list[int]:
    await restate.gather(*(ctx.sleep(timedelta(milliseconds=ms)) for ms in naps))
    calls["nap"] += 1
    return naps


@steps.handler()
async def fail_twice(ctx: Context, name: str) -> int:
    calls[name] += 1
    if calls[name] < 3:
        raise ValueError(f"attempt {calls[name]}")
    return calls[name]


@steps.handler()
async def flaky_step(ctx: Context, name: str) -> str:
    """A step that never works, with a policy of its own."""

    def body() -> str:
        calls[name] += 1
        raise ValueError("no")

    options = RunOptions[str](max_attempts=3, initial_retry_interval=timedelta(milliseconds=1))
    try:
        return await ctx.run_typed("flaky", body, options)
    except TerminalError as error:
        return f"gave up: {error.message}"


@steps.handler()
async def reject(ctx: Context, code: int) -> None:
    raise TerminalError("not today", status_code=code)


@steps.handler()
async def call(ctx: Context, code: int) -> str:
    try:
        await ctx.service_call(reject, arg=code)
    except TerminalError as error:
        return f"{error.status_code} {error.message}"
    return "no error"


@steps.handler(
    accept="application/octet-stream",
    content_type="application/octet-stream",
    input_serde=BytesSerde(),
    output_serde=BytesSerde(),
)
async def bytes_back(ctx: Context, data: bytes) -> bytes:
    return data


@steps.handler()
async def random_numbers(ctx: Context, name: str) -> list[str]:
    numbers = [str(ctx.random().random()), str(ctx.uuid())]
    seen.setdefault(name, []).append(numbers)
    await ctx.sleep(timedelta(milliseconds=1))
    if len(seen[name]) < 3:
        raise ValueError("once more")
    return numbers


@steps.handler()
async def wait_for_a_person(ctx: Context, name: str) -> str:
    awakeable_id, promise = ctx.awakeable()
    seen[name] = awakeable_id
    return f"they said {await promise}"


@steps.handler()
async def answer(ctx: Context, name: str) -> None:
    ctx.resolve_awakeable(seen[name], "yes")


@steps.handler()
async def compensate(ctx: Context, name: str) -> str:
    try:
        seen[name] = ctx.request().id
        await ctx.service_call(sleep_long, arg=name)
    except TerminalError as error:
        await ctx.run_typed("undo", lambda: calls.update([f"undone {name}"]))
        return f"undone after {error.status_code}"
    return "not cancelled"


@steps.handler()
async def sleep_long(ctx: Context, name: str) -> None:
    try:
        await ctx.sleep(timedelta(hours=1))
    except TerminalError:
        calls[f"child of {name} cancelled"] += 1
        raise


counter = VirtualObject("Counter")


@counter.handler()
async def add(ctx: ObjectContext, number: int) -> int:
    value = (await ctx.get("value", type_hint=int) or 0) + number
    ctx.set("value", value)
    return value


@counter.handler(kind="shared")
async def get(ctx: ObjectSharedContext) -> int:
    return await ctx.get("value", type_hint=int) or 0


@counter.handler(kind="shared")
async def keys(ctx: ObjectSharedContext) -> list[str]:
    return await ctx.state_keys()


@counter.handler()
async def empty(ctx: ObjectContext) -> list[str]:
    ctx.set("other", "")
    before = await ctx.state_keys()
    ctx.clear_all()
    return before + await ctx.state_keys()


@counter.handler()
async def add_later(ctx: ObjectContext, number: int) -> str:
    handle = ctx.object_send(add, ctx.key(), arg=number, send_delay=timedelta(milliseconds=10))
    return await handle.invocation_id()


@steps.handler()
async def wander(ctx: Context, name: str) -> str:
    async def body() -> None:
        calls[f"{name} wanders"] += 1
        await asyncio.sleep(3600)

    try:
        await ctx.run_typed("wander", body)
    except TerminalError as error:
        return f"stopped by {error.status_code}"
    return "never"


@steps.handler()
async def add_by_name(ctx: Context, key: str | None) -> Any:
    """Calls an object by its name, which no type checks for a key."""
    return json.loads(await ctx.generic_call("Counter", "add", b"1", key))


lazy = VirtualObject("Lazy", enable_lazy_state=True)


@lazy.handler()
async def bump(ctx: ObjectContext) -> list[Any]:
    absent = await ctx.get("absent")
    value = (await ctx.get("value", type_hint=int) or 0) + 1
    ctx.set("value", value)
    return [absent, value]


hidden = Service("Hidden", ingress_private=True)


@hidden.handler()
async def secret(ctx: Context, name: str) -> str:
    return f"secret {name}"


@steps.handler()
async def tell(ctx: Context, name: str) -> str:
    return await ctx.service_call(secret, arg=name)


signup = Workflow("Signup")


@signup.main()
async def run(ctx: WorkflowContext, name: str) -> str:
    ctx.set("name", name)
    clicked = await ctx.promise("clicked", type_hint=str).value()
    return f"{name} {clicked}"


@signup.handler()
async def click(ctx: WorkflowSharedContext, secret: str) -> str | None:
    name: str | None = await ctx.get("name", type_hint=str)
    await ctx.promise("clicked", type_hint=str).resolve(secret)
    return name


app = restate.app([steps, counter, lazy, hidden, signup])


@contextlib.asynccontextmanager
async def serving(port: int = 0, app: Any = app, **options: Any) -> AsyncIterator[str]:
    """Serve the app with hypercorn, over HTTP/1.1 and HTTP/2, on loopback.

    Args:
        port: 0 takes a free one.
        app: Served in place of the one above.
        options: Attributes of hypercorn's configuration.

    Yields:
        Its URL.
    """
    listener = socket.create_server(("127.0.0.1", port))
    config = hypercorn.config.Config()
    port = listener.getsockname()[1]
    # Taken over, and closed in the end.
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = config.errorlog = None
    config.graceful_timeout = 0.1
    config.shutdown_timeout = 0.1
    for name, value in options.items():
        setattr(config, name, value)
    stop = asyncio.Event()
    server = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop.set()
        await server
