"""Handlers against a server in memory: steps, failures, suspension, cancellation, endings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
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
    Value,
    Void,
)

from .fake_server import FakeServer
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
async def test_the_policy_of_a_step_may_end_the_invocation() -> None:
    async def fail() -> None:
        raise ValueError("always")

    caught: list[BaseException] = []

    async def handler(ctx: hf.Context) -> None:
        policy = hf.RetryPolicy(max_attempts=2, on_max_attempts="kill")
        try:
            await ctx.run("x", fail, retry=policy)
        except Exception as error:
            caught.append(error)

    server = server_of(handler)
    outcome = await server.finish()
    assert outcome == Failure(500, "step 'x' failed: ValueError: always")
    assert [error.behavior for error in server.errors] == [0, 2]
    assert [error.failed_steps for error in server.errors] == [(1,), (1,)]
    assert not caught


@both_loops
async def test_each_of_several_failed_steps_is_counted() -> None:
    ran: list[str] = []

    async def fail(name: str) -> None:
        ran.append(name)
        raise ValueError(name)

    async def handler(ctx: hf.Context) -> list[str]:
        policy = hf.RetryPolicy(max_attempts=2)
        steps = [ctx.run(name, fail, name, retry=policy) for name in "abc"]
        results = await asyncio.gather(*steps, return_exceptions=True)
        return [str(result) for result in results]

    server = server_of(handler)
    results = await server.run()
    assert [result.split(": ")[-1] for result in results] == ["a", "b", "c"]
    assert sorted(ran) == ["a", "a", "b", "b", "c", "c"]
    (error,) = server.errors
    assert error.failed_steps == (1, 2, 3)
    assert (error.related_completion_id, error.related_command_name) == (1, "a")


@both_loops
async def test_a_step_that_fails_beside_the_handler_is_counted() -> None:
    async def fail() -> None:
        await asyncio.sleep(0.001)
        raise ValueError("step")

    async def handler(ctx: hf.Context) -> None:
        ctx.run("x", fail)
        raise ValueError("handler")

    server = server_of(handler)
    server.is_retrying = False
    with pytest.raises(AssertionError, match="ValueError: handler"):
        await server.run()
    assert server.errors[0].failed_steps == (1,)


@both_loops
@pytest.mark.parametrize(("policy", "behavior"), [("pause", 1), ("kill", 2)])
async def test_a_used_up_step_decides_even_if_another_failed_first(
    policy: Any, behavior: int
) -> None:
    async def fail(delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        raise ValueError(str(delay_s))

    async def handler(ctx: hf.Context) -> None:
        last = hf.RetryPolicy(max_attempts=1, on_max_attempts=policy)
        await asyncio.gather(ctx.run("a", fail, 0), ctx.run("b", fail, 0.01, retry=last))

    server = server_of(handler)
    server.is_retrying = False
    if policy == "kill":
        assert isinstance(await server.finish(), Failure)
    else:
        with pytest.raises(AssertionError):
            await server.finish()
    (error,) = server.errors
    assert (error.behavior, error.related_command_name) == (behavior, "b")
    assert (error.related_completion_id, error.failed_steps) == (1, (1, 2))


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


@both_loops
async def test_durable_calls_in_threads_are_refused() -> None:
    async def handler(ctx: hf.Context) -> str:
        with pytest.raises(hf.UsageError, match="in a thread of its own") as caught:
            await asyncio.to_thread(ctx.sleep, 1)
        return caught.value.code

    assert await server_of(handler).run() == "HF0502"


# -- cancellation ---------------------------------------------------------------------------------


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
    async def grouped(ctx: hf.Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep(5))
            group.create_task(ctx.sleep(6))

    async def plain(ctx: hf.Context) -> None:
        await ctx.sleep(5)

    for handler in (plain, grouped):
        server = server_of(handler)
        server.is_patient = True
        await server.settle()
        server.cancel()
        assert await server.finish() == Failure(409, "cancelled")


@both_loops
async def test_a_group_of_terminal_errors_is_terminal_and_a_mixed_one_is_not() -> None:
    calls = 0

    async def refuse(message: str) -> None:
        raise hf.TerminalError(message, code=400)

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(refuse("one"))

    async def flaky() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError

    async def handler(ctx: hf.Context) -> None:
        with pytest.raises(hf.TerminalError, match="one"):
            await ctx.run("both", both)
        async with asyncio.TaskGroup() as group:
            group.create_task(flaky())
            group.create_task(refuse("two"))

    server = server_of(handler)
    assert await server.finish() == Failure(400, "two")
    assert [e.message for e in server.errors] == [
        "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions)"
    ]


# -- mismatch -------------------------------------------------------------------------------------


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
