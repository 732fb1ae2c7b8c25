"""Synchronous handlers: in a thread, with durable calls that block, replayed like all others."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import Failure

from .fake_server import FakeServer
from .loops import both_loops

service = hf.Service("S")
counter = hf.VirtualObject("Counter")
ran: list[str] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    ran.clear()


def note(name: str) -> str:
    ran.append(name)
    return name.upper()


async def note_soon(name: str) -> str:
    await asyncio.sleep(0)
    return note(name)


@service.handler
def tour(ctx: hf.SyncContext, arg: int) -> list[Any]:
    """Everything, one after another."""
    first = ctx.run("a", note, "a")
    drawn, began = ctx.random.random(), ctx.now()
    ctx.sleep(3600)
    second = ctx.run("b", note_soon, "b")
    answer = ctx.call("Other/echo", arg)
    child = ctx.send("Other/echo", arg, delay=5)
    pair = ctx.do(lambda c: asyncio.gather(c.run("c", note, "c"), c.run("d", note_soon, "d")))
    elapsed = (ctx.now() - began).total_seconds() >= 3600
    made = [str(ctx.uuid()), ctx.patched("a change")]
    return [first, drawn, second, answer, child[:4], pair, elapsed, made, ctx.id]


@service.handler
def wait(ctx: hf.SyncContext) -> str:
    try:
        ctx.sleep(1_000_000)
    except hf.TerminalError as error:
        return ctx.run("undo", note, f"undone {error.code}")
    finally:
        ran.append("finally")
    return "slept"


@service.handler
def misuse(ctx: hf.SyncContext) -> list[str]:
    codes = []
    for wrong in (hf.current, lambda: threaded(lambda: ctx.sleep(1))):
        try:
            wrong()
        except hf.UsageError as error:
            codes.append(error.code)
    return codes


def threaded(call: Any) -> None:
    """Call in another thread; raise what it raised."""
    caught: list[BaseException] = []

    def body() -> None:
        try:
            call()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]


@service.handler
def refuse(ctx: hf.SyncContext) -> None:
    raise hf.TerminalError("no", code=418, metadata={"why": "tea"})


@service.handler
def deaf(ctx: hf.SyncContext) -> str:
    while True:
        try:
            ctx.sleep(1_000_000)
        except BaseException as error:
            ran.append(type(error).__name__)
            if len(ran) > 3:
                raise


@counter.handler
def add(ctx: hf.SyncContext, amount: int) -> int:
    value = (ctx.get("n", type=int) or 0) + amount
    ctx.set("n", value)
    return value


@counter.handler
def reset(ctx: hf.SyncContext) -> str:
    ctx.clear("n")
    return ctx.key


app = hf.App(service, counter)


@both_loops
@pytest.mark.parametrize("is_request_response", [False, True])
async def test_all_verbs_and_a_crash_at_each_entry(is_request_response: bool) -> None:
    plain = FakeServer(app, "S/tour", 7)
    expected = await plain.run()
    assert expected[:1] + expected[2:7] == ["A", "B", 7, "inv_", ["C", "D"], True]
    assert expected[7][1] is True
    assert sorted(ran) == ["a", "b", "c", "d"]
    for point in range(1, len(plain.journal)):
        server = FakeServer(
            app, "S/tour", 7,
            crash=lambda length, p=point: length == p,
            is_request_response=is_request_response,
        )  # fmt: skip
        assert await server.run() == expected


@both_loops
async def test_a_suspended_handler_holds_no_thread() -> None:
    before = threading.active_count()
    server = FakeServer(app, "S/wait", is_request_response=True)
    assert await server.run() == "slept"
    assert len(server.streams) == 2
    # The thread of the first attempt ends in its own time.
    await gone(before)
    assert ran == ["finally", "finally"]


async def gone(count: int) -> None:
    async with asyncio.timeout(5):
        while threading.active_count() > count:
            await asyncio.sleep(0.001)


async def test_an_aborted_attempt_ends_its_thread_also_one_that_does_not_listen() -> None:
    before = threading.active_count()
    server = FakeServer(app, "S/deaf")
    task = asyncio.get_running_loop().create_task(server.finish())
    async with asyncio.timeout(5):
        while server.attempt is None:
            await asyncio.sleep(0.001)
        server.attempt.abort()
        while not server.streams[0].closed:
            await asyncio.sleep(0.001)
    task.cancel()
    assert ran[0] == "Aborted"
    assert len(ran) == 4
    await gone(before)


@both_loops
async def test_misuse_and_refusal() -> None:
    assert await FakeServer(app, "S/misuse").run() == ["HF0502", "HF0502"]
    outcome = await FakeServer(app, "S/refuse").finish()
    assert outcome == Failure(418, "no", {"why": "tea"})


def embedded() -> Any:
    # An app of its own: fake servers replace the clock of theirs.
    return hf.embedded(hf.App(service, counter), store="memory:")


async def test_many_at_once_with_a_server() -> None:
    async with embedded() as client, asyncio.timeout(20):
        values = await asyncio.gather(*(client.call(add, 1, key=f"k{n % 4}") for n in range(60)))
        assert max(values) == 15
        assert await client.call(reset, key="k1") == "k1"
        assert await client.call(add, 2, key="k1") == 2


async def test_a_cancelled_one_compensates() -> None:
    async with embedded() as client, asyncio.timeout(20):
        sent = await client.send(wait)
        await asyncio.sleep(0)
        while not (threads := [t for t in threading.enumerate() if "handler" in t.name]):
            await asyncio.sleep(0.001)
        await client.cancel(sent.invocation_id)
        result = await client.attach(sent.invocation_id, type=str)
        assert result == "UNDONE 409"
        for thread in threads:
            thread.join(5)


async def test_a_blocking_handler_does_not_block_the_loop() -> None:
    blocking = hf.Service("B")
    released = threading.Event()

    @blocking.handler
    def block(ctx: hf.SyncContext) -> bool:
        return released.wait(10)

    async with hf.embedded(hf.App(blocking), store="memory:") as client, asyncio.timeout(20):
        call = asyncio.ensure_future(client.call(block))
        began = time.monotonic()
        await asyncio.sleep(0.01)
        released.set()
        assert await call
        assert time.monotonic() - began < 5


async def test_it_is_still_a_function() -> None:
    class Fake:
        def run(self, name: str, fn: Any, *args: Any) -> Any:
            return fn(*args)

    blocking = hf.Service("B")

    @blocking.handler
    def shout(ctx: hf.SyncContext, text: str) -> str:
        return ctx.run("note", note, text)

    assert await shout(Fake(), "x") == "X"


def _generator(ctx: hf.SyncContext) -> Any:
    yield 1


def _async_context(ctx: hf.Context) -> None: ...


async def _sync_context(ctx: hf.SyncContext) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (_generator, "or take an hf.SyncContext"),
        (_async_context, "or take an hf.SyncContext"),
        (_sync_context, "takes an hf.Context"),
    ],
)
def test_contexts_must_fit(function: Any, message: str) -> None:
    with pytest.raises(hf.UsageError, match=message):
        hf.Service("S").handler(function)
