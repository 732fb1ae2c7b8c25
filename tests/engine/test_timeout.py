"""The time limit of an invocation: `holdfast.engine.timeout`."""

from __future__ import annotations

import pytest

from holdfast.domain.message import (
    Call,
    ChildId,
    Completion,
    End,
    Error,
    Failure,
    OneWayCall,
    Output,
    Signal,
    Sleep,
    Suspension,
    Value,
)
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind
from holdfast.engine.decision import Respond, StartAttempt
from holdfast.engine.record import SignalSent, TimerFired
from holdfast.engine.row import SLOT_ABORT, SLOT_TIMEOUT, HandlerRow, Status
from tests.engine.harness import DEPLOYMENT, NOW_MS, Harness

CANCELLED = Failure(409, "cancelled: not done 5 s after it was due [HF2030]")
KILLED = Failure(409, "killed: not done 5 s after it was due and cancelled for that [HF2030]")


def limited(kind: HandlerKind = HandlerKind.PLAIN) -> Harness:
    """A partition with a handler that cuts attempts after two seconds."""
    engine = Harness()
    service_kind = ServiceKind.SERVICE if kind is HandlerKind.PLAIN else ServiceKind.VIRTUAL_OBJECT
    manifest = HandlerManifest(
        name="run", kind=kind, abort_timeout_ms=2_000, invocation_timeout_ms=5_000
    )
    engine.handlers["S", "run"] = HandlerRow(service_kind, manifest, DEPLOYMENT)
    return engine


def ring(engine: Harness, invocation: str, slot: str) -> None:
    (at_ms,) = (at for at, inv, s in engine.timers() if (inv, s) == (invocation, slot))
    engine.apply(TimerFired(at_ms, invocation, slot), at_ms=at_ms)


def test_at_its_limit_it_is_cancelled_and_told_why() -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    assert engine.timers() == [(NOW_MS + 5_000, invocation, SLOT_TIMEOUT)]
    ring(engine, invocation, SLOT_TIMEOUT)
    assert engine.status(invocation) is Status.RUNNING
    assert engine.journal(invocation)[-1] == Signal(CANCELLED, 1, None, NOW_MS + 5_000)
    assert engine.timers() == [(NOW_MS + 7_000, invocation, SLOT_ABORT)]


def test_one_that_ends_in_time_leaves_no_timer() -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    ring(engine, invocation, SLOT_TIMEOUT)
    engine.sent(invocation, Output(Value(b"1")), End())
    assert engine.status(invocation) is Status.COMPLETED
    assert engine.timers() == []


def test_one_that_does_not_end_is_killed_with_its_children() -> None:
    engine = limited()
    engine.serve("T", "child")
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    engine.sent(invocation, Call("T", "child", b"", None, (), None, 1, 2))
    (child,) = (
        e.result.invocation_id
        for e in engine.journal(invocation)
        if isinstance(e, Completion) and isinstance(e.result, ChildId)
    )
    ring(engine, invocation, SLOT_TIMEOUT)
    ring(engine, invocation, SLOT_ABORT)
    assert engine.acted(Respond)[0] == Respond(invocation, KILLED)
    assert engine.status(invocation) is engine.status(child) is Status.COMPLETED


def test_a_delayed_one_has_its_time_from_its_start() -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", execute_at_ms=NOW_MS + 60_000, timeout_ms=5_000)
    assert (NOW_MS + 65_000, invocation, SLOT_TIMEOUT) in engine.timers()


def test_one_that_waits_for_its_key_ends_at_once() -> None:
    engine = limited(HandlerKind.EXCLUSIVE)
    first = engine.invoke("S", "run", "k")
    second = engine.invoke("S", "run", "k", timeout_ms=5_000)
    ring(engine, second, SLOT_TIMEOUT)
    assert engine.acted(Respond) == [Respond(second, CANCELLED)]
    engine.sent(first, Output(Value(b"1")), End())
    assert engine.status(second) is Status.COMPLETED


@pytest.mark.parametrize("behavior", [0, 1])
def test_one_that_backs_off_or_is_paused_gets_an_attempt_to_compensate(behavior: int) -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    engine.sent(invocation, Error(500, "no", next_retry_delay_ms=60_000, behavior=behavior))
    ring(engine, invocation, SLOT_TIMEOUT)
    assert [start.row.attempt for start in engine.acted(StartAttempt)] == [2]


def test_a_suspended_one_wakes() -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    engine.sent(invocation, Sleep(NOW_MS + 90_000, 1), Suspension((1,), (1,)))
    assert engine.status(invocation) is Status.SUSPENDED
    ring(engine, invocation, SLOT_TIMEOUT)
    assert engine.acted(StartAttempt)


def test_a_cancel_before_the_limit_does_not_move_it() -> None:
    engine = limited()
    invocation = engine.invoke("S", "run", timeout_ms=5_000)
    engine.apply(SignalSent(invocation, Signal(Value(b""), index=1)))
    assert engine.timers() == [(NOW_MS + 5_000, invocation, SLOT_TIMEOUT)]


def test_calls_take_the_limit_and_the_policy_with_them() -> None:
    engine = limited()
    engine.serve("T", "parent")
    parent = engine.invoke("T", "parent")
    engine.sent(parent, OneWayCall("S", "run", b"", None, (), None, 0, 1))
    child = engine.acted(StartAttempt)[-1].row
    assert child.timeout_ms == 5_000
    assert child.retry is None
