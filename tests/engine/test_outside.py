"""What comes from outside, as often as anybody likes, leaves a journal bounded."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.domain.message import (
    Call,
    ChildId,
    Completion,
    Failure,
    OneWayCall,
    Run,
    Signal,
    Suspension,
    Value,
    Void,
)
from holdfast.engine.decision import Reply
from holdfast.engine.record import KillRequested, PauseRequested, SignalSent
from holdfast.engine.row import Status
from tests.engine.harness import Harness

CANCEL = Signal(Void(), index=1)


def signals(engine: Harness, invocation: str) -> list[object]:
    return [entry.result for entry in engine.journal(invocation) if isinstance(entry, Signal)]


def replied(engine: Harness) -> Reply:
    assert engine.answer is not None
    return engine.answer.reply


def test_of_an_awakeable_only_the_first_completion_is_recorded() -> None:
    engine = Harness()
    invocation = engine.invoke()
    for number in range(3):
        engine.apply(SignalSent(invocation, Signal(Value(b"%d" % number), index=17)))
        assert replied(engine) is Reply.ACCEPTED
    engine.apply_together(
        *(SignalSent(invocation, Signal(Failure(500, "late"), index=i)) for i in (18, 17, 18))
    )
    assert signals(engine, invocation) == [Value(b"0"), Failure(500, "late")]


def test_a_cancel_behind_one_that_nobody_can_have_seen_is_the_same() -> None:
    engine = Harness()
    invocation = engine.invoke()
    for _ in range(5):
        engine.apply(SignalSent(invocation, CANCEL))
        assert replied(engine) is Reply.ACCEPTED
    assert len(signals(engine, invocation)) == 1
    # It has seen it and cleans up: the next one is news.
    engine.sent(invocation, Run(1))
    engine.apply(SignalSent(invocation, CANCEL))
    engine.sent(invocation, Suspension((), (1,)))
    engine.sent(invocation, Suspension((), (1,)))
    assert engine.status(invocation) is Status.SUSPENDED
    engine.apply(SignalSent(invocation, CANCEL))
    assert len(signals(engine, invocation)) == 3
    assert engine.status(invocation) is Status.RUNNING


def test_a_full_journal_takes_no_completions_and_one_cancel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.engine.on_record.JOURNAL_LENGTH_MAX", 1)
    engine = Harness()
    invocation = engine.invoke()
    engine.apply(SignalSent(invocation, Signal(Void(), index=17)))
    assert replied(engine) is Reply.OVERLOADED
    engine.apply(PauseRequested(invocation))
    for expected in (Reply.ACCEPTED, Reply.OVERLOADED):
        engine.apply(SignalSent(invocation, CANCEL))
        assert replied(engine) is expected
        engine.apply(PauseRequested(invocation))
    assert len(signals(engine, invocation)) == 1


# -- children of others ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "cancel"])
@pytest.mark.parametrize("is_one_way", [True, False])
def test_a_caller_ends_no_keyed_invocation_of_another(how: str, is_one_way: bool) -> None:
    engine = Harness()
    engine.serve("Bill", "send")
    mine, other = engine.invoke(), engine.invoke()
    for caller in (other, mine):
        engine.sent(caller, _call(is_one_way))
    child = _child(engine, mine)
    assert child == _child(engine, other)
    engine.apply(_ending(how, child, mine))
    assert replied(engine) is Reply.IGNORED
    assert signals(engine, child) == []
    assert engine.status(child) is Status.RUNNING
    engine.apply(KillRequested(mine))
    assert engine.status(child) is Status.RUNNING
    engine.apply(_ending(how, child, other))
    assert replied(engine) is Reply.ACCEPTED


def _ending(how: str, child: str, parent: str) -> KillRequested | SignalSent:
    return KillRequested(child, parent) if how == "kill" else SignalSent(child, CANCEL, parent)


def _call(is_one_way: bool) -> Call | OneWayCall:
    options: dict[str, Any] = {
        "service": "Bill",
        "handler": "send",
        "parameter": b"1",
        "object_key": None,
        "headers": (),
        "idempotency_key": "may",
        "invocation_id_completion_id": 1,
    }
    return OneWayCall(**options, invoke_at_ms=0) if is_one_way else Call(**options, completion_id=2)


def _child(engine: Harness, caller: str) -> str:
    [child] = [
        entry.result.invocation_id
        for entry in engine.journal(caller)
        if isinstance(entry, Completion) and isinstance(entry.result, ChildId)
    ]
    return child
