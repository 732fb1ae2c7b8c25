"""State that expires, and edits of state by operators."""

from __future__ import annotations

from holdfast.domain.identity import workflow_id
from holdfast.domain.message import (
    Completion,
    End,
    GetLazyState,
    GetLazyStateKeys,
    Output,
    SetState,
    StateKeys,
    Value,
    Void,
)
from holdfast.domain.target import HandlerKind
from holdfast.engine.decision import Reply
from holdfast.engine.limit import STATE_VALUE_BYTES_MAX
from holdfast.engine.on_state import state_version
from holdfast.engine.record import Expired, KillRequested, StateEdited, StateExpired
from holdfast.engine.row import StateEdit, StateRow, Status, Table

from .harness import NOW_MS, Harness

END = (Output(Value(b"")), End())


def edit(engine: Harness, *entries: tuple[str, bytes | None], **options: object) -> Reply:
    change = StateEdit(entries, **options)  # type: ignore[arg-type]
    engine.apply(StateEdited("Box", "k", change))
    assert engine.answer is not None
    return engine.answer.reply


def last_result(engine: Harness, invocation_id: str) -> object:
    entry = engine.journal(invocation_id)[-1]
    assert isinstance(entry, Completion)
    return entry.result


# -- expiry ----------------------------------------------------------------------------------------


def test_an_entry_exists_until_it_expires() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    engine.sent(inv, SetState("a", Value(b"1"), expires_at_ms=NOW_MS + 10))
    engine.sent(inv, SetState("b", Value(b"2")))
    engine.now_ms += 9
    engine.sent(inv, GetLazyState("a", 1))
    assert last_result(engine, inv) == Value(b"1")
    engine.now_ms += 1
    engine.sent(inv, GetLazyState("a", 2))
    assert last_result(engine, inv) == Void()
    engine.sent(inv, GetLazyStateKeys(3))
    assert last_result(engine, inv) == StateKeys(("b",))


def test_a_listing_in_the_same_batch_leaves_out_what_expires_at_once() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    gone = SetState("a", Value(b"1"), expires_at_ms=NOW_MS)
    engine.sent(inv, gone, GetLazyStateKeys(1))
    assert last_result(engine, inv) == StateKeys(())


def test_a_later_write_takes_the_expiry_away() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    engine.sent(inv, SetState("a", Value(b"1"), expires_at_ms=NOW_MS + 10))
    engine.sent(inv, SetState("a", Value(b"2")))
    engine.now_ms += 100
    engine.apply(StateExpired("Box", "k", ("a", "never was")))
    engine.sent(inv, GetLazyState("a", 1))
    assert last_result(engine, inv) == Value(b"2")


def test_what_has_expired_is_removed_and_what_has_not_stays() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    engine.sent(inv, SetState("a", Value(b"1"), expires_at_ms=NOW_MS + 10))
    engine.sent(inv, SetState("b", Value(b"2"), expires_at_ms=NOW_MS + 11))
    engine.now_ms += 10
    engine.apply(StateExpired("Box", "k", ("a", "b")))
    assert engine.state("Box", "k") == {"b": b"2"}


def test_an_entry_that_is_too_large_fails_the_attempt() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    engine.sent(inv, SetState("a", Value(bytes(STATE_VALUE_BYTES_MAX + 1))))
    failure = engine.row(inv).last_failure
    assert failure is not None
    assert "HF2035" in failure.message
    assert engine.state("Box", "k") == {}


# -- edits -----------------------------------------------------------------------------------------


def test_the_version_is_that_of_restate() -> None:
    assert state_version({"c": b"5"}) == "Pu105nYgURx6t5OrvPvp3p_8WTXOk04fQQOICE49Cp0"
    assert state_version({}) == "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"


