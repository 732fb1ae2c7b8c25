"""`holdfast replay-check` and `holdfast invocations export`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_harness import holdfast
from test_call import JSON, Fake, Reply

import holdfast as hf
from holdfast.domain.recording import encode_recording
from holdfast.testing import environment

AGENT = """
import holdfast as hf
from pathlib import Path

shop = hf.Service("Shop")

def body(text: str) -> str:
    Path("ran").touch()
    return text

@shop.handler
async def pay(ctx: hf.Context) -> str:
    await ctx.run("charge card", body, "charged")
    await ctx.sleep(3600)
    return await ctx.run("send receipt", body, "sent")

app = hf.App(shop)
"""


def recorded() -> bytes:
    shop = hf.Service("Shop")

    @shop.handler
    async def pay(ctx: hf.Context) -> None:
        await ctx.run("charge card", str)
        await ctx.sleep(3600)

    async def go() -> bytes:
        async with environment(hf.App(shop)) as env:
            sent = await env.client.send(pay)
            await env.settle()
            return encode_recording(await env.recording(sent.invocation_id))

    return asyncio.run(go())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "renamed.py").write_text(AGENT.replace("charge card", "charge"))
    (tmp_path / "run.json").write_bytes(recorded())
    return tmp_path


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


def test_a_run_that_goes_on(folder: Path) -> None:
    done = holdfast("replay-check", "agent.py:app", "run.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("inv_1")
    assert "Shop/pay: ok, waits behind the last entry" in done.stdout
    assert "All 1 runs replay." in done.stderr
    assert not (folder / "ran").exists(), "no step runs"


def test_a_run_that_does_not(folder: Path) -> None:
    done = holdfast("replay-check", "renamed.py:app", "run.json", cwd=folder)
    assert done.returncode == 1
    assert "Shop/pay: diverged" in done.stdout
    assert "  recorded:  run 'charge card' at test_replay.py" in done.stdout
    assert "  attempted: run 'charge' at renamed.py" in done.stdout
    assert "HF0570" in done.stderr


def test_json(folder: Path) -> None:
    done = holdfast("replay-check", "renamed.py:app", "run.json", "--json", cwd=folder)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["is_ok"] is False
    [run] = said["runs"]
    assert run["target"] == "Shop/pay"
    assert run["recorded"].startswith("run 'charge card'")
    assert run["entries"] == 4


def test_files_that_are_none(folder: Path) -> None:
    (folder / "bad.json").write_text("{}")
    for file in ("bad.json", "missing.json"):
        done = holdfast("replay-check", "agent.py:app", file, cwd=folder)
        assert done.returncode == 2
        assert "error[HF0553]" in done.stderr


def test_open_runs_of_a_server(folder: Path, fake: Fake) -> None:
    run = (folder / "run.json").read_bytes()
    pages = [
        {"invocations": [{"id": "inv_1"}, {"id": "inv_2"}], "next": "c"},
        {"invocations": [{"id": "inv_3"}], "next": None},
    ]
    first, second = (Reply(200, json.dumps(page).encode(), (JSON,)) for page in pages)
    gone = Reply(404, b'{"message":"gone","error_code":"HF1004"}', (JSON,))
    fake.replies = [first, Reply(200, run, (JSON,)), gone, second, Reply(200, run, (JSON,))]
    done = holdfast("replay-check", "agent.py:app", cwd=folder, env=fake.env)
    assert done.returncode == 0, done.stderr
    assert "All 2 runs replay." in done.stderr
    lines = [asked.line for asked in fake.asked]
    assert lines[0].startswith("GET /holdfast/v1/invocations?service=Shop&status=pending")
    assert lines[1] == "GET /holdfast/v1/invocations/inv_1/export"
    assert lines[3].endswith("&before=c")


def test_nothing_to_replay(folder: Path, fake: Fake) -> None:
    fake.replies = [Reply(200, b'{"invocations":[],"next":null}', (JSON,))]
    done = holdfast("replay-check", "agent.py:app", cwd=folder, env=fake.env)
    assert (done.returncode, done.stdout) == (0, "")
    assert "No runs to replay." in done.stderr


def test_export_prints_what_the_server_says(fake: Fake) -> None:
    fake.replies = [Reply(200, b'{"format":1}', (JSON,))]
    done = holdfast("inv", "export", "inv_1", env=fake.env)
    assert (done.returncode, done.stdout) == (0, '{"format":1}\n')
    assert fake.asked[0].line == "GET /holdfast/v1/invocations/inv_1/export"
