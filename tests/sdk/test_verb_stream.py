"""Writing to streams: from handlers, from steps, from threads; numbers, runs and back-pressure."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest

import holdfast as hf
from holdfast.chunk import Text
from holdfast.domain.message import Emit, End, Output, ProposeRunCompletion, Run
from holdfast.sdk import emitter as emitter_module
from holdfast.sdk.emitter import BACKLOG_SIZE_BYTES_MAX, WINDOW_SIZE_BYTES

from .fake_server import FakeServer
from .loops import both_loops
from .test_attempt import double, server_of

STEP = "run:model#0"


def written(server: FakeServer, writer: str | None = None) -> list[Any]:
    """Return the values of all chunks that were sent, in order."""
    return [
        msgspec.json.decode(chunk)
        for emit in server.emits
        for chunk in emit.chunks
        if writer in (None, emit.writer)
    ]


@both_loops
async def test_all_that_is_json_may_be_written_and_bytes_too() -> None:
    async def handler(ctx: hf.Context) -> None:
        for chunk in ("text", 1, None, [1.5, True], {"a": "ä\n"}, b"\x00\xff", Text("hi")):
            ctx.emit(chunk)
        await ctx.stream("log").write("there")

    server = server_of(handler)
    await server.run()
    assert [(e.stream, e.writer, e.run, e.first_number) for e in server.emits] == [
        ("default", "", 0, 0),
        ("log", "", 0, 0),
    ]
    assert written(server) == [
        "text", 1, None, [1.5, True], {"a": "ä\n"}, {"type": "bytes", "base64": "AP8="},
        {"type": "text", "delta": "hi"}, "there",
    ]  # fmt: skip


@both_loops
async def test_what_was_written_before_travels_before() -> None:
    async def body() -> int:
        hf.emit("in the step")
        return 1

    async def handler(ctx: hf.Context) -> int:
        ctx.emit("before")
        done = await ctx.run("model", body)
        ctx.emit("after")
        return done

    server = server_of(handler)
    assert await server.run() == 1
    sent = [m for batch in server.streams[0].batches for m in batch]
    before, inside, after = (i for i, m in enumerate(sent) if isinstance(m, Emit))
    kinds = [type(m) for m in sent]
    assert before < kinds.index(Run)
    assert inside < kinds.index(ProposeRunCompletion) < after < kinds.index(Output)
    assert kinds[-1] is End
    assert [(e.writer, e.run, e.first_number) for e in server.emits] == [
        ("", 0, 0),
        (STEP, 1, 0),
        ("", 0, 1),
    ]


@both_loops
async def test_each_task_of_a_handler_is_a_writer() -> None:
    async def speak(name: str) -> None:
        hf.current().emit(name)

    async def handler(ctx: hf.Context) -> None:
        await asyncio.gather(speak("a"), speak("b"))
        with ctx.scope("tool:1"):
            hf.emit("c")

    server = server_of(handler)
    await server.run()
    found = {e.writer: msgspec.json.decode(e.chunks[0]) for e in server.emits}
    assert set(found.values()) == {"a", "b", "c"}
    assert len(found) == 3
    replay = server_of(handler, journal=server.journal)
    await replay.run()
    assert {e.writer for e in replay.emits} == set(found)


@both_loops
async def test_replay_writes_the_same_again_with_the_same_numbers() -> None:
    async def handler(ctx: hf.Context) -> int:
        ctx.emit("a")
        first = await ctx.run("one", double, 1)
        ctx.emit(first)
        await ctx.sleep(5)
        second = await ctx.run("two", double, first)
        await ctx.emit(second)
        return second

    plain = server_of(handler)
    await plain.run()
    for crash_at in range(1, len(plain.journal)):
        server = server_of(handler, crash=lambda length, at=crash_at: length == at)
        assert await server.run() == 4
        numbered = {
            number: chunk
            for emit in server.emits
            for number, chunk in enumerate(emit.chunks, emit.first_number)
        }
        # Whatever was sent twice is the same, so the server may drop it by its number.
        for emit in server.emits:
            assert list(emit.chunks) == [
                numbered[n] for n in range(emit.first_number, emit.first_number + len(emit.chunks))
            ]
        assert [msgspec.json.decode(numbered[n]) for n in sorted(numbered)] == ["a", 2, 4]


@both_loops
async def test_a_step_that_runs_again_says_so_before_it_writes() -> None:
    tries = 0

    async def body() -> str:
        nonlocal tries
        tries += 1
        if tries > 1:
            await asyncio.sleep(0)
            return "silent"
        hf.emit("lost")
        raise RuntimeError("connection lost")

    async def handler(ctx: hf.Context) -> str:
        return await ctx.run("model", body)

    server = server_of(handler)
    assert await server.run() == "silent"
    assert server.emits == [
        Emit("default", STEP, 1, 0, (b'"lost"',)),
        Emit("", STEP, 2, 0, ()),
    ]


@both_loops
async def test_a_recorded_step_does_not_write_again() -> None:
    async def body() -> int:
        hf.emit("once")
        return 1

    async def handler(ctx: hf.Context) -> int:
        await ctx.run("model", body)
        return await ctx.run("other", double, 2)

    server = server_of(handler)
    await server.run()
    replay = server_of(handler, journal=server.journal[:3])
    assert await replay.run() == 4
    assert replay.emits == []


@both_loops
async def test_steps_in_threads_and_synchronous_handlers_write_too() -> None:
    def blocking(ctx: hf.Context) -> int:
        for number in range(3):
            ctx.emit(number)
        hf.emit("x", stream="log")
        return 1

    async def handler(ctx: hf.Context) -> int:
        return await ctx.run("model", blocking, ctx)

    def synchronous(ctx: hf.SyncContext) -> int:
        ctx.emit("a")
        ctx.emit("b", stream="log")
        return 2

    server = server_of(handler)
    assert await server.run() == 1
    assert written(server, STEP) == [0, 1, 2, "x"]
    server = server_of(synchronous)  # type: ignore[arg-type]
    assert await server.run() == 2
    assert written(server, "") == ["a", "b"]


@both_loops
async def test_chunks_collect_while_others_are_on_their_way() -> None:
    more = asyncio.Event()

    async def body() -> None:
        for number in range(5):
            hf.emit(number)
            await asyncio.sleep(0)
        await more.wait()

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("model", body)

    server = server_of(handler)
    server.is_behind = True
    await server.settle()
    assert written(server) == [0]
    server.store_chunks(1)
    await server.settle()
    assert [len(e.chunks) for e in server.emits] == [1, 4]
    assert [e.first_number for e in server.emits] == [0, 1]
    more.set()
    await server.run()


@both_loops
async def test_who_awaits_waits_while_the_server_is_behind() -> None:
    big = "x" * (WINDOW_SIZE_BYTES // 2)
    reached: list[int] = []

    async def handler(ctx: hf.Context) -> int:
        for number in range(4):
            await ctx.emit(big)
            reached.append(number)
        return 1

    server = server_of(handler)
    server.is_behind = True
    await server.settle()
    assert reached == [0]
    assert server.attempt is not None
    assert server.attempt.busy, "waiting for room must not let results be handed over"
    server.store_chunks(1)
    await server.settle()
    assert reached == [0, 1]
    server.is_behind = False
    server.store_chunks(1)
    assert await server.run() == 1
    assert reached == [0, 1, 2, 3]


@both_loops
async def test_who_does_not_wait_is_refused_at_some_point() -> None:
    big = "x" * 200_000
    errors: list[hf.UsageError] = []

    async def handler(ctx: hf.Context) -> int:
        for _ in range(BACKLOG_SIZE_BYTES_MAX // len(big) + 2):
            try:
                ctx.emit(big)
            except hf.UsageError as error:
                errors.append(error)
        return len(errors)

    server = server_of(handler)
    assert await server.run() == len(errors) > 0
    assert errors[0].code == "HF0563"


@both_loops
async def test_a_thread_that_waits_is_released_when_the_attempt_ends() -> None:
    ended: list[BaseException] = []
    big = "x" * (WINDOW_SIZE_BYTES // 2)

    def blocking() -> None:
        try:
            for _ in range(10):
                hf.emit(big)
        except BaseException as error:
            ended.append(error)
            raise

    async def handler(ctx: hf.Context) -> None:
        await ctx.run("model", blocking)

    server = server_of(handler)
    server.is_behind = True
    async with asyncio.timeout(10):
        while len(server.emits) < 2 and not (
            server.attempt and not server.attempt.emitter.has_room
        ):
            await server.settle()
    assert server.attempt is not None
    server.streams[-1].is_cut = True
    server.attempt.abort()
    async with asyncio.timeout(10):
        while not ended:
            await asyncio.sleep(0.001)
    assert isinstance(ended[0], hf.Aborted)


@both_loops
async def test_bad_chunks_and_names_are_refused() -> None:
    found: list[str] = []

    async def handler(ctx: hf.Context) -> None:
        for chunk in (object(), {"a": {1j}}, "x" * 300_000):
            try:
                ctx.emit(chunk)
            except hf.UsageError as error:
                found.append(error.code)
        for name in ("", "a/b", "x" * 65, "ä"):
            try:
                ctx.stream(name)
            except hf.UsageError as error:
                found.append(error.code)

    server = server_of(handler)
    await server.run()
    assert found == ["HF0560", "HF0560", "HF0561", *["HF0562"] * 4]
    assert server.emits == []


@both_loops
async def test_it_is_refused_where_no_handler_is_and_in_foreign_threads() -> None:
    async def handler(ctx: hf.Context) -> list[str]:
        codes: list[str] = []

        def somewhere() -> None:
            try:
                ctx.emit("x")
            except hf.UsageError as error:
                codes.append(error.code)

        await asyncio.to_thread(somewhere)
        return codes

    with pytest.raises(hf.UsageError) as refused:
        hf.emit("x")
    assert refused.value.code == "HF0502"
    assert await server_of(handler).run() == ["HF0502"]


@both_loops
async def test_with_the_context_of_another_invocation_it_is_refused() -> None:
    contexts: list[hf.Context] = []
    found: list[str] = []

    async def first(ctx: hf.Context) -> None:
        contexts.append(ctx)

    async def body() -> None:
        try:
            contexts[0].emit("x")
        except hf.UsageError as error:
            found.append(error.code)

    async def second(ctx: hf.Context) -> None:
        await body()
        await ctx.run("model", body)

    await server_of(first).run()
    server = server_of(second)
    await server.run()
    assert found == ["HF0502", "HF0502"]
    assert server.emits == []


@both_loops
async def test_a_server_without_extensions_gets_nothing_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(emitter_module, "_warned", set())

    async def handler(ctx: hf.Context) -> int:
        await ctx.emit("a")
        ctx.emit("b")
        return 1

    server = server_of(handler)
    opened = server.app.open

    def open_foreign(start: Any, *rest: Any) -> Any:
        return opened(msgspec.structs.replace(start, has_extensions=False), *rest)

    monkeypatch.setattr(server.app, "open", open_foreign)
    with caplog.at_level(logging.WARNING):
        assert await server.run() == 1
    assert server.emits == []
    assert [r.message for r in caplog.records if "no streams" in r.message] == [
        "handlers that are served over HTTP have no streams: what they emit is dropped"
    ]


@both_loops
async def test_a_mismatch_takes_what_the_wrong_program_wrote_with_it() -> None:
    async def before(ctx: hf.Context) -> int:
        ctx.emit("right")
        return await ctx.run("one", double, 1)

    async def after(ctx: hf.Context) -> int:
        ctx.emit("wrong")
        await ctx.run("another", double, 1)
        return 2

    server = server_of(before)
    await server.run()
    changed = server_of(after, journal=server.journal[:-1])
    changed.is_retrying = False
    with pytest.raises(AssertionError, match="Journal mismatch"):
        await changed.run()
    assert changed.emits == []
