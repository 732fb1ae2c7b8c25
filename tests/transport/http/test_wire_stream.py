"""The stream of an attempt, byte by byte, in every version and mode: replay, steps, endings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from wire_harness import OK, Mode, Wire, every_mode, live_modes, wired

from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    KIND_RUN,
    Completion,
    End,
    Error,
    Failure,
    Input,
    Output,
    ProposeRunCompletion,
    Run,
    SetState,
    Sleep,
    Suspension,
    Value,
)
from holdfast.engine.row import Status
from holdfast.protocol.restate.codec import AwaitingOn, CommandAck, RunAck
from holdfast.protocol.restate.frame import HEADER_SIZE

ONE = Completion(KIND_RUN, 1, Value(b"one"))
HOUR_MS = 3_600_000


@pytest.fixture
async def wire(mode: Mode, tmp_path: Path) -> AsyncIterator[Wire]:
    async with wired(mode, tmp_path) as wire:
        yield wire


# -- replay ----------------------------------------------------------------------------------------


@every_mode
async def test_the_first_attempt_begins_with_start_and_input(wire: Wire) -> None:
    headers = (("x-restate-ingress-path", "http://localhost/S/run"), ("mine", "1"))
    _, attempt = await wire.begun(headers=headers, body=b'"in"')
    start = attempt.start
    assert (start.known_entries, start.retry_count) == (1, 0)
    assert attempt.journal == [Input(Value(b'"in"'), headers)]
    media_type = f"application/vnd.restate.invocation.v{wire.mode.version}"
    fields = attempt.exchange.fields
    assert (fields["content-type"], fields["accept"]) == (media_type, media_type)
    assert fields[":path"] == "/invoke/S/run"
    attempt.finish()


@every_mode
async def test_a_response_may_be_cut_between_any_bytes(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    for byte in attempt.encode(Run(1, name="r"), ProposeRunCompletion(1, Value(b"one"))):
        attempt.send(bytes([byte]))
    attempt.wait_for(1)
    again = await wire.attempt(invocation_id)
    assert again.journal[1:] == [Run(1, name="r"), ONE]
    for byte in again.encode(OK, End()):
        again.send(bytes([byte]))
    again.exchange.end()
    assert await wire.outcome(invocation_id) == OK.result


@every_mode
async def test_entries_are_replayed_in_stored_order_with_all_that_is_in_them(wire: Wire) -> None:
    """A crash behind a step; results between commands stay where they were stored."""
    invocation_id, attempt = await wire.begun()
    said = [
        Run(1, name="r1"),
        Run(7, name="r7"),
        ProposeRunCompletion(7, Value()),
        Sleep(1, 8, name="past"),
        ProposeRunCompletion(1, Value(b"one")),
    ]
    attempt.send(attempt.encode(*said))
    await wire.stored(invocation_id, 7)
    attempt.break_off()
    again = await wire.attempt(invocation_id)
    past = again.journal[5]
    assert isinstance(past, Completion)
    expected = [said[0], said[1], Completion(KIND_RUN, 7, Value()), said[3], past, ONE]
    assert again.journal[1:] == expected
    assert again.start.known_entries == 7
    again.break_off()
    third = await wire.attempt(invocation_id)
    assert third.journal[1:] == expected
    third.finish()


@every_mode
async def test_the_random_seed_follows_from_the_id_in_every_attempt(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    for _ in range(2):
        assert attempt.start.random_seed == random_seed(invocation_id)
        attempt.say(Error(500, "no"))
        attempt = await wire.attempt(invocation_id)
    attempt.finish()


# -- steps -----------------------------------------------------------------------------------------


@live_modes
async def test_a_command_that_asks_for_it_is_acknowledged_with_its_index(wire: Wire) -> None:
    _, attempt = await wire.begun()
    attempt.say(Run(1), ProposeRunCompletion(1, Value(b"one")))
    await attempt.until_live(1)
    # Notifications are not counted, and the input is 0.
    attempt.send(wire.codec.encode(Sleep(1, 2), is_ack_requested=True))
    live = await attempt.until_live(3)
    assert CommandAck(2) in live[1:]
    attempt.finish()


@live_modes
async def test_the_result_of_a_step_comes_back_when_it_is_stored(wire: Wire) -> None:
    _, attempt = await wire.begun()
    attempt.say(Run(1), ProposeRunCompletion(1, Failure(418, "no", {"a": "b"})))
    assert await attempt.until_live(1) == [Completion(KIND_RUN, 1, Failure(418, "no", {"a": "b"}))]
    attempt.finish()


@live_modes
async def test_the_result_of_a_step_that_asks_for_it_is_acknowledged(wire: Wire) -> None:
    """Before version 7 the result itself comes back, asked for or not; the replay always has it."""
    invocation_id, attempt = await wire.begun()
    proposal = wire.codec.encode(ProposeRunCompletion(1, Value(b"one")), is_ack_requested=True)
    attempt.send(attempt.encode(Run(1), Run(2)) + proposal)
    first = (await attempt.until_live(1))[0]
    assert first == (RunAck(1) if wire.mode.version == 7 else ONE)
    attempt.say(ProposeRunCompletion(2, Value(b"two")))
    assert (await attempt.until_live(2))[1] == Completion(KIND_RUN, 2, Value(b"two"))
    attempt.break_off()
    again = await wire.attempt(invocation_id)
    assert again.journal[3:] == [ONE, Completion(KIND_RUN, 2, Value(b"two"))]
    again.finish()


@pytest.mark.parametrize("mode", [Mode(7), Mode(7, is_bidirectional=False)])
async def test_what_a_handler_waits_for_meanwhile_needs_no_answer(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    waits = AwaitingOn(Suspension((1,), (1,)), True)
    attempt.send(wire.codec.encode_awaiting_on(waits))
    attempt.finish()
    assert await wire.outcome(invocation_id) == OK.result


# -- endings ---------------------------------------------------------------------------------------


@every_mode
async def test_of_several_outputs_the_last_one_counts(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(Output(Value(b"1")), Run(1), Output(Value(b"2")), End())
    assert await wire.outcome(invocation_id) == Value(b"2")


@every_mode
async def test_bytes_behind_the_end_are_not_looked_at(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.send(attempt.encode(OK, End()) + b"\xff" * 3 * HEADER_SIZE)
    attempt.exchange.end()
    assert await wire.outcome(invocation_id) == OK.result


@every_mode
async def test_a_failure_is_a_result(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    failure = Failure(418, "no", {"a": "b"})
    attempt.finish(failure)
    assert await wire.outcome(invocation_id) == failure
    assert (await wire.row(invocation_id)).attempt == 1


@every_mode
async def test_an_output_without_an_end_is_kept_and_the_attempt_repeated(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.send(attempt.encode(Output(Value(b"1"))))
    attempt.exchange.end()
    again = await wire.attempt(invocation_id)
    assert again.journal[1:] == [Output(Value(b"1"))]
    again.say(End())
    assert await wire.outcome(invocation_id) == Value(b"1")


@pytest.mark.parametrize(
    "said", [b"", b"\x04\x11", b"\x04\x11\x00\x00\x00\x00\x00\x02\x58"], ids=["", "head", "body"]
)
@pytest.mark.parametrize("is_reset", [False, True])
@every_mode
async def test_a_response_that_ends_too_early_is_retried(
    wire: Wire, said: bytes, is_reset: bool
) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.send(attempt.encode(Run(1)) + said)
    await wire.stored(invocation_id, 2)
    if is_reset:
        attempt.break_off()
    else:
        attempt.exchange.end()
    again = await wire.attempt(invocation_id)
    assert again.journal[1:] == [Run(1)]
    again.finish()
    assert await wire.outcome(invocation_id) == OK.result


# -- errors ----------------------------------------------------------------------------------------


@every_mode
async def test_retries_are_counted_since_the_last_command(wire: Wire) -> None:
    """A wait that the handler chooses is kept to exactly; a result is no command."""
    invocation_id, attempt = await wire.begun()
    counts = []
    for _ in range(3):
        counts.append(attempt.start.retry_count)
        begun_ms = wire.host.now_ms()
        attempt.say(Error(500, "no", next_retry_delay_ms=100))
        attempt = await wire.attempt(invocation_id)
        assert wire.host.now_ms() - begun_ms >= 100
    assert counts == [0, 1, 2]
    assert attempt.start.retry_count == 3
    attempt.say(Run(1), Error(500, "no"))
    attempt = await wire.attempt(invocation_id)
    assert attempt.start.retry_count == 1
    attempt.say(ProposeRunCompletion(1, Value()), Error(500, "no"))
    attempt = await wire.attempt(invocation_id)
    assert attempt.start.retry_count == 2
    attempt.finish()


@every_mode
async def test_an_error_may_pause_or_end_the_invocation(wire: Wire) -> None:
    paused, attempt = await wire.begun()
    attempt.say(Error(500, "look at this", behavior=1))
    row = await wire.row(paused, Status.PAUSED)
    assert row.last_failure is not None
    assert row.last_failure.message == "look at this"
    ended, attempt = await wire.begun()
    attempt.say(Error(418, "enough", behavior=2))
    assert await wire.outcome(ended) == Failure(418, "enough")


@every_mode
async def test_a_journal_that_does_not_fit_is_tried_again_and_shown(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    attempt.say(
        Error(
            570,
            "journal mismatch",
            "trace",
            related_command_index=1,
            related_command_name="r",
            related_command_type=0x0411,
        )
    )
    again = await wire.attempt(invocation_id)
    failure = (await wire.row(invocation_id, Status.RUNNING)).last_failure
    assert failure is not None
    assert (failure.code, failure.related_command_index) == (570, 1)
    assert (failure.related_command_name, failure.related_command_type) == ("r", 0x0411)
    again.finish()


@pytest.mark.parametrize(
    ("on_max_attempts", "status"), [("KILL", Status.COMPLETED), ("PAUSE", Status.PAUSED)]
)
@every_mode
async def test_the_last_attempt_that_fails_ends_or_pauses_it(
    mode: Mode, tmp_path: Path, on_max_attempts: str, status: Status
) -> None:
    options = {"retryPolicyMaxAttempts": 3, "retryPolicyOnMaxAttempts": on_max_attempts}
    async with wired(mode, tmp_path, **options) as wire:
        invocation_id = await wire.send()
        for number in range(3):
            attempt = await wire.attempt(invocation_id)
            attempt.say(Error(500 + number, f"failure {number}"))
        row = await wire.row(invocation_id, status)
        assert row.attempt == 3
        if status is Status.COMPLETED:
            assert await wire.outcome(invocation_id) == Failure(502, "failure 2")


@every_mode
async def test_answers_that_do_not_begin_an_attempt_are_retried(wire: Wire) -> None:
    """404, 500 and 415 are tried again, 503 when it says; 415 is not counted."""
    invocation_id = await wire.send()
    media_type = f"application/vnd.restate.invocation.v{wire.mode.version}"
    for status, content_type in (
        (404, media_type),
        (500, media_type),
        (415, media_type),
        (200, "text/plain"),
    ):
        exchange = await wire.request(invocation_id)
        exchange.respond(status, [("content-type", content_type)])
        exchange.end()
    exchange = await wire.request(invocation_id)
    begun_ms = wire.host.now_ms()
    exchange.respond(503, [("retry-after", "1")])
    exchange.end()
    attempt = await wire.attempt(invocation_id)
    assert wire.host.now_ms() - begun_ms >= 1000
    assert attempt.start.retry_count == 4
    attempt.finish()


# -- inactivity ------------------------------------------------------------------------------------


@live_modes
async def test_a_quiet_attempt_is_half_closed_suspends_and_resumes(
    mode: Mode, tmp_path: Path
) -> None:
    async with wired(mode, tmp_path, inactivityTimeout=50) as wire:
        invocation_id, attempt = await wire.begun()
        attempt.say(Sleep(wire.host.now_ms() + 1000, 1))
        await attempt.exchange.until(lambda: attempt.exchange.has_ended)
        attempt.wait_for(1)
        await wire.row(invocation_id, Status.SUSPENDED)
        again = await wire.attempt(invocation_id)
        assert isinstance(again.journal[2], Completion)
        again.finish()


@live_modes
async def test_an_attempt_that_ignores_the_half_close_is_reset_and_repeated(
    mode: Mode, tmp_path: Path
) -> None:
    async with wired(mode, tmp_path, inactivityTimeout=50, abortTimeout=50) as wire:
        invocation_id, attempt = await wire.begun()
        attempt.say(Sleep(wire.host.now_ms() + HOUR_MS, 1))
        await attempt.until_given_up()
        assert attempt.exchange.has_ended
        (await wire.attempt(invocation_id)).break_off()


# -- objects ---------------------------------------------------------------------------------------


@every_mode
async def test_the_next_of_a_key_sees_the_state_that_was_written(wire: Wire) -> None:
    """Also empty values and names, and what is no text; an empty value is not an absent one."""
    first, attempt = await wire.begun("Box/k/put")
    second = await wire.send("Box/k/put")
    assert attempt.exchange.fields["x-restate-service-key"] == "k"
    assert (attempt.start.state, attempt.start.is_state_partial) == ({}, False)
    attempt.say(
        SetState("a", Value(bytes(range(256)))),
        SetState("", Value(b"unnamed")),
        SetState("empty", Value()),
        SetState("gone", Value(b"x")),
    )
    await wire.stored(first, 5)
    await wire.row(second, Status.PENDING)
    attempt.finish(Failure(409, "kept all the same"))
    following = await wire.attempt(second)
    assert following.start.state == {
        "": b"unnamed",
        "a": bytes(range(256)),
        "empty": b"",
        "gone": b"x",
    }
    following.finish()
