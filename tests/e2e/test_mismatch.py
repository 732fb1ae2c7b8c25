"""Code that changes under an open invocation: what is told, and what goes through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import wait_until
from .test_reload import Project

AGENT = """
import holdfast as hf

agent = hf.Service("Agent", retry=hf.RetryPolicy(initial_interval=0.1, max_interval=0.2,
                                                 max_attempts=None))

def note(text: str) -> str:
    return text

@agent.handler
async def run(ctx: hf.Context, name: str) -> str:
    answer = ctx.awakeable(type=str)
    first = await ctx.run("fetch page", note, "page")
    await ctx.run("publish id", note, answer.id)
    second = await answer
    return f"{first} {second} {await ctx.run('store', note, name)}"

app = hf.App(agent)
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as project:
        project.save(AGENT)
        project.dev()
        yield project


def begin(project: Project) -> tuple[str, str]:
    """Return an invocation that waits, and its awakeable."""
    invocation_id = project.send("Agent/run", "Ada")
    results = project.until_journal(invocation_id, "Notification: Run", 2)
    awakeable = str(results[1]["payload"]["value"])
    assert awakeable.startswith("sign_1")
    return invocation_id, awakeable


def change(project: Project, old: str, new: str, *, count: int = 1) -> None:
    text = project.file.read_text()
    assert old in text
    project.save(text.replace(old, new))
    project.current("dev").until("Reloaded", count=count)


def test_a_renamed_step_is_told_with_both_sides(project: Project) -> None:
    invocation_id, awakeable = begin(project)
    change(project, '"fetch page"', '"download page"')
    project.resolve(awakeable, "go")

    def failure() -> Any:
        return project.invocation(invocation_id)["last_failure"]

    told = wait_until(failure, "a failure")
    print(told["message"])
    message = told["message"]
    assert "HF0570" in message
    # Recorded and attempted, each with its place in the code.
    assert "fetch page" in message
    assert "download page" in message
    assert message.count("agent.py:") >= 1
    assert project.invocation(invocation_id)["status"] != "completed"
    # New invocations are not concerned.
    other, awakeable = begin(project)
    project.resolve(awakeable, "at once")
    assert project.attach(other).ok() == "page at once Ada"
    # With the name back, the old one goes on where it was.
    change(project, '"download page"', '"fetch page"', count=2)
    assert project.attach(invocation_id).ok() == "page go Ada"
    names = [e["name"] for e in project.journal(invocation_id) if e["kind"] == "Command: Run"]
    assert names == ["fetch page", "publish id", "store"]


def test_code_between_steps_may_change(project: Project) -> None:
    invocation_id, awakeable = begin(project)
    change(
        project,
        '    await ctx.run("publish id"',
        '    first = first.upper()\n    assert len(name) > 0\n    await ctx.run("publish id"',
    )
    # What has not been reached may change entirely.
    change(
        project,
        "await ctx.run('store', note, name)",
        "await ctx.run('archive', note, name + '!')",
        count=2,
    )
    project.resolve(awakeable, "go")
    assert project.attach(invocation_id).ok() == "PAGE go Ada!"
    assert project.invocation(invocation_id)["last_failure"] is None
