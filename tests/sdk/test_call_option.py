"""Options of calls and handlers, with a server in this process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.sdk.moment import start_ms

NOW_MS = 1_700_000_000_000
QUICK = hf.RetryPolicy(initial_interval=0.001, factor=1, max_attempts=2, on_max_attempts="kill")

service = hf.Service("S", retry=hf.RetryPolicy(initial_interval=30))
box = hf.VirtualObject("Box")
log: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> None:
    log.clear()


@service.handler
async def fail(ctx: hf.Context, text: str) -> None:
    log.append(text)
    raise ValueError(text)


@service.handler
async def fail_by_call(ctx: hf.Context) -> str:
    try:
        await ctx.call(fail, "called", retry=QUICK)
    except hf.TerminalError as error:
        return error.message
    return ""


@service.handler
async def fail_by_send(ctx: hf.Context) -> str:
    return await ctx.send("S/fail", "sent", retry=QUICK)


@service.handler
async def refuse(ctx: hf.Context, depth: int) -> None:
    if depth:
        await ctx.call(refuse, depth - 1)
    raise hf.TerminalError("no", code=418, metadata={"why": "tea"}) from ValueError("cause")


@box.handler
async def put(ctx: hf.Context, number: int) -> None:
    log.append((ctx.key, number, ctx.headers.get("x-from")))


@box.handler
async def answer(ctx: hf.Context, text: str) -> list[str]:
    return [ctx.key, text, ctx.headers.get("x-from", "")]


@service.handler
async def put_all(ctx: hf.Context, keys: list[str]) -> None:
    for number in range(20):
        for key in keys:
            ctx.send(put, number, key=key)


@service.handler
async def ask_both_ways(ctx: hf.Context) -> list[list[str]]:
    options: dict[str, Any] = {"headers": {"x-from": "me"}, "idempotency_key": "i"}
    typed = await ctx.call(answer, "a", key="k", **options)
    named = await ctx.call("Box/answer", "b", type=list[str], key="k", **options)
    other = await ctx.call("Box/answer", "c", type=list[str], key="k2", **options)
    return [typed, named, other]


@service.handler
async def remind(ctx: hf.Context, at: datetime) -> None:
    await ctx.send(put, 7, key="k", at=at)
    await ctx.send(put, 6, key="k", at=datetime(2020, 1, 1, tzinfo=UTC))


@service.handler(invocation_timeout=0.05, abort_timeout=0.05)
async def tidy(ctx: hf.Context, how: str) -> str:
    try:
        await ctx.sleep(60)
    except hf.TerminalError as error:
        if how == "ends":
            return await ctx.run("undo", str, f"{error.code} {error.message}")
        await ctx.sleep(60)
    return ""


app = hf.App(service, box)


@pytest.mark.parametrize("store", ["memory:", "sqlite:{}/a.db"])
async def test_a_call_and_a_send_have_their_own_policy(store: str, tmp_path: Path) -> None:
    store = store.format(tmp_path)
    async with hf.embedded(app, store=store) as client, asyncio.timeout(10):
        assert await client.call(fail_by_call) == "ValueError: called"
        child = await client.call(fail_by_send)
        with pytest.raises(hf.TerminalError, match="ValueError: sent"):
            await client.attach(child)
        with pytest.raises(hf.TerminalError, match="ValueError: client"):
            await client.call(fail, "client", retry=QUICK)
        sent = await client.send(fail, "client send", retry=QUICK)
        with pytest.raises(hf.TerminalError, match="ValueError: client send"):
            await client.attach(sent.invocation_id)
    assert log == [each for each in ("called", "sent", "client", "client send") for _ in range(2)]


async def test_a_terminal_error_travels_unchanged() -> None:
    async with hf.embedded(app, store="memory:", partition_count=4) as client:
        with pytest.raises(hf.TerminalError) as caught:
            await client.call(refuse, 3)
    assert (caught.value.message, caught.value.code) == ("no", 418)
    assert caught.value.metadata == {"why": "tea"}


@pytest.mark.parametrize("partition_count", [1, 8])
async def test_sends_of_one_handler_to_one_key_keep_their_order(partition_count: int) -> None:
    keys = ["a", "b", "c", "d"]
    async with hf.embedded(app, store="memory:", partition_count=partition_count) as client:
        await client.call(put_all, keys)
        async with asyncio.timeout(10):
            while len(log) < 80:
                await asyncio.sleep(0.001)
    for key in keys:
        assert [number for k, number, _ in log if k == key] == list(range(20))


async def test_headers_and_idempotency_keys_by_function_and_by_name() -> None:
    async with hf.embedded(app, store="memory:") as client:
        assert await client.call(ask_both_ways) == [
            ["k", "a", "me"],
            ["k", "a", "me"],  # The same key made it the same invocation.
            ["k2", "c", "me"],
        ]


async def test_a_send_at_a_time() -> None:
    async with hf.embedded(app, store="memory:") as client, asyncio.timeout(10):
        soon = datetime.now(UTC) + timedelta(seconds=0.05)
        await client.send(put, 2, key="k", at=soon)
        await client.send(put, 1, key="k", at=datetime(2020, 1, 1, tzinfo=UTC))
        while len(log) < 2:
            await asyncio.sleep(0.001)
        assert datetime.now(UTC) >= soon
    assert [number for _, number, _ in log] == [1, 2]


async def test_a_handler_sends_at_a_time() -> None:
    async with hf.embedded(app, store="memory:") as client, asyncio.timeout(10):
        soon = datetime.now(UTC) + timedelta(seconds=0.05)
        await client.call(remind, soon)
        while len(log) < 2:
            await asyncio.sleep(0.001)
        assert datetime.now(UTC) >= soon
    assert [number for _, number, _ in log] == [6, 7]


@pytest.mark.parametrize(
    ("delay", "at", "expected"),
    [
        (None, None, 0),
        (0, None, 0),
        (1.5, None, NOW_MS + 1_500),
        (None, datetime.fromtimestamp(NOW_MS / 1000 + 2, UTC), NOW_MS + 2_000),
        (None, datetime.fromtimestamp(NOW_MS / 1000 - 2, UTC), 0),
    ],
)
def test_when_to_start(delay: float | None, at: datetime | None, expected: int) -> None:
    assert start_ms(delay, at, NOW_MS) == expected


@pytest.mark.parametrize(
    ("delay", "at", "message"),
    [
        (None, datetime(2030, 1, 1), "has no time zone"),  # noqa: DTZ001
        (1, datetime(2030, 1, 1, tzinfo=UTC), "both say when"),
        (None, "2030-01-01", "must be a datetime"),
    ],
)
async def test_wrong_times_are_refused(delay: float | None, at: Any, message: str) -> None:
    with pytest.raises(hf.UsageError, match=message) as caught:
        start_ms(delay, at, NOW_MS)
    assert caught.value.code == "HF0531"
    async with hf.embedded(app, store="memory:") as client:
        with pytest.raises(hf.UsageError, match=message):
            await client.send(put, 1, key="k", delay=delay, at=at)


async def test_a_handler_that_is_out_of_time_is_told_and_may_compensate() -> None:
    async with hf.embedded(app, store="memory:") as client, asyncio.timeout(10):
        result = await client.call(tidy, "ends")
        assert result == "409 cancelled: not done 0.05 s after it was due [HF2030]"


async def test_a_handler_that_does_not_end_in_time_is_killed() -> None:
    async with hf.embedded(app, store="memory:") as client, asyncio.timeout(10):
        with pytest.raises(hf.TerminalError, match="killed: not done") as caught:
            await client.call(tidy, "goes on")
        assert caught.value.code == 409
