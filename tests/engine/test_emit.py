"""Chunks that handlers write to streams: what is stored, dropped, replaced and removed."""

from __future__ import annotations

import pytest

from holdfast.domain.message import (
    Emit,
    Emitted,
    End,
    Failure,
    Output,
    ProposeRunCompletion,
    Run,
    Value,
)
from holdfast.engine import on_emit
from holdfast.engine.decision import EndAttempt, Forward, Publish, Reply, Respond, StartAttempt
from holdfast.engine.limit import CHUNK_SIZE_BYTES_MAX
from holdfast.engine.record import (
    AttemptLost,
    Expired,
    HandlerSent,
    KillRequested,
    PurgeRequested,
    RestartRequested,
    TimerFired,
)
from holdfast.engine.row import Status, StreamRow, Table

from .harness import DEPLOYMENT, Harness

END = (Output(Value(b"1")), End())
STEP = "run:model#0"


def emit(*texts: str, writer: str = "", run: int = 0, at: int = 0, stream: str = "default") -> Emit:
    return Emit(stream, writer, run, at, tuple(f'"{text}"'.encode() for text in texts))


def texts(engine: Harness, inv: str, name: str = "default") -> str:
    """Return what a reader who comes last sees."""
    rows = engine.stream(inv, name).values()
    return b"".join(chunk for row in rows for chunk in row.chunks).decode().replace('"', "")


def lose(engine: Harness, inv: str) -> None:
    """Let the attempt be lost, and the next one begin."""
    row = engine.row(inv)
    engine.apply(AttemptLost(inv, engine.epoch, row.attempt, "lost"))
    if engine.status(inv) is not Status.RUNNING:
        engine.now_ms = engine.row(inv).retry_at_ms
        for at_ms, timer_inv, slot in engine.timers():
            engine.apply(TimerFired(at_ms, timer_inv, slot))
    assert engine.status(inv) is Status.RUNNING


def test_chunks_are_stored_published_and_acknowledged_and_are_no_journal_entries() -> None:
    engine = Harness()
    inv = engine.invoke()
    before = len(engine.journal(inv))
    engine.sent(inv, emit("a", "b"))
    assert engine.stream(inv) == {1: StreamRow(1, (b'"a"', b'"b"'))}
    assert engine.acted(Publish) == [Publish(inv, "default", 1, StreamRow(1, (b'"a"', b'"b"')))]
    assert engine.acted(Forward) == [Forward(inv, 1, Emitted(2))]
    assert len(engine.journal(inv)) == before
    engine.sent(inv, emit("c", at=2))
    assert texts(engine, inv) == "abc"
    assert list(engine.stream(inv)) == [1, 3]


def test_an_attempt_that_has_only_written_is_pinned_to_its_deployment() -> None:
    """Another program would go on with other text."""
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a"))
    assert engine.row(inv).deployment_id == DEPLOYMENT


def test_replay_of_handler_code_adds_only_what_is_new() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a", "b"))
    lose(engine, inv)
    engine.sent(inv, emit("a"))
    assert engine.acted(Publish) == []
    assert engine.acted(Forward) == [Forward(inv, 2, Emitted(1))]
    engine.sent(inv, emit("b", "c", at=1))
    assert texts(engine, inv) == "abc"
    assert engine.acted(Publish)[0].first_id == 3


def test_a_new_run_of_a_step_replaces_what_the_lost_one_wrote() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, Run(1, "model", STEP), emit("x"))
    engine.sent(inv, emit("lost ", writer=STEP, run=1))
    engine.sent(inv, emit("y", at=1), emit("too", writer=STEP, run=1, at=1))
    assert texts(engine, inv) == "xlost ytoo"
    lose(engine, inv)
    engine.sent(inv, emit("new", writer=STEP, run=2))
    assert texts(engine, inv) == "xynew"
    note, row = engine.acted(Publish)
    assert (note.first_id, note.row) == (5, StreamRow(2, (), 2))
    assert (row.first_id, row.row) == (6, StreamRow(3, (b'"new"',)))
    # The note stays, for readers who come back.
    assert engine.stream(inv)[5] == StreamRow(2, (), 2)


def test_a_run_that_begins_replaces_before_it_has_written() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, Run(1, "model", STEP), emit("lost", writer=STEP, run=1))
    lose(engine, inv)
    engine.sent(inv, Emit("", STEP, 2, 0, ()))
    assert texts(engine, inv) == ""
    assert [p.row for p in engine.acted(Publish)] == [StreamRow(1, (), 1)]
    assert engine.acted(Forward) == []
    engine.sent(inv, emit("new", writer=STEP, run=2))
    assert [p.row.lane for p in engine.acted(Publish)] == [2]
    assert texts(engine, inv) == "new"


def test_a_run_that_begins_and_has_nothing_to_replace_writes_nothing() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, Run(1, "model", STEP))
    before = set(engine.rows)
    engine.sent(inv, Emit("", STEP, 1, 0, ()))
    assert set(engine.rows) == before


def test_lanes_of_all_streams_of_a_writer_are_replaced_in_one_batch_too() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a", writer=STEP, run=1), emit("b", writer=STEP, run=1, stream="log"))
    lose(engine, inv)
    attempt = engine.row(inv).attempt

    def record(*messages: Emit) -> HandlerSent:
        return HandlerSent(inv, engine.epoch, attempt, DEPLOYMENT, messages)

    engine.apply_together(
        record(emit("c", writer=STEP, run=2, stream="log")),
        record(emit("d", writer=STEP, run=2), Emit("", STEP, 3, 0, ())),
        record(emit("e", writer=STEP, run=3)),
    )
    assert texts(engine, inv) == "e"
    assert texts(engine, inv, "log") == ""
    assert [row.lost_from_id for row in engine.stream(inv, "log").values()] == [1, 3]


