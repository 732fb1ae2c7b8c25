"""What every carrier must do, in one suite over all of them."""

from __future__ import annotations

import pytest
from carrier_harness import (
    CARRIERS,
    ENTRIES,
    FakeAttempt,
    FakeServerStream,
    Join,
    completion,
    run_command,
    start_of,
)

from holdfast.domain.message import End, Input, Value

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.parametrize("join", CARRIERS, ids=lambda join: join.__name__),
]


async def test_an_attempt_opens_with_start_and_journal(join: Join) -> None:
    async with join() as joined:
        start = start_of("x", known_entries=2)
        entries = (*ENTRIES, run_command(1))
        joined.port.open(start, entries, FakeServerStream())
        attempt = await joined.handlers.attempt()
        assert attempt.start == start
        assert attempt.entries == entries


async def test_messages_arrive_in_order_and_then_the_end(join: Join) -> None:
    async with join() as joined:
        stream = FakeServerStream()
        joined.port.open(start_of(), ENTRIES, stream)
        attempt = await joined.handlers.attempt()
        sent = [run_command(number) for number in range(300)]
        for number in range(0, 300, 3):
            attempt.server.on_messages(sent[number : number + 3])
        attempt.finish()
        await stream.until(lambda: bool(stream.closed))
        assert stream.messages == [*sent, End()]
        assert stream.closed == [None]


async def test_notifications_arrive_in_order_and_then_the_end_of_input(join: Join) -> None:
    async with join() as joined:
        handler = joined.port.open(start_of(), ENTRIES, FakeServerStream())
        # Before the attempt can have begun on the other side.
        for number in range(100):
            handler.send([completion(2 * number), completion(2 * number + 1)])
        handler.close_input()
        attempt = await joined.handlers.attempt()
        await attempt.until(lambda: attempt.is_input_closed)
        assert attempt.received == [completion(number) for number in range(200)]
        assert not attempt.is_aborted


async def test_a_step_that_still_runs_hears_of_what_comes_after_the_end_of_input(
    join: Join,
) -> None:
    async with join() as joined:
        stream = FakeServerStream()
        handler = joined.port.open(start_of(), ENTRIES, stream)
        handler.close_input()
        attempt = await joined.handlers.attempt()
        await attempt.until(lambda: attempt.is_input_closed)
        handler.send([completion(1)])
        await attempt.until(lambda: attempt.received == [completion(1)])
        attempt.finish()
        await stream.until(lambda: bool(stream.closed))
        assert stream.closed == [None]


async def test_attempts_do_not_mix(join: Join) -> None:
    async with join() as joined:
        streams = {name: FakeServerStream() for name in "abc"}
        for name, stream in streams.items():
            joined.port.open(start_of(name), ENTRIES, stream)
        await joined.handlers.attempt(2)
        for attempt in reversed(joined.handlers.attempts):
            number = ord(attempt.start.invocation_id[-1])
            attempt.server.on_messages([run_command(number)])
        for name, stream in streams.items():
            await stream.until(lambda stream=stream: bool(stream.messages))  # type: ignore[misc]
            assert stream.messages == [run_command(ord(name))]


async def test_nobody_is_called_from_inside_his_own_call(join: Join) -> None:
    def answer_at_once(attempt: FakeAttempt) -> None:
        attempt.finish()

    async with join() as joined:
        joined.handlers.on_open = answer_at_once
        stream = FakeServerStream()
        stream.is_busy = True
        joined.port.open(start_of(), ENTRIES, stream)
        stream.is_busy = False
        await stream.until(lambda: bool(stream.closed))
        assert stream.messages == [End()]


async def test_after_an_abort_the_server_hears_nothing_more(join: Join) -> None:
    async with join() as joined:
        aborted, other = FakeServerStream(), FakeServerStream()
        handler = joined.port.open(start_of("a"), ENTRIES, aborted)
        joined.port.open(start_of("b"), ENTRIES, other)
        second = await joined.handlers.attempt(1)
        first = joined.handlers.attempts[0]
        first.server.on_messages([run_command(1)])
        handler.abort()
        await first.until(lambda: first.is_aborted)
        first.server.on_messages([run_command(2)])
        first.server.on_closed("aborted")
        second.finish()
        await other.until(lambda: bool(other.closed))
        assert aborted.messages == []
        assert aborted.closed == []


