"""Pause, resume, restart and purge, over the worker socket and through restarts."""

from __future__ import annotations

import subprocess
import sys

from .harness import Holdfast, Ledger, ask, environment, wait_until


def told(ledger: Ledger, word: str, count: int = 1) -> str:
    """Wait for lines that begin with a word, and return the rest of the last."""

    def find() -> list[str] | None:
        lines = [line for line in ledger.lines() if line.split()[0] == word]
        return lines if len(lines) >= count else None

    return wait_until(find, f"{count} x {word} in the ledger")[-1].split()[1]


def command(holdfast: Holdfast, *arguments: str) -> str:
    """Run `holdfast inv …` and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli", "inv", *arguments],
        env=environment({"HOLDFAST_ADMIN": holdfast.admin}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_paused_one_stays_so_through_a_restart_of_the_server(
    basics: Holdfast, ledger: Ledger
) -> None:
    basics.up()
    waiting = basics.send("Waiter/wait", "Ada")
    holder = basics.send("Counter/a/hold")
    queued = basics.send("Counter/a/add", 1)
    awakeable, release = told(ledger, "wait"), told(ledger, "hold")
    basics.until_journal(waiting, "Notification: Run")
    basics.until_journal(holder, "Notification: Run")
    assert basics.patch(waiting, "pause").status == 202
    assert basics.patch(waiting, "pause").status == 200
    assert command(basics, "pause", "--service", "Counter") == f"{holder}\tpaused\n"
    basics.current("server").kill()
    basics.server().until("Ready")
    # What arrives is kept, and nobody runs it.
    basics.resolve(awakeable, "hi")
    basics.resolve(release, "go")
    basics.until_journal(waiting, "Notification: Signal")
    basics.until_journal(holder, "Notification: Signal")
    for each, status in ((waiting, "paused"), (holder, "paused"), (queued, "pending")):
        assert basics.invocation(each)["status"] == status
    assert command(basics, "resume", waiting) == f"{waiting}\tresumed\n"
    assert basics.attach(waiting).ok() == "Ada: hi"
    assert command(basics, "resume", "--all") == f"{holder}\tresumed\n"
    assert basics.attach(holder).ok() == "go"
    assert basics.attach(queued).ok() == 1
    # Resumed invocations have replayed their steps, and done none again.
    assert sorted(line.split()[0] for line in ledger.lines()) == ["hold", "wait"]


def test_a_cancel_resumes_what_is_paused_and_it_cleans_up(dev: Holdfast, ledger: Ledger) -> None:
    parent = dev.send("Trip/book", "Ada")
    ledger.until("board Ada")
    assert dev.patch(parent, "pause").status == 202
    dev.until_status(parent, "paused")
    assert dev.patch(parent, "cancel").status == 202
    assert dev.attach(parent).status == 409
    assert ledger.lines().count("undo Ada 409") == 1


def test_restart_from_an_entry_does_the_rest_again(dev: Holdfast, ledger: Ledger) -> None:
    source = dev.send("Waiter/nap", 0.001)
    assert dev.attach(source).ok() == "rested"
    journal = dev.journal(source)
    (lie_down,) = [e["index"] for e in journal if e.get("name") == "lie down"]
    assert command(dev, "restart", source, "--from", str(lie_down)).startswith(
        f"{source}\trestarted\tinv_1"
    )
    answer = ask("PATCH", dev.admin, f"/invocations/{source}/restart-as-new?from=0").ok()
    assert dev.attach(answer["new_invocation_id"]).ok() == "rested"
    for row in dev.invocations("service=Waiter"):
        assert dev.attach(row["id"]).ok() == "rested"
    # The first step was kept by the one and not by the other; both have done the last one.
    words = [line.split()[0] for line in ledger.lines()]
    assert (words.count("lie-down"), words.count("wake-up")) == (2, 3)
    assert command(dev, "purge", "--journal-only", source) == f"{source}\tjournal purged\n"
    assert dev.attach(source).ok() == "rested"
    assert command(dev, "purge", "--service", "Waiter", "--yes").count("\tpurged\n") == 3
    assert dev.attach(source).status == 404