def test_an_edit_is_applied_at_once_while_nobody_has_the_key() -> None:
    engine = Harness()
    assert edit(engine, ("a", b"1"), ("b", b"2")) is Reply.ACCEPTED
    assert edit(engine, ("a", None), ("c", b"3")) is Reply.ACCEPTED
    assert engine.state("Box", "k") == {"b": b"2", "c": b"3"}
    assert edit(engine, ("d", b"4"), is_replacing=True) is Reply.ACCEPTED
    assert engine.state("Box", "k") == {"d": b"4"}
    assert (Table.LOCK, "Box", "k") not in engine.rows


def test_an_edit_of_another_version_changes_nothing() -> None:
    engine = Harness()
    edit(engine, ("a", b"1"))
    version = state_version({"a": b"1"})
    assert edit(engine, ("a", b"2"), version=version) is Reply.ACCEPTED
    assert edit(engine, ("a", b"3"), version=version) is Reply.STALE
    assert engine.state("Box", "k") == {"a": b"2"}


def test_expired_entries_are_no_part_of_the_version() -> None:
    engine = Harness()
    engine.rows[Table.STATE, "Box", "k", "old"] = StateRow(b"x", NOW_MS)
    assert edit(engine, ("a", b"1"), version=state_version({})) is Reply.ACCEPTED


def test_an_edit_waits_for_its_turn() -> None:
    engine = Harness()
    first = engine.invoke("Box", "hold", "k")
    assert edit(engine, ("n", b"edited")) is Reply.QUEUED
    second = engine.invoke("Box", "hold", "k")
    engine.sent(first, SetState("n", Value(b"first")), GetLazyState("n", 1))
    assert last_result(engine, first) == Value(b"first")
    engine.sent(first, *END)
    assert engine.status(second) is Status.RUNNING
    engine.sent(second, GetLazyState("n", 1))
    assert last_result(engine, second) == Value(b"edited")


def test_the_version_is_checked_when_the_turn_comes() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    edit(engine, ("n", b"edited"), version=state_version({}))
    engine.sent(inv, SetState("n", Value(b"1")), *END)
    assert engine.state("Box", "k") == {"n": b"1"}


def test_edits_that_wait_alone_free_the_key() -> None:
    engine = Harness()
    inv = engine.invoke("Box", "hold", "k")
    edit(engine, ("a", b"1"))
    edit(engine, ("b", b"2"))
    engine.apply(KillRequested(inv))
    assert engine.state("Box", "k") == {"a": b"1", "b": b"2"}
    assert not [key for key in engine.rows if key[0] in (Table.LOCK, Table.INBOX)]


def test_shared_handlers_do_not_make_an_edit_wait() -> None:
    engine = Harness()
    engine.serve("Box", "look", HandlerKind.SHARED)
    engine.invoke("Box", "look", "k")
    assert edit(engine, ("a", b"1")) is Reply.ACCEPTED


def test_state_of_a_workflow_key_needs_a_main_invocation_that_takes_it_along() -> None:
    engine = Harness()
    engine.serve_workflow()

    def edit_workflow(*entries: tuple[str, bytes | None]) -> Reply:
        engine.apply(StateEdited("Signup", "k", StateEdit(entries), is_workflow=True))
        assert engine.answer is not None
        return engine.answer.reply

    assert edit_workflow(("a", b"1")) is Reply.NOT_FOUND
    assert engine.state("Signup", "k") == {}
    assert edit_workflow(("a", None)) is Reply.ACCEPTED
    main = engine.invoke("Signup", "run", "k", invocation_id=workflow_id("Signup", "k"))
    assert edit_workflow(("a", b"1")) is Reply.ACCEPTED
    engine.sent(main, *END)
    assert edit_workflow(("b", b"2")) is Reply.ACCEPTED
    assert engine.state("Signup", "k") == {"a": b"1", "b": b"2"}
    engine.apply(Expired(main), at_ms=engine.now_ms + 5_000)
    assert engine.state("Signup", "k") == {}
    assert edit_workflow(("a", b"1")) is Reply.NOT_FOUND
