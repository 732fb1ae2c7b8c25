"""`ctx.patched` in a program that is changed while it runs, over the worker socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_mismatch import AGENT, begin, change
from .test_reload import Project

GATED = """    if ctx.patched("greet"):
        await ctx.run("greet", note, "hello")
    answer = ctx.awakeable(type=str)"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with Project(tmp_path) as project:
        project.save(AGENT)
        project.dev()
        yield project


def steps(project: Project, invocation_id: str) -> list[str]:
    entries = project.journal(invocation_id)
    return [entry["name"] for entry in entries if entry["kind"] == "Command: Run"]


def test_old_runs_go_the_old_way_and_new_ones_the_new(project: Project) -> None:
    old, old_awakeable = begin(project)
    change(project, "    answer = ctx.awakeable(type=str)", GATED)
    project.resolve(old_awakeable, "go")
    assert project.attach(old).ok() == "page go Ada"
    assert steps(project, old) == ["fetch page", "publish id", "store"]

    new = project.send("Agent/run", "Bob")
    results = project.until_journal(new, "Notification: Run", 4)
    change(project, '"hello"', '"hello again"', count=2)
    project.resolve(str(results[3]["payload"]["value"]), "go")
    assert project.attach(new).ok() == "page go Bob"
    assert steps(project, new) == ["patched:greet", "greet", "fetch page", "publish id", "store"]
