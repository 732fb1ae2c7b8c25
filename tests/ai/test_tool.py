"""Tool calls of hand-written loops and adapters."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast import ai
from holdfast.sdk.interrupt import Carried
from holdfast.testing import environment

ran: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ran.clear()


class Rejected(Exception):
    """What a tool raises, with an attribute of its own."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def refuse(reason: str) -> str:
    ran["refuse"] += 1
    raise Rejected(reason)


async def double(number: int) -> int:
    ran[f"double {number}"] += 1
    await asyncio.sleep(0)
    return number * 2


def square(number: int) -> int:
    ran[f"square {number}"] += 1
    return number * number


async def wait_and_double(number: int) -> int:
    ran[f"entered {number}"] += 1
    ctx = hf.current()
    await ctx.sleep(3600)
    return await ctx.run("double", double, number)


async def run_handler(handler: Any, *crashes: str, every: bool = False) -> Any:
    service = hf.Service("Tools", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=50))
    service.handler(handler)
    async with environment(hf.App(service)) as env:
        for crash in crashes:
            env.crash_at(crash, every=every)
        return await env.client.call(f"Tools/{handler.__name__}")


async def test_parallel_calls_in_all_modes() -> None:
    async def go(ctx: hf.Context) -> list[int]:
        scoped = ai.ToolOptions(mode="scoped")
        with ai.agent_scope("a"):
            return await asyncio.gather(
                ai.durable_tool_call("double", "1", double, {"number": 1}),
                ai.durable_tool_call("double", "2", double, [2]),
                ai.durable_tool_call("square", "3", square, {"number": 3}),
                ai.durable_tool_call("wait", "4", wait_and_double, {"number": 4}, own=scoped),
            )

    assert await run_handler(go, "after:step", every=True) == [2, 4, 9, 8]
    assert {name: count for name, count in ran.items() if "entered" not in name} == {
        "double 1": 1,
        "double 2": 1,
        "square 3": 1,
        "double 4": 1,
    }


async def test_a_finished_scoped_call_is_not_entered_again() -> None:
    async def enter() -> int:
        ran["entered"] += 1
        return sum(await asyncio.gather(*(hf.current().run("d", double, n) for n in (1, 2))))

    async def go(ctx: hf.Context) -> int:
        scoped = ai.ToolOptions(mode="scoped")
        found = await ai.durable_tool_call("enter", "4", enter, own=scoped)
        ran["behind"] += 1
        await ctx.run("behind", str, "x")
        return found

    assert await run_handler(go, "after:behind", "before:output") == 6
    assert ran["behind"] == 3
    assert ran["entered"] == 1


async def test_a_scoped_call_is_entered_again_for_signals() -> None:
    """What it took of a queue it has to take again, or another one would."""
    service = hf.Service("Tools", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=9))

    async def listen() -> str:
        ran["entered"] += 1
        return await hf.current().signal("word", str)

    @service.handler
    async def go(ctx: hf.Context) -> list[str]:
        scoped = ai.ToolOptions(mode="scoped")
        first = await ai.durable_tool_call("listen", "1", listen, own=scoped)
        return [first, await ctx.signal("word", str)]

    async with environment(hf.App(service)) as env:
        env.crash_at("before:output")
        sent = await env.client.send(go)
        for word in ("a", "b"):
            await env.client.signal(sent.invocation_id, "word", word)
        assert await env.client.attach(sent.invocation_id, type=list[str]) == ["a", "b"]
    assert ran["entered"] == 2


@pytest.mark.parametrize("mode", ["step", "scoped"])
async def test_feed_hands_the_error_on(mode: Any) -> None:
    """To whoever calls the tool, with its type, the first time and at replay."""
    seen: list[Exception] = []

    async def go(ctx: hf.Context) -> str:
        options = ai.Options(tool_mode=mode)
        with ai.agent_scope("a", options):
            try:
                return await ai.durable_tool_call("refuse", "1", refuse, ["closed"])
            except Rejected as error:
                seen.append(error)
                await ctx.run("told", str, "told")
                return f"told {error.reason}"

    assert await run_handler(go, "after:told") == "told closed"
    assert ran["refuse"] == 1
    assert len(seen) == 2
    assert all(isinstance(error, hf.TerminalError) for error in seen)
    assert {str(error) for error in seen} == {"closed"}


@pytest.mark.parametrize("on_error", ["fail", "stop"])
async def test_fail_and_stop_end_the_run(on_error: Any) -> None:
    """Past the handlers of a framework, and no further than the run."""

    async def go(ctx: hf.Context) -> str:
        try:
            with ai.agent_scope("a", ai.Options(on_tool_error=on_error)):
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(ai.durable_tool_call("refuse", "1", refuse, ["no"]))
                except Exception:
                    return "a framework made a text of it"
        except ai.LoopStopped as error:
            return f"stopped by {error.tool_name} {error.call_id}: {error.error}"
        except Rejected as error:
            return f"failed: {error}"
        return "nothing happened"

    expected = "failed: no" if on_error == "fail" else "stopped by refuse 1: no"
    assert await run_handler(go, "after:step") == expected


async def test_without_a_run_around_it_the_error_is_raised() -> None:
    async def go(ctx: hf.Context) -> str:
        options = ai.Options(on_tool_error="stop")
        try:
            return await ai.durable_tool_call("refuse", "1", refuse, ["no"], options=options)
        except ai.LoopStopped as error:
            return str(error)

    assert await run_handler(go) == "tool 'refuse' stopped the loop: no"


