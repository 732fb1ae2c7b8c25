"""The whole system in virtual time, with crashes: see docs/explanation/simulation.md."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .checker import Violation
from .faults import CrashPoint, Faults
from .fixed_scenario import play, quiet
from .loop import Deadlock, SimLoop, run
from .run import simulate

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("HOLDFAST_SIMULATION_SEEDS", "500"))
NIGHTLY_SEEDS = 20_000
CHUNK = 25


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_seeds(first: int) -> None:
    """Each seed is another mixture of programs and faults."""
    for seed in range(first, min(first + CHUNK, SEEDS)):
        simulate(seed)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(SEEDS, NIGHTLY_SEEDS, 500))
def test_many_seeds(first: int) -> None:
    for seed in range(first, min(first + 500, NIGHTLY_SEEDS)):
        simulate(seed)


def test_same_seed_same_trace() -> None:
    """Also in another process, with other hashes of strings and other addresses."""
    command = [sys.executable, "-m", "tests.simulation", "--seeds", "0:12", "--hash"]
    traces = set()
    for hash_seed in ("0", "4242"):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        traces.add(tuple(line for line in done.stdout.splitlines() if line[0].isdigit()))
    assert len(traces) == 1
    here = tuple(f"{seed} {simulate(seed).trace_hash}" for seed in range(12))
    assert traces == {here}


@pytest.mark.parametrize("inactivity_ms", [0, None], ids=["suspends at once", "stays in memory"])
def test_crash_everywhere(inactivity_ms: int | None) -> None:
    """Crash at every commit, before and after it, and at every action: k = 1 … N, one at a time."""
    calm = play(Faults(inactivity_timeout_ms=inactivity_ms))
    assert calm.commits > 15
    assert calm.dispatches > 15
    cases = [
        *(
            Faults(inactivity_timeout_ms=inactivity_ms, crash_at_commit={k: point})
            for k in range(1, calm.commits + 1)
            for point in (CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT)
        ),
        *(
            Faults(inactivity_timeout_ms=inactivity_ms, crash_at_dispatch={k})
            for k in range(1, calm.dispatches + 1)
        ),
        *(
            Faults(inactivity_timeout_ms=inactivity_ms, failing_commits={k: is_written})
            for k in range(1, calm.commits + 1)
            for is_written in (False, True)
        ),
    ]
    crashes = 0
    for faults in cases:
        try:
            crashes += play(faults).counts["server crashes"]
        except Violation as violation:
            raise AssertionError(f"{faults}: {violation}") from violation
    # Some commits of the calm run come after the time of faults: retention.
    assert crashes > len(cases) * 0.6


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1, 60))
def test_crash_twice(first: int) -> None:
    """Crash at each pair of commits: also during the recovery of the first."""
    for second in range(first + 1, first + 12):
        for points in ((CrashPoint.BEFORE_COMMIT,) * 2, (CrashPoint.AFTER_COMMIT,) * 2):
            faults = quiet(first)
            faults.crash_at_commit = dict(zip((first, second), points, strict=True))
            play(faults)


def test_deadlock_is_seen() -> None:
    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock):
        run(SimLoop(), wait_for_ever())


def test_failure_says_how_to_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.simulation.run.PEACE_S_MAX", 0.0)
    with pytest.raises(Violation) as caught:
        simulate(3)
    text = str(caught.value)
    assert caught.value.invariant == "L01"
    assert "python -m tests.simulation --seed 3" in text
    assert "commit " in text
