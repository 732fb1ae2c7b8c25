"""The durable verbs: time, randomness, calls, awakeables, state."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure

from .fake_server import BEGIN_MS, FakeServer, value
from .loops import both_loops
from .test_attempt import app_of, double, server_of


@both_loops
async def test_time_randomness_and_ids_are_the_same_on_replay() -> None:
    seen: list[list[Any]] = []

    async def handler(ctx: hf.Context) -> int:
        async def child() -> float:
            return ctx.random.random()

        parallel = await asyncio.gather(child(), child())
        before = ctx.now()
        await ctx.sleep(timedelta(days=1))
        seen.append([
            before, ctx.now() - before >= timedelta(days=1), parallel, ctx.random.random(),
            str(ctx.uuid()), asyncio.get_running_loop().time() >= before.timestamp() + 86_400,
        ])  # fmt: skip
        await ctx.run("double", double, 1)
        assert parallel[0] != parallel[1]
        return ctx.attempt

    server = server_of(handler, crash=lambda n: True)
    await server.run()
    assert len(seen) >= 2
    assert all(entry == seen[0] for entry in seen)
    assert seen[0][1] is True
    assert seen[0][5] is True
    assert seen[0][0].timestamp() == BEGIN_MS / 1000


@both_loops
async def test_calls_sends_and_attach() -> None:
    other = hf.VirtualObject("Other")

    @other.handler
    async def add(ctx: hf.Context, number: int) -> int:
        return number

    async def handler(ctx: hf.Context) -> list[Any]:
        call = ctx.call(add, 3, key="k/1", headers={"a": "b"})
        child = await call.invocation_id
        sent = await ctx.send(add, 4, key="k", delay=60)
        ctx.send("Plain/go", [1])
        await ctx.cancel(sent)
        attached = await ctx.attach(sent, type=str)
        with pytest.raises(hf.UsageError, match="Other/add needs key="):
            ctx.call(add, 3)
        text = await ctx.call("Plain/echo", "x", type=str)
        return [await call, child != sent, child == await call.invocation_id, attached, text]

    server = server_of(handler, crash=lambda n: n % 2 == 0)
    assert await server.run() == [3, True, True, "attached", "x"]
    assert "call:Other.add#0" in server.commands()
    assert "send:Plain.go#0" in server.commands()


@both_loops
async def test_awakeables_keep_their_id() -> None:
    ids: set[str] = set()

    async def handler(ctx: hf.Context) -> list[Any]:
        first, second = ctx.awakeable(type=int), ctx.awakeable(type=str)
        ids.update((first.id, second.id))
        await ctx.run("tell", double, 1)
        ctx.resolve(first.id, 5)
        ctx.reject(second.id, "no", code=404)
        server.signal_later(first._number, value(5))
        server.signal_later(second._number, Failure(404, "no"))
        with pytest.raises(hf.TerminalError, match="no"):
            await second
        return [await first]

    server = server_of(handler, is_request_response=True)
    assert await server.run() == [5]
    assert len(ids) == 2
    assert {c.awakeable_id for c in server.completed_awakeables} == ids


@both_loops
async def test_state_of_an_object() -> None:
    counter = hf.VirtualObject("Counter")

    @counter.handler
    async def add(ctx: hf.Context, number: int) -> list[Any]:
        total = await ctx.get("total", type=int) or 0
        ctx.set("total", total + number)
        await ctx.set("by", ctx.key)
        await ctx.sleep(1)
        keys = await ctx.keys()
        ctx.clear("by")
        result = [await ctx.get("total", type=int), keys, await ctx.get("by"), await ctx.keys()]
        await ctx.clear_all()
        return [*result, await ctx.keys()]

    @counter.shared
    async def peek(ctx: hf.Context) -> int | None:
        with pytest.raises(hf.UsageError, match="Counter/peek is shared"):
            ctx.set("total", 1)
        return await ctx.get("total", type=int)

    app = hf.App(counter)
    for partial in (False, True):
        for crash in (None, lambda n: True):
            server = FakeServer(
                app, "Counter/add", 2, key="k", state={} if partial else {"total": b"40"},
                is_state_partial=partial, crash=crash,
            )  # fmt: skip
            total = 2 if partial else 42
            assert await server.run() == [total, ["by", "total"], None, ["total"], []]
            assert server.state == {}
    assert await FakeServer(app, "Counter/peek", key="k", state={"total": b"7"}).run() == 7


@both_loops
async def test_state_needs_an_object() -> None:
    async def handler(ctx: hf.Context) -> None:
        with pytest.raises(hf.UsageError, match=r"ctx\.get needs a VirtualObject or a Work"):
            ctx.get("a")
        with pytest.raises(hf.UsageError, match="S/h has no key"):
            ctx.key  # noqa: B018

    await server_of(handler).run()


@both_loops
async def test_bad_input_is_terminal_and_names_the_path() -> None:
    service = hf.Service("S")

    @service.handler
    async def h(ctx: hf.Context, numbers: list[int]) -> int:
        return sum(numbers)

    app = hf.App(service)
    assert await FakeServer(app, "S/h", [1, 2]).run() == 3
    outcome = await FakeServer(app, "S/h", [1, "x"]).finish()
    assert outcome == Failure(
        400,
        "Bad input for S/h: Expected `int`, got `str` - at `$[1]` [HF0508]",
        {"error_code": "HF0508"},
    )


@both_loops
async def test_an_unknown_handler_fails_the_attempt() -> None:
    async def handler(ctx: hf.Context) -> None: ...

    server = FakeServer(app_of(handler), "S/gone")
    server.is_retrying = False
    with pytest.raises(AssertionError, match=r"S/gone is not served here; there is: S/h"):
        await server.run()


@both_loops
@pytest.mark.parametrize("verb", ["cancel", "attach", "output", "send_signal"])
async def test_what_is_no_invocation_id_is_said_at_the_call(verb: str) -> None:
    async def handler(ctx: hf.Context) -> str:
        args = ("name", 1) if verb == "send_signal" else ()
        try:
            getattr(ctx, verb)("inv_nonsense", *args)
        except hf.UsageError as error:
            return str(error)
        return "accepted"

    server = server_of(handler)
    said = await server.run()
    assert "'inv_nonsense' is not an invocation id" in said
    assert f"ctx.{verb}" in said
    assert "HF0507" in said
