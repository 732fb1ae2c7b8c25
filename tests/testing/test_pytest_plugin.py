"""The fixtures, found by pytest where Holdfast is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import asyncio
import time
import urllib.request

import holdfast as hf

service = hf.Service("Trial")


@service.handler
async def h(ctx: hf.Context) -> bool:
    attempt = ctx.attempt
    await ctx.sleep(3600)
    return ctx.attempt > attempt or time.time() > 0


app = hf.App(service)


def test_time(holdfast_env):
    async def go():
        async with holdfast_env(app) as env:
            before = env.now
            assert await env.client.call(h)
            assert (env.now - before).total_seconds() >= 3600

    asyncio.run(go())


def test_model(scripted_model):
    scripted_model.scenario("m", ["Hello."])
    with urllib.request.urlopen(f"{scripted_model.url}/models") as answer:
        assert b'"m"' in answer.read()
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(TESTS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_fixtures(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert "2 passed" in done.stdout, done.stdout


def test_strictness_is_chosen_on_the_command_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--holdfast-strict", "--holdfast-always-replay")
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "HF0552" in done.stdout
    assert "test_it.py:" in done.stdout
