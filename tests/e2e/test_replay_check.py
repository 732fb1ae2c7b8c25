"""Runs of a real server, replayed against code that has changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .harness import environment
from .test_mismatch import AGENT
from .test_reload import Project


def holdfast(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast.cli", *arguments],
        cwd=project.folder,
        env=environment({"HOLDFAST_ADMIN": project.admin}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_open_runs_are_checked_before_a_deploy(tmp_path: Path) -> None:
    with Project(tmp_path) as project:
        project.save(AGENT)
        project.dev("--no-reload")
        invocation_id = project.send("Agent/run", "Ada")
        project.until_journal(invocation_id, "Notification: Run", 2)
        same = holdfast(project, "replay-check", f"{project.file}:app")
        assert same.returncode == 0, same.stderr
        assert f"{invocation_id} Agent/run: ok" in same.stdout
        exported = holdfast(project, "inv", "export", invocation_id)
        changed = tmp_path / "changed.py"
        changed.write_text(AGENT.replace("publish id", "announce"))
        (tmp_path / "run.json").write_text(exported.stdout)
        for source in ([], ["run.json"]):
            done = holdfast(project, "replay-check", "changed.py:app", *source)
            assert done.returncode == 1, done.stderr
            assert "recorded:  run 'publish id'" in done.stdout
            assert "attempted: run 'announce'" in done.stdout
