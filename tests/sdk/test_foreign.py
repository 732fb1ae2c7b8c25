"""Handlers behind a server that knows nothing of ours: only what is on the wire gets through."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

import holdfast as hf
from holdfast.domain.message import (
    KIND_RUN,
    Call,
    Command,
    Completion,
    DelayRule,
    Entry,
    Error,
    FromHandler,
    Input,
    Notification,
    ProposeRunCompletion,
    Run,
    Sleep,
    Start,
    StepFailures,
    Value,
    Void,
    message_type,
)
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.protocol.restate.codec import AwaitingOn, Codec
from holdfast.protocol.restate.frame import Frame, FrameDecoder
from holdfast.sdk.foreign import completed_start, error_without_rule
from holdfast.sdk.machine import Machine
from holdfast.transport.base import HandlerStream, ServerStream

from .fake_server import BEGIN_MS, ID, FakeServer

CODEC = Codec(6, is_keyed=True)


def frame(data: bytes) -> Frame:
    decoder = FrameDecoder()
    decoder.feed(data)
    found = decoder.next_frame()
    assert found is not None
    return found


class WireStream:
    """The server's end: hears what the wire can carry."""

    def __init__(self, server: ServerStream) -> None:
        self._server = server

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        heard: list[FromHandler] = []
        for message in messages:
            decoded = CODEC.decode_from_handler(frame(CODEC.encode(message)))
            assert not isinstance(decoded, AwaitingOn)
            heard.append(decoded)
        self._server.on_messages(heard)

    def on_closed(self, reason: str | None) -> None:
        self._server.on_closed(reason)


class WireApp(hf.App):
    """Gets what the wire can carry."""

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        start = CODEC.decode_start(frame(CODEC.encode_start(start)), start.service, start.handler)
        start = replace(start, has_extensions=False)
        opened: Any = super().open(start, over_wire(entries), WireStream(stream))
        send = opened.send
        opened.send = lambda notifications: send(over_wire(notifications))
        handler: HandlerStream = opened
        return handler


def over_wire(entries: Sequence[Entry | Notification]) -> list[Any]:
    return [CODEC.decode_from_server(frame(CODEC.encode(entry))) for entry in entries]


# -- the clock -------------------------------------------------------------------------------------

told = hf.Service("Told")


@told.handler
async def clock(ctx: hf.Context) -> list[float]:
    """Make the journal depend on each reading: another one would be a mismatch."""
    loop = asyncio.get_running_loop()
    read: list[float] = []

    async def look() -> None:
        now, loop_s = ctx.now().timestamp(), loop.time()
        read.append(now)
        await ctx.run(f"at {now} {loop_s}", lambda: 1)

    async def branch(n: int) -> None:
        await ctx.sleep(n)
        await look()

    await look()
    await asyncio.gather(branch(3), branch(1), branch(2))
    await look()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            await asyncio.sleep(5)
    await look()
    return read


@pytest.mark.parametrize("is_request_response", [False, True])
async def test_the_clock_is_the_same_wherever_it_crashes(is_request_response: bool) -> None:
    for crash_at in range(50):
        crashes = [crash_at, crash_at + 3]
        server = FakeServer(
            WireApp(told),
            "Told/clock",
            crash=lambda length, crashes=crashes: length in crashes and not crashes.remove(length),
            is_request_response=is_request_response,
        )
        read = await server.run()
        assert not server.errors
        assert read == sorted(read)
        assert read[0] >= BEGIN_MS / 1000
        assert read[-1] >= read[0] + 8


@told.handler
async def lookers(ctx: hf.Context) -> int:
    for _ in range(5):
        ctx.now()
    await ctx.run("step", lambda: 1)
    ctx.now()
    ctx.now()
    return 1


async def test_the_clock_is_read_only_when_something_has_happened() -> None:
    server = FakeServer(WireApp(told), "Told/lookers")
    await server.run()
    readings = [e.key for e in server.journal if isinstance(e, Run) and e.name != "step"]
    assert readings == ["now#0", "now#5"]


async def test_servers_of_ours_need_no_readings() -> None:
    server = FakeServer(hf.App(told), "Told/lookers")
    await server.run()
    assert [e.key for e in server.journal if isinstance(e, Run)] == ["run:step#0"]


@told.handler
async def timer_only(ctx: hf.Context) -> str:
    try:
        async with asyncio.timeout(1):
            await asyncio.sleep(3600)
    except TimeoutError:
        return "timed out"
    return "slept"


@pytest.mark.parametrize("crash_at", range(0, 14))
async def test_timeouts_of_asyncio(crash_at: int) -> None:
    crashes = [crash_at]
    server = FakeServer(
        WireApp(told),
        "Told/timer_only",
        crash=lambda length: length in crashes and not crashes.clear(),
    )
    assert await server.run() == "timed out"


