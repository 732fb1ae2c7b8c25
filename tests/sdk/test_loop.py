"""Hooks on the event loop: outside of handlers nothing changes; inside, libraries keep working."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import anyio
import pytest

import holdfast as hf
from holdfast.sdk.future import DurableTimer
from holdfast.sdk.loop import BranchTask, hooks_of

from .fake_server import FakeServer
from .loops import both_loops
from .test_attempt import double, server_of


@both_loops
async def test_outside_of_handlers_nothing_changes() -> None:
    loop = asyncio.get_running_loop()
    hooks = hooks_of(loop)
    assert hooks_of(loop) is hooks
    order: list[str] = []
    soon = loop.call_soon(order.append, "soon")
    assert type(soon).__name__ == "Handle"
    later = loop.call_later(0.001, order.append, "later")
    assert not isinstance(later, DurableTimer)
    loop.call_at(loop.time() + 0.002, order.append, "at")
    await asyncio.sleep(0.02)
    assert order == ["soon", "later", "at"]
    task = asyncio.create_task(asyncio.sleep(0), name="mine")
    assert type(task) is asyncio.Task
    assert task.get_name() == "mine"
    await task
    assert await loop.run_in_executor(None, lambda: 3) == 3


@both_loops
async def test_a_task_factory_that_is_there_is_kept() -> None:
    made: list[str] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        made.append(coro.__qualname__.rpartition(".")[2])
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def child(ctx: hf.Context) -> int:
        return await ctx.run("double", double, 2)

    async def handler(ctx: hf.Context) -> int:
        return await asyncio.create_task(child(ctx))

    asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type]
    server = server_of(handler)
    assert await server.run() == 4
    assert made == ["child"]
    asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type]
    server = server_of(handler)
    assert await server.run() == 4
    assert server.commands()[0].endswith("child[0]/run:double#0")


@both_loops
async def test_labels_of_tasks() -> None:
    async def child(ctx: hf.Context) -> None:
        ctx.send("Other/x")

    async def handler(ctx: hf.Context) -> None:
        tasks = [asyncio.create_task(child(ctx), name=f"n{n}") for n in range(2)]
        assert isinstance(tasks[0], BranchTask)
        assert tasks[1].get_name() == "n1"
        assert len({hash(task) for task in tasks}) == 2
        # An explicit context is copied, so that its other users stay where they are.
        given = contextvars.copy_context()
        await asyncio.create_task(child(ctx), context=given)
        with ctx.scope("a/b"), ctx.scope("c"):
            ctx.send("Other/x")
        await asyncio.gather(*tasks)
        # An empty context is not the handler's.
        with pytest.raises(hf.UsageError, match="HF0502"):
            await asyncio.create_task(child(ctx), context=contextvars.Context())

    server = server_of(handler)
    await server.run()
    prefix = "test_labels_of_tasks.<locals>."
    assert sorted(server.commands()) == [
        "a|b[0]/c[0]/send:Other.x#0",
        "output#0",
        *[f"{prefix}child[{n}]/send:Other.x#0" for n in range(3)],
    ]


@both_loops
async def test_durable_futures_go_wherever_awaitables_go() -> None:
    async def handler(ctx: hf.Context) -> list[Any]:
        loop = asyncio.get_running_loop()
        results: list[Any] = [
            await asyncio.create_task(ctx.run("a", double, 1)),
            await asyncio.ensure_future(ctx.run("a", double, 2)),
            await asyncio.wait_for(ctx.run("a", double, 3), 5),
            await asyncio.shield(ctx.run("a", double, 4)),
            await loop.create_task(ctx.run("a", double, 5)),
        ]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ctx.run("a", double, 6))
        done, _ = await asyncio.wait({ctx.run("a", double, 7), ctx.run("a", double, 8)})
        results += [task.result(), sorted(future.result() for future in done)]
        for future in asyncio.as_completed([ctx.run("a", double, 9)]):
            results.append(await future)
        future = ctx.run("a", double, 10)
        assert await future == await future == future.result()
        return results

    assert await server_of(handler, crash=lambda n: n % 5 == 0).run() == [
        2, 4, 6, 8, 10, 12, [14, 16], 18,
    ]  # fmt: skip


@both_loops
async def test_a_timer_that_is_cancelled_does_not_matter() -> None:
    async def handler(ctx: hf.Context) -> str:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        timer = loop.call_later(5, called.append, "never")
        assert isinstance(timer, DurableTimer)
        assert timer.when() == pytest.approx(loop.time() + 5)
        timer.cancel()
        assert timer.cancelled()
        soon = loop.call_soon(called.append, "never")
        soon.cancel()
        assert soon.cancelled()
        soon.cancel()
        loop.call_at(loop.time() + 7, called.append, "later")
        await ctx.sleep(10)
        return ",".join(called)

    assert await server_of(handler, is_request_response=True).run() == "later"


@both_loops
async def test_anyio_works_inside() -> None:
    async def handler(ctx: hf.Context) -> list[str]:
        seen: list[str] = []

        async def worker(n: int) -> None:
            seen.append(f"{await ctx.run('double', double, n)}")

        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(worker, n)
        with anyio.move_on_after(5) as scope:
            await ctx.sleep(100)
        seen.append(f"cut {scope.cancelled_caught}")
        with pytest.raises(TimeoutError):
            with anyio.fail_after(5):
                await anyio.sleep(100)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 100)
            await ctx.sleep(1)
            group.cancel_scope.cancel()
        seen.append(str(await anyio.to_thread.run_sync(lambda: "thread")))
        return seen

    for crash in (None, lambda n: True):
        server = server_of(handler, crash=crash)
        result = await server.run()
        assert sorted(result[:3]) == ["0", "2", "4"]
        assert result[3] in ("cut True", "cut False") if crash else result[3] == "cut True"
        assert result[4] == "thread"
        assert not server.errors


@both_loops
async def test_the_server_is_called_outside_of_user_code() -> None:
    """A server on the same loop may make tasks and timers of its own when it is called."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")
    kinds: list[Any] = []

    async def task() -> None:
        kinds.append(variable.get())
        with pytest.raises(hf.UsageError):
            hf.current()

    class Nosy(FakeServer):
        def on_message(self, stream: Any, message: Any) -> None:
            kinds.append(type(asyncio.create_task(task())))
            timer = asyncio.get_running_loop().call_later(60, print)
            kinds.append(isinstance(timer, DurableTimer))
            timer.cancel()
            super().on_message(stream, message)

    async def handler(ctx: hf.Context) -> int:
        variable.set("inside")
        await ctx.sleep(1)
        return await ctx.run("double", double, 1)

    service = hf.Service("S")
    service.handler(name="h")(handler)
    assert await Nosy(hf.App(service), "S/h").run() == 2
    await asyncio.sleep(0)
    assert set(kinds) == {asyncio.Task, False, "outside"}


@both_loops
async def test_debug_mode() -> None:
    async def handler(ctx: hf.Context) -> int:
        await asyncio.sleep(1)
        return sum(await asyncio.gather(ctx.run("a", double, 1), ctx.run("b", double, 2)))

    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0  # asyncio describes each callback in the log
    assert await server_of(handler).run() == 6