async def test_retries_come_before_the_error() -> None:
    async def go(ctx: hf.Context) -> str:
        options = ai.Options(tool_retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=3))
        try:
            return await ai.durable_tool_call("refuse", "1", refuse, ["busy"], options=options)
        except Rejected as error:
            return f"{type(error).__name__}: {error.reason}"

    assert await run_handler(go) == "Rejected: busy"
    assert ran["refuse"] == 3


async def test_the_durable_context_in_a_step_is_a_mistake() -> None:
    """It is for the author: no model is told of it."""

    async def go(ctx: hf.Context) -> str:
        with ai.agent_scope("a"):
            try:
                return str(await ai.durable_tool_call("wait", "1", wait_and_double, [1]))
            except Exception:
                return "the model was told"

    with pytest.raises(hf.TerminalError, match=r"used the durable context inside a step.*HF0601"):
        await run_handler(go)


async def test_a_plain_tool_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async def go(ctx: hf.Context) -> int:
        plain = ai.ToolOptions(mode="plain")
        found = await ai.durable_tool_call("double", "1", double, [1], own=plain)
        await ctx.run("behind", str, "x")
        return found

    with caplog.at_level(logging.WARNING, "holdfast.ai"):
        assert await run_handler(go, "after:behind") == 2
    assert ran["double 1"] == 2
    assert [r.getMessage() for r in caplog.records].count(
        "tool 'double' is plain: its calls are not recorded, and run again at each replay"
    ) == 1


async def test_results_go_through_encode_and_decode() -> None:
    async def go(ctx: hf.Context) -> bool:
        found: set[int] = await ai.durable_tool_call(
            "set", "1", lambda: {1, 2}, encode=sorted, decode=set
        )
        return found == {1, 2}

    assert await run_handler(go, "after:step") is True


class Booking(msgspec.Struct):
    """What a tool returns."""

    seats: int


async def test_calls_are_described() -> None:
    service = hf.Service("Tools", retry=hf.RetryPolicy(initial_interval=0.001, max_attempts=9))

    async def book(seats: int) -> Booking:
        return Booking(seats)

    @service.handler
    async def go(ctx: hf.Context) -> int:
        scoped = ai.ToolOptions(mode="scoped")
        with ai.agent_scope("booker"):
            booked = await ai.durable_tool_call("book", "c1", book, {"seats": 2})
            again = await ai.durable_tool_call("book", "c2", book, [3], own=scoped)
            with pytest.raises(Rejected):
                await ai.durable_tool_call("refuse", "c3", refuse, ["no"])
        return booked.seats + again.seats

    async with environment(hf.App(service)) as env:
        sent = await env.client.send(go)
        assert await env.client.attach(sent.invocation_id, type=int) == 5
        details = await env._host.details.of(sent.invocation_id)
        contents = await env._host.details.contents(details)
    calls: list[Any] = [detail.row.call for detail in details]
    assert [(call.name, call.call_id, call.error) for call in calls] == [
        ("book", "c1", ""),
        ("book", "c2", ""),
        ("refuse", "c3", "Rejected: no"),
    ]
    assert {call.agent_name for call in calls} == {"booker"}
    assert [content.answer for content in contents] == [b'{"seats":2}', b'{"seats":3}', None]
    assert contents[0].messages == (b'{"seats":2}',)


async def test_an_unknown_outcome_is_found_out() -> None:
    """The body has run and its result was lost: `verify` knows, and it is not run again."""
    asked: list[tuple[str, int]] = []

    async def verify(idempotency_key: str, number: int) -> Any:
        asked.append((idempotency_key, number))
        return hf.Happened(number * 2)

    async def go(ctx: hf.Context) -> int:
        pay = ai.ToolOptions(on_unknown="verify", verify=verify)
        return await ai.durable_tool_call("double", "1", double, {"number": 5}, own=pay)

    assert await run_handler(go, "during:double") == 10
    assert ran["double 5"] == 1
    assert [number for _, number in asked] == [5]


async def test_an_unknown_outcome_may_fail() -> None:
    async def go(ctx: hf.Context) -> str:
        pay = ai.ToolOptions(on_unknown="fail")
        try:
            return str(await ai.durable_tool_call("double", "1", double, [5], own=pay))
        except hf.TerminalError:
            return "nobody knows"

    assert await run_handler(go, "during:double") == "nobody knows"
    assert ran["double 5"] == 1


async def test_nested_runs_end_one_by_one() -> None:
    """A tool that is an agent: what ends the inner run is an error of the outer tool."""

    async def inner() -> str:
        with ai.agent_scope("inner", ai.Options(on_tool_error="fail")) as run:
            assert run.parent is not None
            assert run.parent.name == "outer"
            return await ai.durable_tool_call("refuse", "1", refuse, ["no"])

    async def go(ctx: hf.Context) -> str:
        assert ai.current_agent() is None
        with ai.agent_scope("outer"):
            scoped = ai.ToolOptions(mode="scoped")
            try:
                return await ai.durable_tool_call("inner", "2", inner, own=scoped)
            except Rejected as error:
                return f"told {error}"

    assert await run_handler(go, "after:step", every=True) == "told no"
    assert ran["refuse"] == 1


async def test_a_carried_error_ends_the_handler_with_it() -> None:
    async def go(ctx: hf.Context) -> str:
        raise Carried(hf.TerminalError("over", code=418))

    with pytest.raises(hf.TerminalError, match="over") as ended:
        await run_handler(go)
    assert ended.value.code == 418