def start_of(**changes: Any) -> Start:
    start = Start(ID, "Told", "clock", "", 1, {}, True, 0, 0, 42, has_extensions=False)
    return replace(start, **changes)


def test_a_reading_that_was_recorded_without_its_result_is_taken_again() -> None:
    machine = Machine(start_of(), [Input(Value()), Run(1, "now", "now#0")])
    assert machine.sys_now("now#0", 1234) == 1234
    assert machine.outgoing == [ProposeRunCompletion(1, Value(b"1234"))]
    assert machine.sys_now("now#1", 9999) == 1234
    assert len(machine.outgoing) == 1


def test_a_recorded_reading_holds_and_is_nothing_to_claim() -> None:
    done = Completion(KIND_RUN, 1, Value(b"1234"))
    machine = Machine(start_of(), [Input(Value()), Run(1, "now", "a[0]/now#0"), done])
    machine.take()
    # The program does not ask for it: code may change.
    assert machine.sys_run("a[0]", "a[0]/run:x#0", "x", "") == (2, 2)
    assert machine.sys_now("a[0]/now#0", 9999) == 1234


def test_the_clock_never_goes_back() -> None:
    sleep = Sleep(5_000, 1, "", "sleep#0")
    machine = Machine(start_of(), [Input(Value()), sleep, Completion(0x800C, 1, Void())])
    machine.sys_sleep("", "sleep#0", "", 1, "")
    machine.take()
    assert machine.now_ms == 5_000
    assert machine.sys_now("now#0", 4_000) == 5_000


# -- failures --------------------------------------------------------------------------------------


def test_open_steps_have_failed_as_often_as_the_server_says() -> None:
    entries = [
        Input(Value()),
        Run(1, key="run:a#0"),
        Run(2, key="run:b#0"),
        Completion(KIND_RUN, 1, Value()),
    ]
    start = start_of(retry_count=2, duration_ms=300)
    failures = completed_start(start, entries, 1_000).step_failures
    assert failures == (StepFailures(2, 2, 700),)
    assert completed_start(start_of(), entries, 1_000).step_failures == ()


SCHEDULE = RetrySchedule(
    initial_interval_ms=100, max_attempts=3, on_max_attempts=OnMaxAttempts.KILL
)


@pytest.mark.parametrize(
    ("rule", "asked_ms", "failed_before", "delay_ms", "behavior"),
    [
        (DelayRule.UNCOUNTED, 7, 5, 7, 0),
        (DelayRule.CHOSEN, 7, 0, 7, 0),
        (DelayRule.CHOSEN, 7, 1, 7, 0),
        (DelayRule.CHOSEN, 7, 2, None, 2),
        (DelayRule.LEAST, 7, 1, 200, 0),
        (DelayRule.LEAST, 700, 1, 700, 0),
        (DelayRule.LEAST, 700, 2, None, 2),
        (DelayRule.UNCOUNTED, None, 5, None, 0),
    ],
)
def test_waits_that_a_failure_chooses_are_counted_here(
    rule: DelayRule, asked_ms: int | None, failed_before: int, delay_ms: int | None, behavior: int
) -> None:
    error = Error(500, "no", next_retry_delay_ms=asked_ms, delay_rule=rule)
    made = error_without_rule(error, start_of(retry_count=failed_before), SCHEDULE)
    assert made.delay_rule is DelayRule.UNCOUNTED
    assert (made.next_retry_delay_ms, made.behavior) == (delay_ms, behavior)


def test_without_a_policy_the_common_default_holds() -> None:
    error = Error(500, "no", next_retry_delay_ms=7, delay_rule=DelayRule.CHOSEN)
    assert error_without_rule(error, start_of(retry_count=68), None).behavior == 0
    assert error_without_rule(error, start_of(retry_count=69), None).behavior == 1


# -- mismatches ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "index"),
    [
        (Run(1, "other", "run:other#0"), 1),
        (Call("Told", "other", b"", None, (), None, 1, 2, "", "call:Told.lookers#0"), None),
    ],
    ids=["another step", "another target"],
)
async def test_a_mismatch_says_which_command_differs(recorded: Command, index: int | None) -> None:
    journal = [Input(Value()), recorded]
    handler = "caller" if isinstance(recorded, Call) else "lookers"
    server = FakeServer(WireApp(told), f"Told/{handler}", journal=journal, attempts_max=1)
    with pytest.raises(AssertionError, match="too many attempts"):
        await server.run()
    [error] = server.errors
    assert error.code == 570
    assert error.related_command_index == index
    assert error.related_command_name == ("other" if index else "Told.lookers")
    assert error.related_command_type == message_type(recorded)


@told.handler
async def caller(ctx: hf.Context) -> int:
    return await ctx.call(lookers)
