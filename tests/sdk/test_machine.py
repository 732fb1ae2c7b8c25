"""Messages in, messages out: no event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from holdfast.domain.errors import LocalProtocolError, UsageError
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    KIND_RUN,
    Call,
    ChildId,
    ClearAllState,
    Completion,
    End,
    Entry,
    GetEagerState,
    GetEagerStateKeys,
    GetLazyState,
    GetLazyStateKeys,
    Input,
    Output,
    ProposeRunCompletion,
    Result,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Start,
    StateKeys,
    Suspension,
    Value,
    Void,
)
from holdfast.sdk.journal import JournalMismatch, branch_of
from holdfast.sdk.machine import Machine

INPUT = Input(Value(b"1"))


class Waiter:
    def __init__(self) -> None:
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.awaited = True

    def on_result(self, result: Result) -> None:
        self.result = result

    def on_failure(self, error: BaseException) -> None:
        self.error = error

    def is_awaited(self) -> bool:
        return self.awaited


def machine(entries: Sequence[Entry] = (), **start: Any) -> Machine:
    journal = [INPUT, *entries]
    fields: dict[str, Any] = {
        "invocation_id": "inv_1", "service": "S", "handler": "h", "key": "",
        "known_entries": len(journal), "state": {}, "is_state_partial": False, "retry_count": 0,
        "duration_ms": 0, "random_seed": 7, "attempt": 1, "created_at_ms": 1000,
    }  # fmt: skip
    return Machine(Start(**(fields | start)), journal)


def completion(number: int, result: Result = Value(b"x"), at_ms: int = 0) -> Completion:  # noqa: B008
    return Completion(KIND_RUN, number, result, at_ms)


def call(key: str, service: str = "Other", parameter: bytes = b"p") -> Call:
    return Call(service, "do", parameter, None, (), None, 0, 0, "", key, "f.py:1 f")


def test_new_operations_get_ids_and_indexes() -> None:
    m = machine()
    assert m.sys_run("", "run:a#0", "a", "f.py:1 f") == (1, 1)
    assert m.sys_sleep("", "sleep#0", "", 5000, "") == 2
    assert m.sys_call("", call("call:Other.do#0")).completion_id == 4
    assert m.sys_run("", "run:a#1", "a", "") == (5, 4)
    assert m.outgoing[0] == Run(1, "a", "run:a#0", "f.py:1 f")
    assert [type(c).__name__ for c in m.outgoing] == ["Run", "Sleep", "Call", "Run"]


def test_ids_continue_after_the_largest_recorded() -> None:
    m = machine([Run(9, "a", "run:a#0"), Run(3, "b", "b[0]/run:b#0")])
    assert m.sys_run("", "run:a#0", "a", "") == (9, 1)
    assert m.sys_run("", "run:c#0", "c", "") == (10, 3)
    assert m.outgoing == [Run(10, "c", "run:c#0")]


def test_results_are_handed_over_one_by_one_in_recorded_order() -> None:
    m = machine(
        [Run(1, "a", "run:a#0"), Run(2, "b", "run:b#0"), completion(2), completion(1, at_ms=2000)]
    )
    waiters = {1: Waiter(), 2: Waiter()}
    for name, number in (("a", 1), ("b", 2)):
        assert m.sys_run("", f"run:{name}#0", name, "")[0] == number
        m.expect(number, waiters[number])
    assert m.is_replaying
    first = m.take()
    assert first is not None
    assert first.waiter is waiters[2]
    assert m.now_ms == 1000
    second = m.take()
    assert second is not None
    assert second.waiter is waiters[1]
    assert m.now_ms == 2000
    assert not m.has_arrivals
    assert not m.is_replaying


def test_a_result_before_its_operation_is_held() -> None:
    m = machine([completion(1), Signal(Value(b"s"), 17)])
    assert [m.take(), m.take()] == [None, None]
    early, signal = Waiter(), Waiter()
    m.expect(1, early)
    m.expect_signal(17, signal)
    assert early.result == Value(b"x")
    assert signal.result == Value(b"s")


def test_two_recorded_operations_may_change_order() -> None:
    m = machine([Run(1, "a", "run:a#0"), Run(2, "b", "run:b#0")])
    assert m.sys_run("", "run:b#0", "b", "")[0] == 2
    assert m.sys_run("", "run:a#0", "a", "")[0] == 1
    assert m.outgoing == []


def test_branches_do_not_interfere() -> None:
    m = machine([Run(1, "a", "one[0]/run:a#0"), Run(2, "a", "two[0]/run:a#0")])
    assert m.sys_run("two[0]", "two[0]/run:a#0", "a", "")[0] == 2
    assert m.sys_run("two[0]", "two[0]/run:new#0", "new", "")[0] == 3
    assert m.sys_run("one[0]", "one[0]/run:a#0", "a", "")[0] == 1


def test_a_new_operation_before_recorded_ones_is_a_mismatch() -> None:
    m = machine([Run(1, "fetch weather", "run:fetch weather#0", "app.py:10 run")])
    with pytest.raises(JournalMismatch) as caught:
        m.sys_run("", "run:get weather#0", "get weather", "app.py:10 run")
    assert str(caught.value) == (
        "Journal mismatch in inv_1, branch: the handler itself.\n"
        "  recorded:  run 'fetch weather' at app.py:10 run\n"
        "  attempted: run 'get weather' at app.py:10 run\n"
        "The handler changed under a running invocation. Give steps and the functions of tasks "
        "their old names back, or resume it on a deployment that can replay it (holdfast inv "
        "resume ID --deployment latest), or kill it and call the handler again. [HF0570]"
    )


def test_the_branch_of_a_mismatch_is_named() -> None:
    m = machine([Sleep(5, 1, "", "w[1]/sleep#0", "a.py:2 w")])
    with pytest.raises(JournalMismatch, match=r"branch: w\[1\]\.\n  recorded:  sleep at a.py:2 w"):
        m.sys_run("w[1]", "w[1]/run:x#0", "x", "")


def test_another_target_is_a_mismatch_and_another_parameter_is_not() -> None:
    recorded = Call("Other", "do", b"p", "k", (), None, 1, 2, "", "call:Other.do#0", "f.py:1 f")
    m = machine([recorded])
    with pytest.raises(JournalMismatch, match="recorded:  call 'Other/k/do'"):
        m.sys_call("", call("call:Other.do#0"))
    m = machine([call("call:Other.do#0")])
    m.sys_call("", call("call:Other.do#0", parameter=b"q"))
    assert m.differences == ["call:Other.do#0: another parameter than the recorded one"]


def test_ending_before_recorded_operations_is_a_mismatch() -> None:
    m = machine([Run(1, "a", "run:a#0")])
    with pytest.raises(JournalMismatch, match="attempted: the handler has ended"):
        m.sys_output(Value(b""))


def test_output_is_written_once() -> None:
    m = machine()
    m.sys_output(Value(b"1"))
    assert m.outgoing == [Output(Value(b"1"), "", "output#0"), End()]
    m = machine([Output(Value(b"1"), "", "output#0")])
    m.sys_output(Value(b"2"))
    assert m.outgoing == [End()]


def test_the_recorded_time_of_a_timer_holds() -> None:
    m = machine([Sleep(5000, 1, "", "sleep#0"), completion(1, Void())])
    m.sys_sleep("", "sleep#0", "", 9000, "")
    waiter = Waiter()
    m.expect(1, waiter)
    assert m.take() is not None
    # Without stamps of the server, the clock passes the timer nevertheless.
    assert m.now_ms == 5000


def test_complete_state_is_read_locally_and_recorded() -> None:
    m = machine(state={"a": b"1"})
    assert m.sys_get("", "get:a#0", "a", "") == Value(b"1")
    assert m.sys_get("", "get:b#0", "b", "") == Void()
    m.sys_set("", "set:b#0", "b", b"2", "")
    assert m.sys_get("", "get:b#1", "b", "") == Value(b"2")
    assert m.sys_keys("", "keys#0", "") == StateKeys(("a", "b"))
    m.sys_clear("", "clear:a#0", "a", "")
    assert m.sys_get("", "get:a#1", "a", "") == Void()
    assert m.sys_keys("", "keys#1", "") == StateKeys(("b",))
    assert m.outgoing[0] == GetEagerState("a", Value(b"1"), "", "get:a#0")
    assert m.outgoing[4] == GetEagerStateKeys(("a", "b"), "", "keys#0")


def test_partial_state_is_asked_for() -> None:
    m = machine(is_state_partial=True, state={"a": b"1"})
    assert m.sys_get("", "get:a#0", "a", "") == Value(b"1")
    number = m.sys_get("", "get:b#0", "b", "")
    listing = m.sys_keys("", "keys#0", "")
    assert m.outgoing[1:] == [
        GetLazyState("b", 2, "", "get:b#0"),
        GetLazyStateKeys(3, "", "keys#0"),
    ]
    assert (number, listing) == (2, 3)
    m.sys_clear_all("", "clear_all#0", "")
    assert m.sys_get("", "get:b#1", "b", "") == Void()
    assert isinstance(m.outgoing[3], ClearAllState)


def test_replayed_reads_and_writes_come_from_the_record() -> None:
    journal = [
        GetEagerState("a", Value(b"old"), "", "get:a#0"),
        SetState("a", Value(b"new"), "", "set:a#0"),
        GetLazyState("a", 5, "", "get:a#1"),
    ]
    m = machine(journal, state={"a": b"newer"})
    assert m.sys_get("", "get:a#0", "a", "") == Value(b"old")
    m.sys_set("", "set:a#0", "a", b"new", "")
    assert m.sys_get("", "get:a#1", "a", "") == 5
    assert m.sys_get("", "get:a#2", "a", "") == Value(b"newer")


def test_awakeable_indexes_derive_from_the_key() -> None:
    first, second = machine(), machine([Run(1, "a", "run:a#0")])
    index = first.sys_awakeable("awakeable#0")
    assert index == second.sys_awakeable("awakeable#0")
    assert index >= 17
    assert first.sys_awakeable("awakeable#1") != index
    assert first.outgoing == []


def test_two_awakeables_with_one_index_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sdk.machine._SIGNAL_SPACE", 1)
    m = machine()
    m.sys_awakeable("awakeable#0")
    with pytest.raises(UsageError, match=r"same signal index 17 \[HF0503\]"):
        m.sys_awakeable("awakeable#1")


def test_suspension_lists_what_is_awaited_and_always_cancellation() -> None:
    m = machine()
    waiters = [Waiter(), Waiter(), Waiter()]
    waiters[1].awaited = False
    m.expect(4, waiters[0])
    m.expect(2, waiters[1])
    m.expect_signal(17, waiters[2])
    assert m.suspension() == Suspension((4,), (1, 17))
    m.forget(4)
    m.forget_signal(17)
    assert m.suspension() == Suspension((), (1,))


def test_cancellation_is_passed_on_to_calls_in_flight() -> None:
    m = machine()
    waiting = m.sys_call("", call("call:Other.do#0"))
    answered = m.sys_call("", call("call:Other.do#1"))
    m.feed([
        Completion(KIND_CALL, answered.completion_id, Value(b"")),
        Signal(Void(), 1),
        Completion(KIND_CHILD_ID, waiting.invocation_id_completion_id, ChildId("inv_child")),
    ])  # fmt: skip
    assert [m.take(), m.take()] == [None, None]
    assert m.cancel_count == 1
    assert not m.can_pass_cancel_on()
    assert m.take() is None
    assert m.can_pass_cancel_on()
    m.outgoing.clear()
    m.sys_pass_cancel_on(0)
    key = "cancel[0]/cancel:call:Other.do#0#0"
    cancel = SendSignal("inv_child", Void(), 1, None, "", key, is_passed_on=True)
    assert m.outgoing == [cancel]


def test_a_journal_without_keys_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="Command 1 of inv_1 has no journal key"):
        machine([Run(1, "a")])


@pytest.mark.parametrize(
    ("key", "branch"),
    [("run:a#0", ""), ("w[0]/run:a#0", "w[0]"), ("a[0]/b[2]/sleep#1", "a[0]/b[2]")],
)
def test_branch_of(key: str, branch: str) -> None:
    assert branch_of(key) == branch


def test_a_new_invocation_goes_the_new_way_and_records_it() -> None:
    m = machine()
    assert m.sys_patched("v2", "f.py:1 f")
    assert m.sys_patched("v2", "f.py:9 f")
    assert m.outgoing == [
        Run(1, "patched:v2", "patched:v2#0", "f.py:1 f"),
        ProposeRunCompletion(1, Value(b"true")),
    ]
    assert m.sys_run("", "run:a#0", "a", "") == (2, 2)


def test_what_was_recorded_behind_the_place_keeps_the_old_way() -> None:
    m = machine([Run(1, "a", "run:a#0"), completion(1), Run(2, "b", "other[0]/run:b#0")])
    m.sys_run("", "run:a#0", "a", "")
    assert not m.sys_patched("v2", "")
    m.sys_run("other[0]", "other[0]/run:b#0", "b", "")
    assert not m.sys_patched("v2", ""), "one invocation, one answer"
    assert m.sys_patched("v3", ""), "nothing was done behind this place"
    proposal = ProposeRunCompletion(3, Value(b"true"))
    assert m.outgoing == [Run(3, "patched:v3", "patched:v3#0"), proposal]


def test_a_recorded_patch_holds_and_need_not_be_asked_for() -> None:
    patch = Run(1, "patched:v2", "patched:v2#0")
    journal = [patch, completion(1, Value(b"true")), Run(2, "a", "run:a#0"), completion(2)]
    m = machine(journal)
    assert m.sys_patched("v2", "")
    assert m.sys_run("", "run:a#0", "a", "") == (2, 2)
    assert m.outgoing == []
    without = machine(journal)
    without.sys_run("", "run:a#0", "a", "")
    without.sys_output(Value(b"1"))
    assert [type(message) for message in without.outgoing] == [Output, End]


def test_results_that_wait_for_their_turn_do_not_close_a_gate() -> None:
    # The attempt that lost its marker was on the new way; other branches were told more since.
    m = machine([Run(1, "a", "run:a#0"), Run(2, "b", "run:b#0"), completion(1), completion(2)])
    m.sys_run("", "run:a#0", "a", "")
    m.sys_run("", "run:b#0", "b", "")
    m.take()
    assert m.has_arrivals
    assert m.sys_patched("v2", "")
