"""Workflows in one process: once per key, promises, retention; in memory and on SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.identity import workflow_id
from holdfast.domain.message import Value
from holdfast.domain.target import Target
from holdfast.engine.decision import Reply
from holdfast.engine.record import INVOKED
from holdfast.engine.row import StateEdit
from holdfast.sdk.client import ClientBase
from holdfast.server.embedded import EmbeddedClient
from holdfast.server.handle import Request

signup = hf.Workflow("Signup", workflow_retention=3600, inactivity_timeout=0)
short = hf.Workflow("Short", workflow_retention=0, journal_retention=60)
other = hf.Service("Other")


@signup.main
async def run(ctx: hf.Context, email: str) -> str:
    ctx.set("status", "waiting")
    confirmed = await ctx.promise("confirmed", str).value()
    ctx.set("status", "done")
    return f"{ctx.key} {email} {confirmed}"


@signup.handler
async def confirm(ctx: hf.Context, code: str) -> str:
    try:
        await ctx.promise("confirmed", str).resolve(code)
    except hf.TerminalError as error:
        return f"{error.code} {error.metadata['error_code']}"
    return "first"


@signup.handler
async def status(ctx: hf.Context) -> list[str | None]:
    return [await ctx.get("status", type=str), await ctx.promise("confirmed", str).peek()]


@signup.handler
async def wait(ctx: hf.Context) -> str:
    return await ctx.promise("confirmed", str).value()


@short.main
async def finish(ctx: hf.Context, value: int) -> int:
    ctx.set("n", value)
    await ctx.promise("p", int).resolve(value)
    return value


@short.handler
async def look(ctx: hf.Context) -> list[int | None]:
    return [await ctx.get("n", type=int), await ctx.promise("p", int).peek()]


@short.handler
async def never(ctx: hf.Context) -> None:
    await ctx.promise("never").value()


@other.handler
async def start(ctx: hf.Context, key: str) -> list[Any]:
    sent = await ctx.send(run, "a", key=key)
    try:
        await ctx.call(run, "b", key=key)
    except hf.TerminalError as error:
        return [sent, error.code, error.metadata, await ctx.send(run, "c", key=key) == sent]
    raise AssertionError("a workflow was called twice")


Opener = Callable[[], AbstractAsyncContextManager[EmbeddedClient]]


@pytest.fixture(params=["memory", "sqlite"])
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    store = "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'data.db'}"
    return lambda: hf.embedded(hf.App(signup, short, other), store=store, partition_count=4)


@pytest.fixture
async def client(opener: Opener) -> AsyncIterator[EmbeddedClient]:
    async with opener() as opened:
        yield opened


async def test_a_workflow_runs_once_per_key(client: EmbeddedClient) -> None:
    inv = workflow_id("Signup", "ann")
    first = await client.send(run, "a@b", key="ann")
    assert (first.invocation_id, first.is_new) == (inv, True)
    again = await client.send(run, "c@d", key="ann")
    assert (again.invocation_id, again.is_new) == (inv, False)
    with pytest.raises(hf.TerminalError) as caught:
        await client.call(run, "e@f", key="ann")
    assert (caught.value.code, caught.value.message) == (409, INVOKED.message)
    assert caught.value.metadata == {"error_code": "HF1070"}
    assert await client.output(inv, default="not yet") == "not yet"
    assert await client.call(confirm, "yes", key="ann") == "first"
    assert await client.attach(inv, type=str) == "ann a@b yes"
    with pytest.raises(hf.TerminalError, match="already invoked"):
        await client.call(run, "g@h", key="ann")
    assert await client.call(confirm, "no", key="ann") == "409 HF2022"
    assert await client.call(status, key="ann") == ["done", "yes"]
    assert await client.call(status, key="bob") == [None, None]


async def test_promises_before_the_run(client: EmbeddedClient) -> None:
    waiting = [asyncio.create_task(client.call(wait, key="ann")) for _ in range(3)]
    assert await client.call(confirm, "early", key="ann") == "first"
    assert await asyncio.gather(*waiting) == ["early"] * 3
    assert await client.call(run, "a@b", key="ann") == "ann a@b early"
    assert await client.call(wait, key="ann") == "early"


@pytest.mark.parametrize("key", ["ann", "bob", "cy", "dee"])
async def test_handlers_ask_for_a_workflow(client: EmbeddedClient, key: str) -> None:
    inv, code, metadata, is_same = await client.call(start, key)
    assert inv == workflow_id("Signup", key)
    assert (code, metadata, is_same) == (409, {"error_code": "HF1070"}, True)
    await client.call(confirm, "yes", key=key)
    assert await client.attach(hf.invocation(run, key=key)) == f"{key} a yes"


async def test_a_key_is_new_after_its_retention(client: EmbeddedClient) -> None:
    task = asyncio.create_task(client.call(never, key="k"))
    assert await client.call(finish, 1, key="k") == 1
    async with asyncio.timeout(10):
        while await client.call(look, key="k") != [None, None]:
            await asyncio.sleep(0.05)
    with pytest.raises(hf.TerminalError) as caught:
        await task
    assert (caught.value.code, caught.value.metadata) == (410, {"error_code": "HF2023"})
    assert await client.call(finish, 2, key="k") == 2


async def test_the_main_handler_takes_no_idempotency_key(client: EmbeddedClient) -> None:
    for verb in (client.call, client.send):
        with pytest.raises(hf.UsageError) as caught:
            await verb(run, "a", key="ann", idempotency_key="x")
        assert caught.value.code == "HF1041"


async def test_two_calls_at_once_and_only_one_runs(client: EmbeddedClient) -> None:
    await client.call(confirm, "x", key="ann")
    outcomes = await asyncio.gather(
        *(client.call(run, f"{n}", key="ann") for n in range(5)), return_exceptions=True
    )
    refused = [o for o in outcomes if isinstance(o, hf.TerminalError)]
    assert len(refused) == 4
    handle = client._handle
    target = Target("Signup", "run", "ann")
    finished = await handle.call(Request(target, handle.resolve("Signup", "run"), b'"y"'))
    assert finished.outcome == INVOKED
    stored = await handle.output(workflow_id("Signup", "ann"))
    assert stored is not None
    assert isinstance(stored.outcome, Value)


async def test_promises_survive_a_restart(tmp_path: Path) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[ClientBase]:
        store = f"sqlite:{tmp_path / 'data.db'}"
        async with hf.embedded(hf.App(signup, short, other), store=store) as client:
            yield client

    async with opened() as client:
        await client.send(run, "a@b", key="ann")
        assert await client.call(confirm, "q", key="bob") == "first"
        while await client.call(status, key="ann") == [None, None]:
            await asyncio.sleep(0.005)
    async with opened() as client:
        assert await client.call(status, key="ann") == ["waiting", None]
        assert await client.call(confirm, "yes", key="ann") == "first"
        assert await client.attach(hf.invocation(run, key="ann")) == "ann a@b yes"
    async with opened() as client:
        assert await client.call(status, key="ann") == ["done", "yes"]
        assert await client.call(wait, key="bob") == "q"


async def test_operators_write_no_state_of_a_workflow_key_that_nothing_removes() -> None:
    async with hf.embedded(hf.App(signup), store="memory:") as client:
        assert isinstance(client, EmbeddedClient)
        handle = client._handle
        edit = StateEdit((("status", b'"odd"'),))
        assert (await handle.edit_state("Signup", "nobody", edit)).reply is Reply.NOT_FOUND
        await client.send(run, "a@b", key="k")
        assert (await handle.edit_state("Signup", "k", edit)).reply is Reply.ACCEPTED
