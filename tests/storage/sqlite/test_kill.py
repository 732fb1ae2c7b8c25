"""A process that dies at any moment loses nothing that it had answered."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from holdfast.storage.sqlite import SqliteStore
from tests.storage.sqlite.committer import check_steps

ROOT = Path(__file__).parents[3]
KILLS = 6


def run_and_kill(path: Path, lines_min: int) -> dict[int, int]:
    """Let a committer answer some commits, kill it, and return the last answer per partition."""
    acked: dict[int, int] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.storage.sqlite.committer", str(path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for number, line in enumerate(process.stdout):
            if number == lines_min:
                os.kill(process.pid, signal.SIGKILL)
            # A line that the kill cut off was not answered.
            if line.endswith("\n"):
                partition, step = line.split()
                acked[int(partition)] = int(step)
        assert process.wait() == -signal.SIGKILL
    return acked


async def test_what_was_answered_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    seed = random.randrange(2**32)
    pick = random.Random(seed)
    total = 0
    for kill in range(KILLS):
        acked = run_and_kill(path, pick.choice([1, 5, 50, 300, 1000]))
        store = SqliteStore(path)
        await store.open()
        for partition, step in acked.items():
            stored = await check_steps(store, partition)
            where = f"seed {seed}, kill {kill}, partition {partition}"
            assert step <= stored <= step + 1, f"{where}: answered {step}, stored {stored}"
            total += step
        await store.close()
    assert total > 0
