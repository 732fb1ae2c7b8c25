"""Replays of recorded runs against other code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.domain.recording import Recording, decode_recording, encode_recording
from holdfast.testing import ReplayReport, environment, replay

from ..sdk.loops import both_loops

Program = Callable[[hf.Context], Awaitable[Any]]


def app_of(program: Program, name: str = "Trial") -> hf.App:
    service = hf.Service(name)

    @service.handler
    async def h(ctx: hf.Context) -> Any:
        return await program(ctx)

    return hf.App(service)


def body(text: str) -> str:
    ran.append(text)
    return text


ran: list[str] = []


async def look(ctx: hf.Context) -> str:
    return await ctx.run("look", body, "look")


async def order(ctx: hf.Context) -> str:
    quote = await ctx.run("quote", body, "10 euros")
    await asyncio.create_task(look(ctx))
    await ctx.sleep(3600)
    return f"{quote}, {await ctx.run('charge', body, 'charged')}"


async def record(program: Program, *, until_s: float | None = None) -> Recording:
    async with environment(app_of(program)) as env:
        sent = await env.client.send("Trial/h")
        await env.advance(100_000 if until_s is None else until_s)
        return await env.recording(sent.invocation_id)


async def check(program: Program, recording: Recording, **options: Any) -> ReplayReport:
    ran.clear()
    report = await replay(recording, app_of(program), **options)
    assert not ran, "no step runs"
    return report


@both_loops
async def test_the_same_code_is_ok_at_every_point() -> None:
    whole = await record(order)
    report = await check(order, whole)
    assert report.is_ok
    assert report.end == "the handler ended"
    for length in range(1, len(whole.entries)):
        part = msgspec.structs.replace(whole, entries=whole.entries[:length])
        report = await check(order, part)
        assert report.is_ok
        assert report.end in ("waits behind the last entry", "the handler ended")


@both_loops
async def test_a_renamed_step_is_shown_side_by_side() -> None:
    async def renamed(ctx: hf.Context) -> str:
        return await ctx.run("offer", body, "10 euros")

    report = await check(renamed, await record(order, until_s=1))
    assert not report.is_ok
    assert report.branch == "the handler itself"
    assert report.recorded.startswith("run 'quote' at test_rerun.py:")
    assert report.attempted.startswith("run 'offer' at test_rerun.py:")
    assert f"recorded:  {report.recorded}\n  attempted: {report.attempted}" in str(report)


@both_loops
async def test_a_renamed_task_is_found_before_its_steps_run_again() -> None:
    async def inspect(ctx: hf.Context) -> str:
        return await ctx.run("look", body, "look")

    async def renamed(ctx: hf.Context) -> str:
        await ctx.run("quote", body, "10 euros")
        await asyncio.create_task(inspect(ctx))
        return "done"

    report = await check(renamed, await record(order, until_s=1))
    assert not report.is_ok
    assert "look[0]" in report.branch
    assert "inspect[0]" in report.attempted


@both_loops
async def test_what_is_recorded_and_not_asked_for_any_more() -> None:
    async def shorter(ctx: hf.Context) -> str:
        return await ctx.run("quote", body, "10 euros")

    async def waits(ctx: hf.Context) -> Any:
        return await ctx.awakeable()

    async def fails(ctx: hf.Context) -> str:
        raise ValueError("no quote")

    recording = await record(order, until_s=1)
    assert (await check(shorter, recording)).attempted == "the handler has ended"
    assert (await check(waits, recording)).attempted == "waits behind the last entry"
    assert "ValueError: no quote" in (await check(fails, recording)).attempted


@both_loops
async def test_code_that_goes_on_behind_the_recording_is_ok() -> None:
    async def longer(ctx: hf.Context) -> str:
        return await order(ctx) + await ctx.run("receipt", body, "receipt")

    recording = await record(order, until_s=1)
    assert (await check(longer, recording)).is_ok
    whole = await record(order)
    report = await check(longer, whole)
    assert not report.is_ok, "what has ended cannot go on"


@both_loops
async def test_a_gate_makes_a_change_ok() -> None:
    async def gated(ctx: hf.Context) -> str:
        if ctx.patched("greet"):
            await ctx.run("greet", body, "hello")
        return await order(ctx)

    report = await check(gated, await record(order, until_s=1))
    assert report.is_ok, report
    assert (await check(gated, await record(gated, until_s=1))).is_ok


@both_loops
async def test_another_result_or_parameter_is_no_divergence() -> None:
    async def other(ctx: hf.Context) -> str:
        return (await order(ctx)).upper()

    report = await check(other, await record(order))
    assert report.is_ok
    assert report.differences == ("another result than the recorded one",)


@both_loops
async def test_a_handler_that_is_gone() -> None:
    recording = await record(order, until_s=1)
    report = await replay(recording, app_of(order, "Other"))
    assert not report.is_ok
    assert report.attempted == "not served here; there is: Other/h"


@both_loops
async def test_a_handler_that_waits_for_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck(ctx: hf.Context) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("holdfast.testing.rerun._PATIENCE_S", 0.05)
    report = await check(stuck, await record(order, until_s=1))
    assert "not durable" in report.attempted


@both_loops
async def test_strict_replays_refuse_clocks() -> None:
    async def late(ctx: hf.Context) -> str:
        time.time()
        return await order(ctx)

    recording = await record(order, until_s=1)
    assert (await check(late, recording)).is_ok
    report = await check(late, recording, strict=True)
    assert not report.is_ok
    assert isinstance(report.error, hf.UsageError)
    assert "time.time()" in report.attempted


async def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    async with environment(app_of(order)) as env:
        sent = await env.client.send("Trial/h", headers={"authorization": "Bearer x", "a": "b"})
        await env.settle()
        recording = await env.recording(sent.invocation_id)
        with pytest.raises(hf.NotFoundError):
            await env.recording(f"{sent.invocation_id[:-4]}zzzz")
    content = encode_recording(recording)
    assert decode_recording(content) == recording
    assert dict(recording.entries[0].headers)["authorization"] == "Bearer x"  # type: ignore[union-attr]
    file = tmp_path / "run.json"
    file.write_bytes(content)
    assert (await replay(file, app_of(order))).is_ok
    for bad in (b"", b"[]", b"{}", content.replace(b'"format":1', b'"format":2'), b"\xff"):
        with pytest.raises(hf.UsageError, match="HF0553"):
            decode_recording(bad)


def test_files_of_the_first_version_stay_readable() -> None:
    recording = decode_recording(
        '{"format":1,"status":"suspended","start":[0,"inv_1","S","h","",3,{},true,0,0,7,2,1000],'
        '"entries":[[1024,[5,"MQ=="]],[1041,1,"a","run:a#0","a.py:1 h"],'
        '[32768,32785,1,[5,"IngiCg=="],1001]]}'
    )
    assert recording.target == "S/h"
    assert len(recording.entries) == 3
