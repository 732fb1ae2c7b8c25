"""`holdfast dev`: reload on save, broken code, and a worker that dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .harness import Holdfast, kill_process, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

AGENT = """
import holdfast as hf

agent = hf.Service("Agent")

def word() -> str:
    return "Hello"

@agent.handler
async def greet(ctx: hf.Context, name: str) -> str:
    return f"{await ctx.run('word', word)} {name}"

@agent.handler
async def nap(ctx: hf.Context, seconds: float) -> list[str]:
    first = await ctx.run("first", word)
    await ctx.sleep(seconds)
    return [first, await ctx.run("second", word)]

app = hf.App(agent)
"""
BROKEN = AGENT + "\ndef broken(:\n"


class Project(Holdfast):
    """A project in a folder of its own, under `holdfast dev`."""

    def __init__(self, folder: Path) -> None:
        project = folder / "project"
        project.mkdir()
        self.file = project / "agent.py"
        super().__init__(folder, f"{self.file}:app")

    def save(self, text: str) -> None:
        """Save as editors do: beside it, then in its place."""
        draft = self.folder / "draft"
        draft.write_text(text)
        draft.replace(self.file)

    def worker_pid(self) -> int | None:
        """Return the process of the handlers, while there is exactly one."""
        children = self.current("dev").children()
        return children[0] if len(children) == 1 else None

    def is_asleep(self, napping: str) -> bool:
        """Whether a nap has not ended yet: on a loaded machine a reload may take longer."""
        steps = [e for e in self.journal(napping) if e["kind"] == "Command: Run"]
        return len(steps) == 1

    def until_another_worker(self, than: int) -> int:
        def find() -> int | None:
            pid = self.worker_pid()
            return pid if pid != than else None

        return wait_until(find, "another worker")


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as project:
        project.save(AGENT)
        project.dev()
        yield project


def test_saved_code_is_used_by_the_next_call_and_a_sleeper_goes_on(project: Project) -> None:
    dev = project.current("dev")
    assert project.call("Agent/greet", "Ada") == "Hello Ada"
    begun = time.monotonic()
    napping = project.send("Agent/nap", 3.0)
    project.until_journal(napping, "Command: Sleep")
    project.save(AGENT.replace('"Hello"', '"Welcome"'))
    dev.until("Reloaded")
    is_asleep = project.is_asleep(napping)
    assert project.call("Agent/greet", "Ada") == "Welcome Ada"
    assert project.attach(napping).ok() == ["Hello", "Welcome" if is_asleep else "Hello"]
    assert time.monotonic() - begun >= 2.9
    row = project.invocation(napping)
    assert (row["retry_count"], row["last_failure"]) == (0, None)
    assert dev.terminate() == 0


def test_calls_during_reloads_all_succeed(project: Project) -> None:
    for number in range(3):
        project.save(AGENT.replace('"Hello"', f'"Hello{number}"'))
        while project.current("dev").text.count("Reloaded") <= number:
            assert project.call("Agent/greet", "Ada").endswith(" Ada")
        assert project.call("Agent/greet", "Ada") == f"Hello{number} Ada"


def test_broken_code_is_told_and_the_old_worker_serves_on(project: Project) -> None:
    dev = project.current("dev")
    napping = project.send("Agent/nap", 3.0)
    project.until_journal(napping, "Command: Sleep")
    before = project.worker_pid()
    project.save(BROKEN)
    dev.until("The version before keeps running")
    assert "error[HF1214]" in dev.text
    assert "SyntaxError" in dev.text
    assert "agent.py" in dev.text
    assert project.worker_pid() == before
    assert project.call("Agent/greet", "Ada") == "Hello Ada"
    project.save(AGENT.replace('"Hello"', '"Welcome"'))
    dev.until("Reloaded")
    is_asleep = project.is_asleep(napping)
    assert project.call("Agent/greet", "Ada") == "Welcome Ada"
    assert project.attach(napping).ok() == ["Hello", "Welcome" if is_asleep else "Hello"]


def test_a_killed_worker_is_started_again(project: Project) -> None:
    dev = project.current("dev")
    napping = project.send("Agent/nap", 2.0)
    project.until_journal(napping, "Command: Sleep")
    for number in (1, 2):
        victim = wait_until(project.worker_pid, "the worker")
        kill_process(victim)
        dev.until("was ended by SIGKILL", count=number)
        project.until_another_worker(victim)
        assert project.call("Agent/greet", "Ada") == "Hello Ada"
    assert project.attach(napping).ok() == ["Hello", "Hello"]
    assert dev.terminate() == 0
