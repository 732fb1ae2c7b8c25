"""Operations on real handlers in this process, in both stores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.engine.decision import Reply
from holdfast.engine.row import Status
from holdfast.server.embedded import EmbeddedClient

worker = hf.Service("Worker")
box = hf.VirtualObject("Box")


class Bench:
    """What the handlers of a test share with it."""

    begun: list[str]
    ended: list[str]
    gate: asyncio.Event


bench = Bench()


@pytest.fixture(autouse=True)
def _fresh_bench() -> None:
    bench.begun, bench.ended, bench.gate = [], [], asyncio.Event()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'x.db'}"


async def body(name: str) -> str:
    bench.begun.append(name)
    if name.startswith("slow"):
        await bench.gate.wait()
    bench.ended.append(name)
    return f"{name} {len(bench.begun)}"


@box.handler
async def put(ctx: hf.Context, value: str) -> str:
    ctx.set("value", value)
    return f"{ctx.key} {value}"


@worker.handler
async def work(ctx: hf.Context, name: str) -> list[Any]:
    first, slow = await asyncio.gather(
        ctx.run("first", body, "first"), ctx.run("slow", body, f"slow {name}")
    )
    # Another key at replay would be another target: a mismatch.
    key = str(ctx.uuid())
    called = await ctx.call(put, name, key=key)
    started_at = ctx.now()
    await ctx.sleep(0.001)
    return [first, slow, called == f"{key} {name}", str(started_at), await ctx.run("c", body, "c")]


app = hf.App(worker, box)


async def until_status(client: EmbeddedClient, invocation_id: str, status: Status) -> None:
    async with asyncio.timeout(10):
        while True:
            row = await client._handle.invocation(invocation_id)
            assert row is not None
            if row.status is status:
                return
            await asyncio.sleep(0.002)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_pause_ends_open_steps_and_keeps_what_is_done(store: str) -> None:
    async with hf.embedded(app, store=store) as client:
        operations = client._handle.operations
        handle = await client.send(work, "x")
        await until(lambda: len(bench.begun) == 2)
        async with asyncio.timeout(10):
            while len(await client._handle.journal(handle.invocation_id)) < 4:
                await asyncio.sleep(0.002)
        assert (await operations.pause(handle.invocation_id)).reply is Reply.ACCEPTED
        bench.gate.set()
        assert (await operations.resume(handle.invocation_id)).reply is Reply.ACCEPTED
        result: Any = await client.attach(handle.invocation_id)
        assert result[0] == "first 1"
        # It was cancelled in the middle, so it has begun twice and ended once.
        assert bench.begun.count("slow x") == 2
        assert bench.ended.count("slow x") == 1


async def test_restart_from_every_entry_comes_to_the_same_end(store: str) -> None:
    bench.gate.set()
    async with hf.embedded(app, store=store, partition_count=4) as client:
        operations = client._handle.operations
        source = await client.send(work, "x")
        expected: Any = await client.attach(source.invocation_id)
        journal = await client._handle.journal(source.invocation_id)
        for index in range(len(journal) - 1):
            new_id, answer = await operations.restart(source.invocation_id, index)
            assert answer.reply is Reply.ACCEPTED, index
            finished = await client._handle.attach(new_id)
            result = finished.outcome.content.decode()  # type: ignore[union-attr]
            assert "true" in result, f"{index}: {result}"
            row = await client._handle.invocation(new_id)
            assert row is not None
            assert row.retry_count == 0, f"{index}: {row.last_failure}"
            if index >= 3:
                assert f'"{expected[0]}","{expected[1]}"' in result, index
        new_id, answer = await operations.restart(source.invocation_id, len(journal) - 1)
        assert answer.reply is Reply.OUT_OF_RANGE


async def test_a_paused_one_is_there_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'x.db'}"
    async with hf.embedded(app, store=store) as client:
        handle = await client.send(work, "x")
        await until(lambda: len(bench.begun) == 2)
        await client._handle.operations.pause(handle.invocation_id)
    async with hf.embedded(app, store=store) as client:
        bench.gate.set()
        await until_status(client, handle.invocation_id, Status.PAUSED)
        answer = await client._handle.operations.resume(handle.invocation_id, "latest")
        assert answer.reply is Reply.ACCEPTED
        finished = await client._handle.attach(handle.invocation_id)
        assert b"true" in finished.outcome.content  # type: ignore[union-attr]


async def test_purge_journal_keeps_the_outcome(store: str) -> None:
    bench.gate.set()
    async with hf.embedded(app, store=store) as client:
        operations = client._handle.operations
        handle = await client.send(work, "x")
        result: Any = await client.attach(handle.invocation_id)
        before = await client._handle.output(handle.invocation_id)
        answer = await operations.purge(handle.invocation_id, is_journal_only=True)
        assert answer.reply is Reply.ACCEPTED
        assert await client._handle.output(handle.invocation_id) == before
        assert len(await client._handle.journal(handle.invocation_id)) == 1
        assert (await operations.restart(handle.invocation_id))[1].reply is Reply.GONE
        assert (await operations.purge(handle.invocation_id)).reply is Reply.ACCEPTED
        assert await client._handle.invocation(handle.invocation_id) is None
        assert await client._handle.journal(handle.invocation_id) == []
        assert result[2] is True
