"""Handlers of tests, in the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import holdfast as hf
from holdfast.testing import environment

Handler = Callable[[hf.Context], Awaitable[Any]]


def served(run: Handler) -> hf.App:
    """Return an app that serves a handler as `Agent/handle`."""
    service = hf.Service("Agent")

    @service.handler(retry=hf.RetryPolicy(max_attempts=3, on_max_attempts="kill"))
    async def handle(ctx: hf.Context) -> Any:
        return await run(ctx)

    return hf.App(service)


async def outcome(run: Handler, *, crash: str | None = None) -> Any:
    """Run a handler: crashed at one place, or replayed at each await."""
    async with environment(served(run), always_replay=crash is None) as env:
        if crash is not None:
            env.crash_at(crash)
        return await env.client.call("Agent/handle")


async def steps(run: Handler) -> tuple[Any, list[str]]:
    """Run a handler. Returns what it says, and the keys of its steps."""
    async with environment(served(run), always_replay=True) as env:
        sent = await env.client.send("Agent/handle")
        said = await env.client.attach(sent.invocation_id)
        entries = await env.journal(sent.invocation_id)
        return said, [str(entry["key"]) for entry in entries if entry["kind"] == "Command: Run"]


async def durably(run: Callable[[], Awaitable[Any]], *, crash: str | None = None) -> list[Any]:
    """Run something in a handler.

    Returns:
        What it returned, at the first time and at each replay; nothing of it went through JSON.

    Raises:
        Exception: What it raised, the same each time.
    """
    seen: list[Any] = []

    async def keep(ctx: hf.Context) -> None:
        try:
            seen.append(await run())
        except Exception as error:
            seen.append(error)
        # What comes after it replays it once more.
        await ctx.sleep(1)

    await outcome(keep, crash=crash)
    assert crash is not None or len(seen) > 1, "nothing was replayed"
    if isinstance(seen[-1], Exception):
        assert len({(type(one).__name__, str(one)) for one in seen}) == 1
        raise seen[-1]
    return seen