async def test_an_abort_right_after_opening_leaves_nothing_running(join: Join) -> None:
    async with join() as joined:
        stream = FakeServerStream()
        joined.port.open(start_of("a"), ENTRIES, stream).abort()
        joined.port.open(start_of("b"), ENTRIES, FakeServerStream())
        await joined.handlers.until(
            lambda: any(a.start.invocation_id == "inv_1b" for a in joined.handlers.attempts)
        )
        assert all(a.is_aborted for a in joined.handlers.attempts if a.start == start_of("a"))
        assert stream.closed == []


async def test_after_the_end_nothing_reaches_either_side(join: Join) -> None:
    async with join() as joined:
        stream, other = FakeServerStream(), FakeServerStream()
        handler = joined.port.open(start_of("a"), ENTRIES, stream)
        attempt = await joined.handlers.attempt()
        attempt.finish()
        attempt.server.on_messages([run_command(1)])
        attempt.server.on_closed("again")
        await stream.until(lambda: bool(stream.closed))
        handler.send([completion(1)])
        handler.close_input()
        handler.abort()
        joined.port.open(start_of("b"), ENTRIES, other)
        (await joined.handlers.attempt(1)).finish()
        await other.until(lambda: bool(other.closed))
        assert stream.messages == [End()]
        assert stream.closed == [None]
        assert attempt.received == []
        assert not attempt.is_input_closed
        assert not attempt.is_aborted


async def test_a_reason_is_passed_on(join: Join) -> None:
    async with join() as joined:
        stream = FakeServerStream()
        joined.port.open(start_of(), ENTRIES, stream)
        (await joined.handlers.attempt()).server.on_closed("the process runs out of memory")
        await stream.until(lambda: bool(stream.closed))
        assert stream.closed == ["the process runs out of memory"]


async def test_a_port_that_cannot_open_fails_that_attempt_only(join: Join) -> None:
    def fail_the_first(attempt: FakeAttempt) -> None:
        if attempt.start.invocation_id == "inv_1a":
            raise RuntimeError("no")

    async with join() as joined:
        joined.handlers.on_open = fail_the_first
        first, second = FakeServerStream(), FakeServerStream()
        joined.port.open(start_of("a"), ENTRIES, first)
        joined.port.open(start_of("b"), ENTRIES, second)
        await first.until(lambda: bool(first.closed))
        (await joined.handlers.attempt(1)).finish()
        await second.until(lambda: bool(second.closed))
        assert first.closed == ["the worker failed to open the attempt; see its log"]
        assert second.closed == [None]


async def test_when_the_connection_is_lost_both_sides_know(join: Join) -> None:
    async with join() as joined:
        streams = [FakeServerStream() for _ in range(3)]
        for stream in streams:
            joined.port.open(start_of(), ENTRIES, stream)
        await joined.handlers.attempt(2)
        joined.lose()
        for stream in streams:
            await stream.until(lambda stream=stream: bool(stream.closed))  # type: ignore[misc]
            assert stream.closed == ["worker connection lost"]
        for attempt in joined.handlers.attempts:
            await attempt.until(lambda attempt=attempt: attempt.is_aborted)  # type: ignore[misc]
        assert joined.port.is_draining
        late = FakeServerStream()
        late.is_busy = True
        joined.port.open(start_of(), ENTRIES, late)
        late.is_busy = False
        await late.until(lambda: bool(late.closed))
        assert late.closed == ["worker connection lost"]


async def test_large_payloads_pass(join: Join) -> None:
    async with join() as joined:
        stream = FakeServerStream()
        payload = bytes(range(256)) * 20_000
        handler = joined.port.open(start_of(), (Input(Value(payload)),), stream)
        handler.send([completion(1)])
        attempt = await joined.handlers.attempt()
        assert attempt.entries == (Input(Value(payload)),)
        await attempt.until(lambda: bool(attempt.received))
        attempt.server.on_messages([run_command(1), Input(Value(payload))])
        await stream.until(lambda: bool(stream.calls))
        assert stream.messages == [run_command(1), Input(Value(payload))]
