"""SIGKILL at random moments: the result is right, and what was recorded is not done again."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from .harness import APPS, PATIENCE_S, Holdfast, Ledger

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")

BRANCHES = {"main": 8, "left": 6, "right": 6, "object": 2, "tail": 8}
LATER = {
    "main": ("left", "right", "object", "tail"),
    "left": ("object", "tail"),
    "right": ("object", "tail"),
    "object": ("tail",),
    "tail": (),
}
"""Branches whose first step begins only once all of this one is recorded."""

RESULT = {"main": 36, "left": 21, "right": 21, "added": 36 + 3, "tail": 36}


@pytest.mark.parametrize(("victim", "kills"), [("worker", 7), ("server", 7), ("both", 6)])
def test_kills(victim: str, kills: int, tmp_path: Path) -> None:
    run_with_kills(victim, kills, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(("victim", "kills"), [("worker", 70), ("server", 70), ("both", 60)])
def test_many_kills(victim: str, kills: int, tmp_path: Path) -> None:
    run_with_kills(victim, kills, tmp_path)


def run_with_kills(victim: str, kills: int, folder: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    ledger = Ledger(folder / "ledger")
    runs: dict[str, str] = {}
    with Holdfast(folder, f"{APPS / 'thirty.py'}:app", ledger.env) as holdfast:
        holdfast.up()
        for number in range(kills):
            wait_for_work(holdfast, ledger, dice, runs)
            names = ["server", "worker"] if victim == "both" else [victim]
            dice.shuffle(names)
            for name in names:
                holdfast.current(name).kill()
            # Both have ended: whatever is written after this line, their successors wrote.
            ledger.note(f"kill {number} {victim}")
            for name in names:
                holdfast.server() if name == "server" else holdfast.worker()
            if "server" in names:
                holdfast.current("server").until("Ready")
        for run, invocation_id in runs.items():
            assert holdfast.attach(invocation_id).ok() == RESULT
            assert holdfast.call(f"Account/{run}/balance") == RESULT["main"]
            check_journal(holdfast, invocation_id)
            assert holdfast.invocation(invocation_id)["status"] == "completed"
    check_ledger(ledger.lines(), list(runs))


def wait_for_work(
    holdfast: Holdfast, ledger: Ledger, dice: random.Random, runs: dict[str, str]
) -> None:
    """Keep two runs open, and return at a random point in the middle of them."""
    target = len(ledger.lines()) + dice.randint(1, 14)
    end = time.monotonic() + PATIENCE_S
    last = -1
    while (written := len(lines := ledger.lines())) < target:
        if written != last:
            last = written
            finished = sum(line.split()[2:] == ["tail", "7"] for line in lines)
            # The last step may have been repeated; one run more than needed does no harm.
            while len(runs) - finished < 2:
                run = f"run{len(runs)}"
                runs[run] = holdfast.send("Thirty/run", run)
        assert time.monotonic() < end, f"nothing happens any more; last: {lines[-5:]}"
        time.sleep(0.002)
    # Somewhere within a step, a commit, or the sleep.
    time.sleep(dice.uniform(0, 0.03))


def check_journal(holdfast: Holdfast, invocation_id: str) -> None:
    """Demand that every step is in the journal exactly once, with its result."""
    journal = holdfast.journal(invocation_id)
    wanted = {f"{b}-{i}" for b, n in BRANCHES.items() if b != "object" for i in range(n)}
    commands = [entry["name"] for entry in journal if entry["kind"] == "Command: Run"]
    assert sorted(commands) == sorted(wanted)
    done = [entry["completion_id"] for entry in journal if entry["kind"] == "Notification: Run"]
    assert len(done) == len(set(done)) == len(wanted)


def check_ledger(lines: list[str], runs: list[str]) -> None:
    """Demand that nothing began again once it was recorded, and nothing twice without a kill."""
    seen_at: dict[tuple[str, str, int], int] = {}
    kills: list[int] = []
    for at, line in enumerate(lines):
        verb, *words = line.split()
        if verb == "kill":
            kills.append(at)
            continue
        run, branch, index = words[0], words[1], int(words[2])
        # What comes after this step began already, so this one was recorded then.
        after = [(run, branch, later) for later in range(index + 1, BRANCHES[branch])]
        after += [(run, later, 0) for later in LATER[branch]]
        for step in after:
            assert step not in seen_at, f"line {at}: {line} again, after {step}"
        before = seen_at.get((run, branch, index))
        if before is not None:
            assert any(before < kill < at for kill in kills), f"line {at}: {line} without a kill"
        seen_at[run, branch, index] = at
    wanted = {(run, b, i) for run in runs for b, n in BRANCHES.items() for i in range(n)}
    assert set(seen_at) == wanted
    print(f"{len(kills)} kills, {len(runs)} runs, {len(lines) - len(kills) - len(wanted)} repeats")
