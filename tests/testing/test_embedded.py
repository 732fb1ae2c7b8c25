"""Virtual time, crashes and replays of the test environment."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import holdfast as hf
from holdfast.engine.row import Status
from holdfast.testing import environment

from ..sdk.loops import both_loops

MONTH = timedelta(days=30)
START = datetime(2030, 1, 1, tzinfo=UTC)

trial = hf.Service("Trial")
box = hf.VirtualObject("Box")


class Calls(list[str]):
    """What bodies of steps did."""

    def note(self, text: str) -> str:
        self.append(text)
        return text

    async def slow(self, text: str) -> str:
        await asyncio.sleep(0.02)  # the real clock: a step is real
        return self.note(text)


calls = Calls()


@pytest.fixture(autouse=True)
def fresh_calls() -> None:
    calls.clear()


@trial.handler
async def wait(ctx: hf.Context, days: int) -> str:
    await ctx.run("begin", calls.note, "begin")
    await ctx.sleep(timedelta(days=days))
    await ctx.run("end", calls.note, "end")
    return ctx.now().isoformat()


@trial.handler
async def race(ctx: hf.Context) -> str:
    try:
        async with asyncio.timeout(3600):
            return await ctx.run("slow", calls.slow, "done")
    except TimeoutError:
        return "late"


@trial.handler
async def many(ctx: hf.Context, count: int) -> list[str]:
    names = await asyncio.gather(*(ctx.run(f"s{i}", calls.note, f"s{i}") for i in range(count)))
    await asyncio.sleep(10)
    return names + [await ctx.call(add, i, key="a", type=str) for i in range(2)]


@trial.handler
async def approval(ctx: hf.Context) -> str:
    promise = ctx.awakeable(type=str)
    await ctx.run("ask", calls.note, promise.id)
    try:
        async with asyncio.timeout(timedelta(days=1).total_seconds()):
            return await promise
    except TimeoutError:
        return "nobody answered"


@trial.handler
async def flaky(ctx: hf.Context) -> str:
    def fail() -> str:
        calls.append("try")
        if len(calls) < 4:
            raise ValueError("not yet")
        return "at last"

    return await ctx.run("fail", fail, retry=hf.RetryPolicy(initial_interval=60, factor=10))


@trial.handler(retry=hf.RetryPolicy(max_attempts=2, on_max_attempts="pause"))
async def broken(ctx: hf.Context) -> None:
    raise ValueError("no")


@trial.handler
async def dice(ctx: hf.Context) -> str:
    calls.append("x")
    await ctx.run(f"attempt {len(calls)}", calls.note, "y")
    await ctx.sleep(1)
    return "never"


@trial.handler
async def stuck(ctx: hf.Context) -> None:
    await asyncio.get_running_loop().create_future()


@box.handler
async def add(ctx: hf.Context, item: int) -> str:
    items = (await ctx.get("items", type=list[int]) or []) + [item]
    ctx.set("items", items)
    return ",".join(map(str, items))


app = hf.App(trial, box)


@both_loops
async def test_a_month_passes_at_once() -> None:
    async with environment(app, start=START) as env:
        assert env.now == START
        await env.client.call(wait, 1)
        begun = time.perf_counter()
        said = await env.client.call(wait, 30)
        assert time.perf_counter() - begun < 0.5, "50 ms on a machine that does nothing else"
        assert env.now == START + timedelta(days=31)
        assert datetime.fromisoformat(said) == env.now


@both_loops
async def test_waiting_attempts_are_suspended_in_virtual_time() -> None:
    async with environment(app) as env:
        sent = await env.client.send(wait, 30)
        await env.advance(59)
        row = await env._host.invocation(sent.invocation_id)
        assert row is not None
        assert row.status is Status.RUNNING
        await env.advance(2)
        row = await env._host.invocation(sent.invocation_id)
        assert row is not None
        assert row.status is Status.SUSPENDED


@both_loops
async def test_a_handler_that_waits_for_the_world_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("holdfast.testing.embedded._PUZZLING_TURNS", 20)
    async with environment(app) as env:
        await env.client.send(stuck)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(env.settle(), 0.05)
    assert "not durable: Trial/stuck inv_1" in caplog.text


@trial.handler
async def told(ctx: hf.Context) -> str:
    return await ctx.signal("go", str)


@both_loops
async def test_what_nobody_sends_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("holdfast.testing.embedded._STUCK_ROUNDS", 5)
    async with environment(hf.App(trial)) as env:
        sent = await env.client.send(told)
        result = asyncio.create_task(env.client.attach(sent.invocation_id))
        async with asyncio.timeout(5):
            while "nothing more happens by itself" not in caplog.text:
                await asyncio.sleep(0)
        await env.client.signal(sent.invocation_id, "go", "on")
        assert await result == "on"
    assert f"{sent.invocation_id} of Trial/told" in caplog.text


@both_loops
async def test_time_stands_while_nobody_waits() -> None:
    async with environment(app, start=START) as env:
        sent = await env.client.send(wait, 30)
        await env.settle()
        assert calls == ["begin"]
        await env.advance(MONTH - timedelta(milliseconds=1))
        assert await env.client.output(sent.invocation_id, default="open") == "open"
        await env.advance(0.001)
        assert calls == ["begin", "end"]
        assert await env.client.output(sent.invocation_id, type=str)
        assert env.now == START + MONTH


@both_loops
async def test_time_stands_while_a_step_works() -> None:
    async with environment(app) as env:
        assert await env.client.call(race) == "done"


@both_loops
async def test_timeouts_come_when_nothing_else_can() -> None:
    async with environment(app, start=START) as env:
        assert await env.client.call(approval) == "nobody answered"
        assert env.now == START + timedelta(days=1)
        sent = await env.client.send(approval)
        await env.settle()
        await env.advance(timedelta(hours=23))
        await env.client.resolve(calls[-1], "yes")
        assert await env.client.attach(sent.invocation_id, type=str) == "yes"
        assert env.now == START + timedelta(hours=47)


@both_loops
async def test_without_autojump_only_the_test_moves_time() -> None:
    async with environment(app, autojump=False) as env:
        waiting = asyncio.ensure_future(env.client.call(wait, 1))
        await env.settle()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await env.advance(timedelta(days=1))
        assert await waiting


@both_loops
async def test_retries_wait_in_virtual_time() -> None:
    async with environment(app, start=START) as env:
        assert await env.client.call(flaky) == "at last"
        assert len(calls) == 4
        assert env.now >= START + timedelta(minutes=3)


@both_loops
async def test_what_is_paused_fails_the_test() -> None:
    async with environment(app) as env:
        with pytest.raises(hf.HoldfastError, match=r"paused after: ValueError: no.*HF0551"):
            await env.client.call(broken)


@pytest.mark.parametrize(
    ("point", "done", "bodies"),
    [
        ("before:step 2", "before step 2 's1'", 3),
        ("during:s1", "during step 2 's1'", 4),
        ("after:step 3", "after step 3 's2'", 3),
        ("after:sleep", "after sleep 1", 3),
        ("before:call", "before call 1 'Box.add'", 3),
        ("after:Box/add", "after call 1 'Box.add'", 3),
        ("after:set", "after set 1 'items'", 3),
        ("after:output", "after output 1", 3),
    ],
)
@both_loops
async def test_a_crash_repeats_only_what_was_not_recorded(
    point: str, done: str, bodies: int
) -> None:
    async with environment(app) as env:
        env.crash_at(point)
        assert await env.client.call(many, 3) == ["s0", "s1", "s2", "0", "0,1"]
        assert len(env.crashes) == 1
        assert env.crashes[0].startswith(f"{done} of inv_1")
        assert len(calls) >= bodies
        assert point == "during:s1" or len(set(calls)) == 3


@pytest.mark.parametrize("always_replay", [False, True])
@pytest.mark.parametrize("when", ["before", "during", "after"])
@both_loops
async def test_a_crash_at_every_operation(when: str, always_replay: bool) -> None:
    async with environment(app, always_replay=always_replay) as env:
        for what in ("step", "sleep", "call", "set", "get", "output"):
            if when != "during" or what == "step":
                env.crash_at(f"{when}:{what}", every=True)
        assert await env.client.call(many, 3) == ["s0", "s1", "s2", "0", "0,1"]
        assert len(env.crashes) == len(set(env.crashes)) >= 3


@both_loops
async def test_a_crash_that_never_came_is_a_mistake() -> None:
    with pytest.raises(hf.UsageError, match=r"'after:step 9'.*HF0550"):  # noqa: PT012
        async with environment(app) as env:
            env.crash_at("after:step 9")
            await env.client.call(wait, 1)
    async with environment(app) as env:
        with pytest.raises(hf.UsageError, match=r"'step 9' is not a place.*HF0550"):
            env.crash_at("step 9")


@both_loops
async def test_always_replay_finds_what_is_not_deterministic() -> None:
    async with environment(app) as env:
        assert await env.client.call(dice) == "never", "one attempt does not show it"
    async with environment(app, always_replay=True) as env:
        with pytest.raises(hf.JournalMismatch, match=r"recorded:  run .attempt 3"):
            await env.client.call(dice)


@both_loops
async def test_a_mismatch_that_nobody_waited_for_is_told_at_the_end() -> None:
    with pytest.raises(hf.JournalMismatch):  # noqa: PT012
        async with environment(app, always_replay=True) as env:
            await env.client.send(dice)
            with pytest.raises(hf.JournalMismatch):
                await env.advance(1)
            env._is_problem_told = False


@both_loops
async def test_always_replay_runs_each_step_once() -> None:
    async with environment(app, always_replay=True) as env:
        await env.client.call(many, 3)
        assert sorted(calls) == ["s0", "s1", "s2"]


@both_loops
async def test_the_journal_is_shown() -> None:
    async with environment(app) as env:
        sent = await env.client.send(many, 2)
        await env.client.attach(sent.invocation_id, type=list[str])
        journal = await env.journal(sent.invocation_id)
        assert [entry["kind"] for entry in journal][:2] == ["Command: Input", "Command: Run"]
        assert journal[1]["name"] == "s0"
        assert await env.steps(sent.invocation_id) == ["s0", "s1"]


@both_loops
async def test_a_store_on_disk_goes_on_in_another_environment(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'a.db'}"
    async with environment(app, store=store, start=START) as env:
        sent = await env.client.send(wait, 30)
        await env.advance(timedelta(days=10))
    async with environment(app, store=store, start=START + MONTH) as env:
        assert await env.client.attach(sent.invocation_id, type=str)
        assert calls == ["begin", "end"]


async def test_it_leaves_the_app_as_it_was() -> None:
    clock = app.clock
    async with environment(app):
        assert app.clock is not clock
    assert app.clock is clock
    with pytest.raises(hf.UsageError, match="time zone"):
        async with environment(app, start=datetime(2030, 1, 1)):  # noqa: DTZ001
            pass