def test_writers_of_one_stream_have_lanes_of_their_own() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a", writer="left[0]"), emit("b", writer="right[0]"))
    engine.sent(inv, emit("c", writer="right[0]", at=1), emit("d", writer="left[0]", at=1))
    assert [row.lane for row in engine.stream(inv).values()] == [1, 2, 2, 1]
    assert texts(engine, inv) == "abcd"


def test_what_a_stale_attempt_writes_is_dropped() -> None:
    engine = Harness()
    inv = engine.invoke()
    old = HandlerSent(inv, engine.epoch, 1, DEPLOYMENT, (emit("late"),))
    lose(engine, inv)
    engine.apply(old)
    assert engine.answer is not None
    assert engine.answer.reply is Reply.IGNORED
    assert texts(engine, inv) == ""


def test_chunks_come_before_the_outcome() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a"), *END)
    kinds = [type(action) for action in engine.actions]
    assert kinds.index(Publish) < kinds.index(Respond)
    assert texts(engine, inv) == "a"
    # What only writers need is gone.
    assert [key for key in engine.rows if key[0] is Table.ANNEX] == []


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (emit("b", at=1), "chunk 1 of a writer came where 0 was next [HF2050]"),
        (emit("b", stream="no/name"), "'no/name' is no name of a stream [HF2050]"),
        (Emit("default", "", 0, 0, (b"{",)), "a chunk is not JSON: Input data was truncated"),
        (Emit("default", "", 0, 0, (b'"\xff"',)), "a chunk is not JSON: 'utf-8' codec"),
        (Emit("default", "", 0, 0, (b'"%s"' % (b"x" * CHUNK_SIZE_BYTES_MAX),)), "262146 bytes"),
    ],
)
def test_a_message_that_breaks_the_rules_fails_the_attempt(message: Emit, why: str) -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, message)
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert why in failure.message
    assert engine.acted(EndAttempt) == [EndAttempt(inv, 1, True)]
    assert texts(engine, inv) == ""


def test_an_earlier_run_cannot_come_after_a_later_one() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a", writer=STEP, run=2))
    engine.sent(inv, emit("b", writer=STEP, run=1))
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert "[HF2050]" in failure.message


@pytest.mark.parametrize(
    ("limit", "value", "messages"),
    [
        ("STREAM_CHUNKS_MAX", 2, [emit("a", "b"), emit("c", at=2)]),
        ("STREAM_SIZE_BYTES_MAX", 7, [emit("a", "b"), emit("c", at=2)]),
        ("STREAMS_MAX", 1, [emit("a", "b"), emit("c", stream="other")]),
    ],
)
def test_at_a_limit_the_invocation_is_paused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, messages: list[Emit]
) -> None:
    monkeypatch.setattr(on_emit, limit, value)
    engine = Harness()
    inv = engine.invoke()
    for message in messages:
        engine.sent(inv, message)
    assert engine.status(inv) is Status.PAUSED
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert "[HF2051]" in failure.message
    assert texts(engine, inv) == "ab"


def test_what_was_replaced_does_not_count_towards_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_emit, "STREAM_CHUNKS_MAX", 2)
    engine = Harness()
    inv = engine.invoke()
    for attempt in range(1, 6):
        engine.sent(inv, emit("a", "b", writer=STEP, run=attempt))
        assert texts(engine, inv) == "ab"
        if attempt < 5:
            lose(engine, inv)
    assert engine.status(inv) is Status.RUNNING


def completed(engine: Harness) -> str:
    inv = engine.invoke()
    engine.sent(inv, emit("a"), emit("b", stream="log"), *END)
    return inv


def test_streams_are_kept_after_the_end_and_removed_with_the_invocation() -> None:
    engine = Harness()
    inv = completed(engine)
    assert texts(engine, inv, "log") == "b"
    engine.now_ms += 10_000
    engine.apply(Expired(inv))
    assert [key for key in engine.rows if inv in key] == []


@pytest.mark.parametrize("is_journal_only", [True, False])
def test_a_purge_takes_the_streams_with_the_journal(is_journal_only: bool) -> None:
    engine = Harness()
    inv = completed(engine)
    engine.apply(PurgeRequested(inv, is_journal_only))
    assert engine.stream(inv) == {}
    assert engine.stream(inv, "log") == {}


def test_an_invocation_without_streams_is_removed_without_a_look_for_them() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, *END)
    engine.now_ms += 10_000
    engine.apply(Expired(inv))
    assert inv not in {key[1] for key in engine.rows if key[0] is Table.INVOCATION}


@pytest.mark.parametrize("from_index", [0, 2])
def test_a_restart_begins_with_empty_streams(from_index: int) -> None:
    """Handler code writes again what it wrote; steps that are kept do not run, and are silent."""
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, Run(1, "model", STEP), emit("a", writer=STEP, run=1))
    engine.sent(inv, ProposeRunCompletion(1, Value(b"1")))
    engine.sent(inv, emit("b"), *END)
    new_id = engine.new_id("Greeter", None)
    engine.apply(RestartRequested(inv, new_id, from_index))
    assert engine.acted(StartAttempt)[0].row.id == new_id
    assert engine.stream(new_id) == {}
    engine.sent(new_id, emit("b"))
    assert texts(engine, new_id) == "b"
    assert texts(engine, inv) == "ab"


def test_a_killed_invocation_keeps_what_it_wrote() -> None:
    engine = Harness()
    inv = engine.invoke()
    engine.sent(inv, emit("a"))
    engine.apply(KillRequested(inv))
    assert engine.acted(Respond) == [Respond(inv, Failure(409, "killed"))]
    assert texts(engine, inv) == "a"
