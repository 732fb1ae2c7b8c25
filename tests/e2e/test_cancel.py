"""Cancel and kill, by the admin API."""

from __future__ import annotations

import time

import pytest

from .harness import Holdfast, Ledger, ask, wait_until


def child_of(holdfast: Holdfast, parent: str) -> str:
    entries = holdfast.until_journal(parent, "Notification: CallInvocationId")
    return str(entries[0]["invocation_id"])


@pytest.mark.parametrize("is_restarted", [False, True])
def test_cancel_reaches_the_child_and_compensation_runs(
    is_restarted: bool, dev: Holdfast, ledger: Ledger
) -> None:
    parent = dev.send("Trip/book", "Ada")
    ledger.until("board Ada")
    child = child_of(dev, parent)
    dev.until_journal(child, "Command: Sleep")
    if is_restarted:
        # Then nothing runs that could be told: it has to be woken up.
        assert dev.current("dev").terminate() == 0
        dev.dev("--no-reload")
    assert dev.patch(parent, "cancel").status == 202
    answer = dev.attach(parent)
    assert answer.status == 409
    assert answer.json()["source"] == "invocation"
    assert dev.attach(child).status == 409
    lines = ledger.lines()
    assert lines[:2] == ["reserve Ada", "board Ada"]
    # The child is told first; what both do then, they do side by side.
    assert sorted(lines[2:]) == ["leave Ada 409", "undo Ada 409"]
    for each in (parent, child):
        row = dev.invocation(each)
        assert (row["status"], row["has_failed"]) == ("completed", True)
    # It is over: there is nothing to cancel.
    assert dev.patch(parent, "cancel").status == 409
    assert dev.patch(parent, "kill").status == 409


def test_kill_ends_all_at_once_without_compensation(dev: Holdfast, ledger: Ledger) -> None:
    parent = dev.send("Trip/book", "Ada")
    ledger.until("board Ada")
    child = child_of(dev, parent)
    dev.until_journal(child, "Command: Sleep")
    assert dev.patch(parent, "kill").status == 200
    assert dev.attach(parent).status == 409
    dev.until_status(child, "completed")
    assert dev.invocation(parent)["status"] == "completed"
    assert ledger.lines() == ["reserve Ada", "board Ada"]
    assert dev.call("Greeter/greet", "Ada") == "Hello Ada"


@pytest.mark.parametrize(("verb", "status"), [("kill", 200), ("cancel", 202)])
def test_the_key_is_free_afterwards(verb: str, status: int, dev: Holdfast, ledger: Ledger) -> None:
    assert dev.call("Counter/a/add", 3) == 3
    holder = dev.send("Counter/a/hold")
    wait_until(ledger.lines, "the holder of the key")
    dev.until_journal(holder, "Notification: Run")
    queued = dev.send("Counter/a/add", 1)
    assert dev.invocation(queued)["status"] == "pending"
    assert dev.patch(holder, verb).status == status
    assert dev.attach(queued).ok() == 4
    assert dev.attach(holder).status == 409
    assert dev.call("Counter/a/add", 1) == 5


def test_what_has_not_begun_is_cancelled_at_once(dev: Holdfast, ledger: Ledger) -> None:
    holder = dev.send("Counter/a/hold")
    wait_until(ledger.lines, "the holder of the key")
    queued = dev.send("Counter/a/add", 1)
    delayed = dev.send("Greeter/once", "x", delay="1h")
    for each, status in ((queued, "pending"), (delayed, "scheduled")):
        assert dev.invocation(each)["status"] == status
        assert dev.patch(each, "cancel").status == 200
        assert dev.attach(each).status == 409
    last = dev.send("Counter/a/add", 5)
    assert dev.patch(holder, "kill").status == 200
    assert dev.attach(last).ok() == 5
    assert not any(line.startswith("once") for line in ledger.lines())


def test_a_running_step_is_stopped_at_once_by_a_cancel_and_by_a_signal(
    basics: Holdfast, ledger: Ledger
) -> None:
    basics.up()
    cancelled = basics.send("Trip/wander", "Ada")
    signalled = basics.send("Trip/wander", "Bob")
    ledger.until("stroll Ada")
    ledger.until("stroll Bob")
    begin_s = time.time()
    assert basics.patch(cancelled, "cancel").status == 202
    assert basics.post(f"/holdfast/v1/invocations/{signalled}/signals/go", "east").status == 202
    assert basics.attach(cancelled).status == 409
    assert basics.attach(signalled).ok() == "went east"
    stopped = [line for line in ledger.lines() if line.startswith("stopped")]
    assert sorted(line.split()[0] for line in stopped) == ["stopped-Ada", "stopped-Bob"]
    assert all(float(line.split()[1]) - begin_s < 1 for line in stopped)
    assert "home Ada" in ledger.lines()
    assert "home Bob" not in ledger.lines()
    late = ask("POST", basics.ingress, f"/holdfast/v1/invocations/{signalled}/signals/go")
    assert (late.status, late.error_code()) == (409, "HF0524")
