"""Handlers against a server in memory: steps, failures, suspension, cancellation, endings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

import holdfast as hf
from holdfast.domain.message import (
    Completion,
    End,
    Error,
    Failure,
    Output,
    ProposeRunCompletion,
    Run,
    SendSignal,
    Suspension,
    Value,
    Void,
)
from holdfast.sdk.attempt import Attempt

from .fake_server import BEGIN_MS, FakeServer, value
from .loops import both_loops

Fn = Callable[[hf.Context], Awaitable[Any]]


def app_of(fn: Fn, **options: Any) -> hf.App:
    service = hf.Service("S")
    service.handler(name="h", **options)(fn)
    return hf.App(service)


def server_of(fn: Fn, **options: Any) -> FakeServer:
    return FakeServer(app_of(fn), "S/h", **options)


async def double(number: int) -> int:
    return number * 2


@both_loops
async def test_a_step_and_its_result_leave_together() -> None:
    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("double", double, 4)

    server = server_of(handler)
    assert await server.run() == 8
    batches = [[type(m) for m in batch] for batch in server.streams[0].batches]
    assert batches == [[Run, ProposeRunCompletion], [Output, End]]
    assert server.streams[0].closed == [None]


@both_loops
async def test_parallel_steps_that_end_at_once_leave_together() -> None:
    async def handler(ctx: hf.Context) -> list[int]:
        return await asyncio.gather(*[ctx.run("double", double, n) for n in range(3)])

    server = server_of(handler)
    assert await server.run() == [0, 2, 4]
    assert len(server.streams[0].batches) == 2


@both_loops
async def test_the_value_is_what_the_record_says() -> None:
    async def make() -> tuple[int, int]:
        return (1, 2)

    def untyped():  # type: ignore[no-untyped-def]
        return (1, 2)

    async def handler(ctx: hf.Context) -> bool:
        typed = await ctx.run("typed", make)
        plain = await ctx.run("untyped", untyped)
        return typed == (1, 2) and plain == [1, 2]

    assert await server_of(handler).run() is True


@both_loops
async def test_synchronous_steps_run_in_threads() -> None:
    def where(word: str, *, end: str) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return word + end

    async def handler(ctx: hf.Context) -> str:
        return await ctx.run("where", where, "a", end="b")

    assert await server_of(handler).run() == "ab"


@both_loops
async def test_a_lambda_may_return_an_awaitable() -> None:
    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("double", lambda: double(3))

    assert await server_of(handler).run() == 6


@both_loops
async def test_a_terminal_error_of_a_step_is_recorded_and_raised() -> None:
    async def refuse() -> None:
        raise hf.TerminalError("no", code=418, metadata={"a": "b"})

    async def handler(ctx: hf.Context) -> str:
        try:
            await ctx.run("refuse", refuse)
        except hf.TerminalError as error:
            return f"{error.code} {error.message} {error.metadata}"
        return ""

    server = server_of(handler, is_request_response=True)
    assert await server.run() == "418 no {'a': 'b'}"
    assert not server.errors


@both_loops
async def test_a_terminal_error_of_the_handler_is_its_outcome() -> None:
    async def handler(ctx: hf.Context) -> None:
        raise hf.TerminalError("no", code=418)

    server = server_of(handler)
    assert await server.finish() == Failure(418, "no")


@both_loops
async def test_another_error_of_the_handler_fails_the_attempt() -> None:
    calls = 0

    async def handler(ctx: hf.Context) -> int:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise SystemExit("flaky")
        return calls

    server = server_of(handler)
    assert await server.run() == 3
    assert [error.message for error in server.errors] == ["SystemExit: flaky"] * 2
    assert "in handler" in server.errors[0].stacktrace
    assert server.errors[0].next_retry_delay_ms is None


@both_loops
async def test_a_failed_step_fails_the_attempt_and_lets_others_end() -> None:
    ran: list[str] = []
    release = asyncio.Event()

    async def flaky() -> str:
        ran.append("flaky")
        if ran.count("flaky") < 3:
            raise ValueError("not yet")
        return "flaky"

    async def slow() -> str:
        ran.append("slow")
        await release.wait()
        return "slow"

    async def handler(ctx: hf.Context) -> list[str]:
        return await asyncio.gather(ctx.run("slow", slow), ctx.run("flaky", flaky))

    server = server_of(handler)
    await server.settle()
    assert not server.errors
    release.set()
    assert await server.run() == ["slow", "flaky"]
    assert ran.count("slow") == 1
    error = server.errors[0]
    assert error.message == "step 'flaky' failed: ValueError: not yet"
    assert (error.related_command_name, error.related_command_index) == ("flaky", 2)
    assert (error.related_command_type, error.related_completion_id) == (0x0411, 2)
    assert (error.next_retry_delay_ms, error.behavior) == (None, 0)


@both_loops
async def test_the_policy_of_a_step_counts_its_failures() -> None:
    async def fail() -> None:
        raise ValueError("always")

    async def handler(ctx: hf.Context) -> str:
        policy = hf.RetryPolicy(initial_interval=1, factor=3, max_attempts=3)
        try:
            await ctx.run("fail", fail, retry=policy)
        except hf.TerminalError as error:
            return f"{error.code} {error.message}"
        return ""

    server = server_of(handler)
    assert await server.run() == "500 ValueError: always"
    assert [error.next_retry_delay_ms for error in server.errors] == [1000, 3000]


@both_loops
async def test_the_policy_of_a_step_may_pause() -> None:
    async def fail() -> None:
        raise ValueError("always")

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("x", fail, retry=hf.RetryPolicy(max_attempts=1, on_max_attempts="pause"))

    server = server_of(handler)
    server.is_retrying = False
    with pytest.raises(AssertionError, match="step 'x' failed"):
        await server.run()
    assert server.errors[0].behavior == 1


@both_loops
async def test_a_result_without_json_names_step_type_and_path() -> None:
    async def handle() -> dict[str, Any]:
        return {"a": [1, threading.Lock()]}

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("open", handle)

    server = server_of(handler)
    server.is_retrying = False
    with pytest.raises(AssertionError) as caught:
        await server.run()
    assert "The result of step 'open' cannot be recorded: a lock" in str(caught.value)
    assert "at `$.a[1]`" in str(caught.value)


@both_loops
async def test_durable_calls_inside_a_step_are_refused() -> None:
    messages: list[str] = []

    async def body(ctx: hf.Context) -> None:
        for call in (lambda: ctx.sleep(1), hf.current, lambda: ctx.run("x", double, 1)):
            with pytest.raises(hf.UsageError) as caught:
                call()
            messages.append(str(caught.value))

        async def inner() -> None:
            with pytest.raises(hf.UsageError, match="HF0501"):
                ctx.set("a", 1)
            await asyncio.sleep(0.001)  # A real timer, not a durable one.

        await asyncio.create_task(inner())

    def in_thread() -> None:
        with pytest.raises(hf.UsageError, match="HF0501"):
            hf.current()

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("outer", body, ctx)
        await ctx.run("thread", in_thread)

    server = server_of(handler)
    await server.run()
    assert messages[0].startswith("ctx.sleep inside step 'outer': durable calls inside a step")
    assert server.commands() == ["run:outer#0", "run:thread#0", "output#0"]


@both_loops
async def test_durable_calls_outside_of_a_handler_are_refused() -> None:
    leaked: list[hf.Context] = []

    async def handler(ctx: hf.Context) -> None:
        leaked.append(ctx)

    await server_of(handler).run()
    with pytest.raises(hf.UsageError, match="outside of a handler"):
        leaked[0].sleep(1)
    with pytest.raises(hf.UsageError, match="HF0502"):
        hf.current()


@both_loops
async def test_current_is_the_context_anywhere_below() -> None:
    async def deep() -> str:
        return hf.current().id

    async def handler(ctx: hf.Context) -> bool:
        return await asyncio.create_task(deep()) == ctx.id and hf.current() is ctx

    assert await server_of(handler).run() is True


# -- suspension --------------------------------------------------------------------------------------


@both_loops
async def test_suspension_lists_what_is_awaited_and_leaves_no_tasks() -> None:
    seen: list[BaseException] = []

    async def child(ctx: hf.Context) -> None:
        try:
            await ctx.sleep(10)
        except Exception as error:  # Must not catch a suspension.
            seen.append(error)

    async def handler(ctx: hf.Context) -> str:
        awakeable = ctx.awakeable(type=str)
        ctx.sleep(99)  # Nobody waits for it.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child(ctx))
                group.create_task(asyncio.sleep(20))
                waiting = group.create_task(awakeable)
        except BaseException as error:
            seen.append(error)
            with pytest.raises(hf.Suspended):
                ctx.sleep(1)
            raise
        return waiting.result()

    server = server_of(handler)
    server.is_patient = True
    await server.settle()
    assert not server.suspensions
    server.close_input()
    await asyncio.sleep(0)
    (suspension,) = server.suspensions
    assert suspension.completions == (2, 3)
    assert suspension.signals[0] == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) <= 2
    assert len(seen) == 1
    assert server.streams[0].closed == [None]
    server.signal(suspension.signals[1], value("done"))
    server.is_patient = False
    assert await server.run() == "done"


@both_loops
async def test_suspension_waits_for_steps_that_run() -> None:
    release = asyncio.Event()

    async def slow() -> int:
        await release.wait()
        return 1

    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("slow", slow)

    server = server_of(handler, is_request_response=True)
    await server.settle()
    assert not server.suspensions
    release.set()
    assert await server.run() == 1
    assert server.suspensions == [Suspension((1,), (1,))]
    assert len(server.streams) == 2


@both_loops
async def test_waiting_for_something_else_does_not_suspend() -> None:
    event = asyncio.Event()

    async def handler(ctx: hf.Context) -> int:
        await event.wait()
        return 1

    server = server_of(handler, is_request_response=True)
    await server.settle()
    event.set()
    assert await server.run() == 1
    assert not server.suspensions


@both_loops
async def test_work_in_threads_of_the_handler_is_not_waiting() -> None:
    gate = threading.Event()

    async def handler(ctx: hf.Context) -> list[str]:
        order: list[str] = []

        async def thread() -> None:
            await asyncio.to_thread(gate.wait)
            order.append("thread")

        async def sleep() -> None:
            await ctx.sleep(1)
            order.append("sleep")

        await asyncio.gather(thread(), sleep())
        return order

    server = server_of(handler, is_request_response=True)
    await server.settle()
    assert not server.suspensions
    gate.set()
    assert await server.run() == ["thread", "sleep"]


# -- abort ---------------------------------------------------------------------------------------------


@both_loops
async def test_an_aborted_attempt_stops_and_says_nothing() -> None:
    stopped: list[str] = []

    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("body")

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            stopped.append("stubborn")
            raise

    async def handler(ctx: hf.Context) -> None:
        tasks = [asyncio.create_task(stubborn())]
        try:
            await asyncio.gather(ctx.run("body", body), ctx.sleep(5), *tasks)
        finally:
            stopped.append("handler")

    server = server_of(handler)
    server.is_patient = True
    await server.settle()
    assert isinstance(server.attempt, Attempt)
    sent = len(server.streams[0].batches)
    server.attempt.abort()
    for _ in range(20):
        await asyncio.sleep(0)
    assert sorted(stopped) == ["body", "handler", "stubborn"]
    assert len(server.streams[0].batches) == sent
    assert server.streams[0].closed == ["aborted"]


@both_loops
async def test_what_the_handler_leaves_behind_is_cancelled() -> None:
    stopped: list[str] = []

    async def background(ctx: hf.Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            stopped.append("task")

    async def body() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("body")

    async def handler(ctx: hf.Context) -> int:
        task = asyncio.create_task(background(ctx))
        ctx.run("body", body)
        await ctx.run("double", double, 1)
        return 0 if task.done() else 1

    server = server_of(handler)
    server.is_patient = True
    assert await server.run() == 1
    for _ in range(10):
        await asyncio.sleep(0)
    assert sorted(stopped) == ["body", "task"]
    assert server.streams[0].closed == [None]


# -- cancellation ----------------------------------------------------------------------------------------


@both_loops
async def test_cancellation_is_raised_where_the_handler_waits() -> None:
    stopped: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            stopped.append("slow")

    async def handler(ctx: hf.Context) -> list[str]:
        caught: list[str] = []
        for wait in (
            lambda: ctx.run("slow", slow),
            lambda: ctx.call("Other/do", 1, key="k"),
            lambda: asyncio.sleep(1000),
            lambda: asyncio.wait_for(ctx.awakeable(), 5000),
        ):
            try:
                await wait()
            except hf.TerminalError as error:
                caught.append(f"{error.code} {error.message}")
                await ctx.run("compensate", double, 1)
        return caught

    server = server_of(handler, answer=lambda call: None)
    server.is_patient = True
    for _ in range(4):
        await server.settle()
        assert server.outcome is None
        server.cancel()
    await server.settle()
    journal = list(server.journal)
    assert await server.run() == ["409 cancelled"] * 4
    assert stopped == ["slow"]
    child = next(e for e in journal if isinstance(e, SendSignal))
    assert (child.index, child.result) == (1, Void())
    assert child.target_invocation_id.startswith("inv_1")
    assert len(server.signals_sent) == 1

    # The same on replay, up to any point.
    for cut in range(1, len(journal)):
        replay = server_of(handler, answer=lambda call: None, journal=journal[:cut])
        replay.is_patient = True
        for _ in range(6):
            await replay.settle()
            if replay.outcome is None:
                replay.cancel()
        assert await replay.run() == ["409 cancelled"] * 4


@both_loops
async def test_an_uncaught_cancellation_is_the_outcome() -> None:
    async def handler(ctx: hf.Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(5))
        raise AssertionError

    async def plain(ctx: hf.Context) -> None:
        await ctx.sleep(5)

    server = server_of(plain)
    server.is_patient = True
    await server.settle()
    server.cancel()
    assert await server.finish() == Failure(409, "cancelled")


# -- mismatch ----------------------------------------------------------------------------------------------


@both_loops
async def test_a_mismatch_ends_the_attempt_with_both_sides() -> None:
    async def handler(ctx: hf.Context) -> None:
        try:
            await ctx.run("new name", double, 1)
        except Exception:
            await ctx.sleep(1)

    journal = [*server_of(handler).journal, Run(1, "old name", "run:old name#0", "app.py:3 h")]
    server = server_of(handler, journal=[*journal, Completion(0x8011, 1, Value(b"1"))])
    server.is_retrying = False
    with pytest.raises(AssertionError, match="Journal mismatch"):
        await server.run()
    (error,) = server.errors
    assert isinstance(error, Error)
    assert error.code == 570
    assert "recorded:  run 'old name' at app.py:3 h" in error.message
    assert "attempted: run 'new name' at test_attempt.py:" in error.message
    assert len(server.journal) == 3


@both_loops
async def test_the_site_is_that_of_the_users_call() -> None:
    async def handler(ctx: hf.Context) -> None:
        await ctx.run("a", double, 1)
        await asyncio.sleep(1)

    server = server_of(handler)
    await server.run()
    sites = [getattr(e, "site", "") for e in server.journal if getattr(e, "site", "")]
    first, second = (site.split(" ", 1) for site in sites)
    line = handler.__code__.co_firstlineno
    assert first[0] == f"test_attempt.py:{line + 1}"
    assert second[0] == f"test_attempt.py:{line + 2}"
    assert first[1].endswith("handler")


# -- context -----------------------------------------------------------------------------------------------


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
        with pytest.raises(hf.UsageError, match="ctx.get needs a VirtualObject: S/h belongs"):
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
    assert outcome == Failure(400, "Bad input for S/h: Expected `int`, got `str` - at `$[1]`")


@both_loops
async def test_an_unknown_handler_fails_the_attempt() -> None:
    async def handler(ctx: hf.Context) -> None: ...

    server = FakeServer(app_of(handler), "S/gone")
    server.is_retrying = False
    with pytest.raises(AssertionError, match="S/gone is not served here; there is: S/h"):
        await server.run()
