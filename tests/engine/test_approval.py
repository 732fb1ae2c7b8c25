"""Approvals: one decision counts, and inbox and handler hear of the same one."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from holdfast.domain.approval import ApprovalStatus, DecisionContent, decode_decision
from holdfast.domain.message import (
    SIGNAL_CANCEL,
    AskApproval,
    End,
    Output,
    Signal,
    Sleep,
    Suspension,
    Value,
    WithdrawApproval,
)
from holdfast.engine import command as command_module
from holdfast.engine.decision import Forward, RegisterTimer, Reply, StartAttempt
from holdfast.engine.record import (
    ApprovalDecided,
    Expired,
    KillRequested,
    PauseRequested,
    PurgeRequested,
    RestartRequested,
    SignalSent,
    TimerFired,
)
from holdfast.engine.row import ApprovalRow, Status, Table, slot_of_approval
from tests.engine.harness import NOW_MS, Harness

INDEX = 77
ASK = AskApproval(INDEX, "Pay", payload=b'{"euros":9}', key="approve#0")
UNTIL = replace(ASK, expires_at_ms=NOW_MS + 500)
YES = {"is_approved": True, "value": b'{"a":1}', "arguments": b'{"n":2}', "by": "ann"}


def approval(h: Harness, inv: str, index: int = INDEX) -> ApprovalRow:
    found: ApprovalRow = h.rows[Table.APPROVAL, inv, index]
    return found


def decide(h: Harness, inv: str, **fields: Any) -> list[Any]:
    return h.apply(ApprovalDecided(inv, INDEX, **({"is_approved": True} | fields)))


def decisions(h: Harness, inv: str, index: int = INDEX) -> list[DecisionContent]:
    signals = (e for e in h.journal(inv) if isinstance(e, Signal) and e.index == index)
    return [decode_decision(s.result.content) for s in signals if isinstance(s.result, Value)]


def asked(h: Harness, command: AskApproval = ASK) -> str:
    inv = h.invoke()
    h.sent(inv, command)
    return inv


def reply(h: Harness) -> Reply:
    assert h.answer is not None
    return h.answer.reply


def test_an_approval_is_in_the_inbox_once_it_is_recorded() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    row = approval(h, inv)
    assert (row.title, row.status, row.entry_index) == ("Pay", ApprovalStatus.OPEN, 1)
    assert h.journal(inv)[row.entry_index] == UNTIL
    assert h.timers() == [(NOW_MS + 500, inv, slot_of_approval(INDEX))]
    assert h.actions == [RegisterTimer(NOW_MS + 500, inv, slot_of_approval(INDEX))]
    assert (h.row(inv).approval_count, h.row(inv).open_approval_count) == (1, 1)


def test_a_decision_reaches_row_and_handler_in_one_record() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    h.now_ms += 10
    actions = decide(h, inv, **YES)
    row = approval(h, inv)
    assert (row.status, row.by, row.decided_at_ms) == (ApprovalStatus.APPROVED, "ann", NOW_MS + 10)
    assert isinstance(h.journal(inv)[row.decision_index or 0], Signal)
    [content] = decisions(h, inv)
    assert (content.approved, content.by, content.at_ms) == (True, "ann", NOW_MS + 10)
    assert (bytes(content.value), bytes(content.arguments)) == (b'{"a":1}', b'{"n":2}')
    assert not content.timed_out
    assert [type(action) for action in actions] == [Forward]
    assert h.timers() == []
    assert (h.row(inv).timer_count, h.row(inv).open_approval_count) == (0, 0)


def test_of_two_decisions_the_first_counts_also_in_one_batch() -> None:
    h = Harness()
    inv = asked(h)
    h.apply_together(
        ApprovalDecided(inv, INDEX, True, by="ann"), ApprovalDecided(inv, INDEX, False, by="bob")
    )
    assert reply(h) is Reply.CONFLICT
    decide(h, inv, is_approved=False, by="eve")
    assert reply(h) is Reply.CONFLICT
    assert approval(h, inv).by == "ann"
    assert [c.by for c in decisions(h, inv)] == ["ann"]


def test_a_suspended_handler_is_woken() -> None:
    h = Harness()
    inv = asked(h)
    h.sent(inv, Suspension((), (SIGNAL_CANCEL, INDEX)))
    assert h.status(inv) is Status.SUSPENDED
    actions = decide(h, inv, is_approved=False)
    assert [type(action) for action in actions] == [StartAttempt]
    assert approval(h, inv).status is ApprovalStatus.REJECTED


def test_a_paused_handler_hears_of_it_later() -> None:
    h = Harness()
    inv = asked(h)
    h.apply(PauseRequested(inv))
    decide(h, inv)
    assert (reply(h), h.status(inv)) == (Reply.ACCEPTED, Status.PAUSED)
    assert len(decisions(h, inv)) == 1


@pytest.mark.parametrize(("then", "is_approved"), [("reject", False), ("approve", True)])
def test_a_deadline_decides(then: str, is_approved: bool) -> None:
    h = Harness()
    inv = asked(h, replace(UNTIL, on_timeout=then))
    fired = TimerFired(NOW_MS + 500, inv, slot_of_approval(INDEX))
    h.apply(fired, at_ms=NOW_MS + 500)
    h.apply(fired, at_ms=NOW_MS + 501)
    assert approval(h, inv).status is ApprovalStatus.EXPIRED
    [content] = decisions(h, inv)
    assert (content.approved, content.timed_out) == (is_approved, True)
    decide(h, inv)
    assert reply(h) is Reply.CONFLICT


def test_a_decision_behind_the_deadline_is_too_late_also_when_the_timer_is_later() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    h.now_ms = NOW_MS + 500
    decide(h, inv, by="ann")
    assert reply(h) is Reply.CONFLICT
    assert approval(h, inv).status is ApprovalStatus.EXPIRED
    h.apply(TimerFired(NOW_MS + 500, inv, slot_of_approval(INDEX)))
    assert [c.timed_out for c in decisions(h, inv)] == [True]
    assert h.row(inv).timer_count == 0


def test_only_a_decision_completes_its_awakeable() -> None:
    h = Harness()
    inv = asked(h)
    h.apply(SignalSent(inv, Signal(Value(b"true"), index=INDEX)))
    assert (reply(h), decisions(h, inv)) == (Reply.UNSUPPORTED, [])
    h.apply(SignalSent(inv, Signal(Value(b"true"), index=INDEX + 1)))
    assert reply(h) is Reply.ACCEPTED
    decide(h, inv)
    h.apply(SignalSent(inv, Signal(Value(b"false"), index=INDEX)))
    assert (reply(h), len(decisions(h, inv))) == (Reply.UNSUPPORTED, 1)


def test_an_awakeable_that_was_completed_before_it_was_an_approval() -> None:
    h = Harness()
    inv = h.invoke()
    h.apply(SignalSent(inv, Signal(Value(b'{"approved":true}'), index=INDEX)))
    h.sent(inv, UNTIL)
    assert (Table.APPROVAL, inv, INDEX) not in h.rows
    assert h.timers() == []


def test_it_is_asked_once() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    h.sent(inv, UNTIL)
    assert (h.row(inv).approval_count, h.row(inv).timer_count) == (1, 1)


def test_it_is_withdrawn_by_the_handler_and_not_decided_any_more() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    h.sent(inv, WithdrawApproval(INDEX, key="approve#0/withdraw#0"))
    assert approval(h, inv).status is ApprovalStatus.WITHDRAWN
    assert (h.timers(), h.row(inv).timer_count, h.row(inv).open_approval_count) == ([], 0, 0)
    decide(h, inv)
    assert (reply(h), decisions(h, inv)) == (Reply.CONFLICT, [])
    h.sent(inv, WithdrawApproval(INDEX + 1, key="approve#1/withdraw#0"))


def test_a_decision_is_not_withdrawn() -> None:
    h = Harness()
    inv = asked(h)
    decide(h, inv)
    h.sent(inv, WithdrawApproval(INDEX, key="approve#0/withdraw#0"))
    assert approval(h, inv).status is ApprovalStatus.APPROVED


def test_the_end_of_an_invocation_withdraws_what_is_open() -> None:
    h = Harness()
    inv = asked(h, UNTIL)
    other = replace(ASK, index=INDEX + 1, key="approve#1")
    h.sent(inv, other)
    decide(h, inv)
    h.sent(inv, Output(Value(b"1"), key="output#0"), End())
    assert approval(h, inv).status is ApprovalStatus.APPROVED
    assert approval(h, inv, INDEX + 1).status is ApprovalStatus.WITHDRAWN
    assert h.row(inv).open_approval_count == 0


@pytest.mark.parametrize("is_together", [False, True])
def test_a_kill_withdraws(is_together: bool) -> None:
    h = Harness()
    inv = asked(h, UNTIL) if not is_together else h.invoke()
    if is_together:
        from holdfast.engine.record import HandlerSent

        sent = HandlerSent(inv, h.epoch, 1, "dp_test", (UNTIL,))
        h.apply_together(sent, KillRequested(inv))
    else:
        h.apply(KillRequested(inv))
    assert approval(h, inv).status is ApprovalStatus.WITHDRAWN
    assert h.timers() == []
    decide(h, inv)
    assert reply(h) is Reply.CONFLICT


def test_rows_go_with_the_invocation() -> None:
    h = Harness()
    inv = asked(h)
    h.apply(KillRequested(inv))
    h.apply(PurgeRequested(inv, is_journal_only=True))
    assert approval(h, inv).status is ApprovalStatus.WITHDRAWN
    h.apply(Expired(inv), at_ms=NOW_MS + 100_000)
    assert [key for key in h.rows if key[0] is Table.APPROVAL] == []
    decide(h, inv)
    assert reply(h) is Reply.NOT_FOUND


def test_a_restart_asks_again_with_an_id_of_its_own() -> None:
    h = Harness()
    inv = asked(h, replace(UNTIL, expires_at_ms=NOW_MS + 50_000))
    decide(h, inv)
    h.sent(
        inv, Sleep(NOW_MS + 90_000, 1, key="sleep#0"), Output(Value(b"1"), key="output#0"), End()
    )
    again = h.new_id("Greeter", None)
    h.apply(RestartRequested(inv, again, from_index=1))
    row = approval(h, again)
    assert (row.status, row.entry_index) == (ApprovalStatus.OPEN, 1)
    assert (NOW_MS + 50_000, again, slot_of_approval(INDEX)) in h.timers()
    late = h.new_id("Greeter", None)
    h.now_ms = NOW_MS + 60_000
    h.apply(RestartRequested(inv, late, from_index=1))
    assert approval(h, late).status is ApprovalStatus.EXPIRED
    assert [c.timed_out for c in decisions(h, late)] == [True]


def test_a_restart_keeps_a_decision() -> None:
    h = Harness()
    inv = asked(h)
    decide(h, inv)
    h.sent(inv, Output(Value(b"1"), key="output#0"), End())
    again = h.new_id("Greeter", None)
    h.apply(RestartRequested(inv, again, from_index=2))
    assert [c.approved for c in decisions(h, again)] == [True]
    assert (Table.APPROVAL, again, INDEX) not in h.rows


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    h = Harness()
    monkeypatch.setattr(command_module, "OPEN_APPROVALS_MAX", 1)
    inv = asked(h)
    h.sent(inv, replace(ASK, index=INDEX + 1, key="approve#1"))
    failure = h.row(inv).last_failure
    assert failure is not None
    assert (failure.code, "[HF1415]" in failure.message) == (429, True)
    monkeypatch.setattr(command_module, "APPROVAL_BYTES_MAX", 5)
    inv = asked(h)
    failure = h.row(inv).last_failure
    assert failure is not None
    assert (failure.code, "[HF1415]" in failure.message) == (413, True)
    assert (Table.APPROVAL, inv, INDEX) not in h.rows


def test_unknown_ones() -> None:
    h = Harness()
    inv = h.invoke()
    decide(h, inv)
    assert reply(h) is Reply.NOT_FOUND
    decide(h, h.new_id("Greeter", None))
    assert reply(h) is Reply.NOT_FOUND
