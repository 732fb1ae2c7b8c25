"""What is accepted outlives the server: state, timers, promises, delays, answers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from .harness import Holdfast, Ledger, wait_until

LATE_S = 3.0
"""How late a timer may be on a loaded machine."""


def terminate_dev(holdfast: Holdfast) -> None:
    assert holdfast.current("dev").terminate() == 0


def kill_dev(holdfast: Holdfast) -> None:
    holdfast.current("dev").kill()


def told(ledger: Ledger, word: str) -> str:
    """Wait for a line `word text` and return the text."""

    def find() -> str | None:
        found = [line.split()[1] for line in ledger.lines() if line.split()[0] == word]
        return found[0] if found else None

    return wait_until(find, f"{word!r} in the ledger")


def test_starting_again_with_nothing_to_do(dev: Holdfast) -> None:
    terminate_dev(dev)
    dev.dev("--no-reload")
    assert dev.invocations() == []
    terminate_dev(dev)


@pytest.mark.parametrize("stop", [terminate_dev, kill_dev])
def test_everything_survives(
    stop: Callable[[Holdfast], None], dev: Holdfast, ledger: Ledger
) -> None:
    assert dev.call("Counter/a/add", 5) == 5
    once = dev.post("/Greeter/once", "x", "the-key").ok()
    napping = dev.send("Waiter/nap", 4.0)
    waiting = dev.send("Waiter/wait", "Ada")
    awakeable = told(ledger, "wait")
    lay_down = float(told(ledger, "lie-down"))
    sent_at = time.time()
    delayed = dev.send("Waiter/mark", "late", delay="4s")
    dev.until_journal(waiting, "Notification: Run")
    dev.until_journal(napping, "Command: Sleep")

    stop(dev)
    dev.dev("--no-reload")
    ready_at = time.time()

    assert dev.call("Counter/a/peek") == 5
    assert dev.call("Counter/a/add", 1) == 6
    assert dev.post("/Greeter/once", "x", "the-key").ok() == once
    dev.resolve(awakeable, "hi")
    assert dev.attach(waiting).ok() == "Ada: hi"
    assert dev.attach(napping).ok() == "rested"
    woke = float(told(ledger, "wake-up"))
    # The clock of timers has milliseconds.
    assert woke >= lay_down + 4.0 - 0.01
    assert woke <= max(lay_down + 4.0, ready_at) + LATE_S
    assert dev.attach(delayed).status == 200
    marked = float(told(ledger, "mark-late"))
    assert marked >= sent_at + 4.0 - 0.01
    assert marked <= max(sent_at + 4.0, ready_at) + LATE_S
    words = [line.split()[0] for line in ledger.lines()]
    assert sorted(words) == ["lie-down", "mark-late", "once", "wait", "wake-up"]


def test_a_server_that_is_asked_to_stop_exits_0_and_what_is_open_goes_on(
    basics: Holdfast, ledger: Ledger
) -> None:
    basics.up()
    napping = basics.send("Waiter/nap", 2.0)
    waiting = basics.send("Waiter/wait", "Ada")
    holder = basics.send("Counter/a/hold")
    queued = basics.send("Counter/a/add", 1)
    awakeable, release = told(ledger, "wait"), told(ledger, "hold")
    basics.until_journal(napping, "Command: Sleep")
    assert basics.current("server").terminate() == 0
    # The worker stays and finds the server again.
    basics.server().until("Ready")
    basics.resolve(awakeable, "hi")
    basics.resolve(release, "go")
    assert basics.attach(napping).ok() == "rested"
    assert basics.attach(waiting).ok() == "Ada: hi"
    assert basics.attach(holder).ok() == "go"
    assert basics.attach(queued).ok() == 1
    assert basics.current("worker").terminate() == 0
    assert basics.current("server").terminate() == 0
    for name in ("server", "worker"):
        assert "Traceback" not in basics.current(name).text
    assert "Traceback" not in (basics.folder / "0-server.log").read_text()


def test_a_worker_that_is_asked_to_stop_hands_over(basics: Holdfast, ledger: Ledger) -> None:
    basics.up()
    waiting = basics.send("Waiter/wait", "Ada")
    awakeable = told(ledger, "wait")
    basics.until_journal(waiting, "Notification: Run")
    assert basics.current("worker").terminate() == 0
    # Nobody can run it, and it is not lost.
    basics.resolve(awakeable, "hi")
    later = basics.send("Greeter/greet", "Bob")
    assert basics.invocation(waiting)["status"] != "completed"
    basics.worker()
    assert basics.attach(waiting).ok() == "Ada: hi"
    assert basics.attach(later).ok() == "Hello Bob"
    assert basics.invocation(waiting)["retry_count"] == 0
