"""Runs every example: its commands as they are printed, and its handlers embedded."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agents.models import openai_provider

import holdfast as hf
from holdfast.server.approval_port import Verdict

from ..e2e.harness import Holdfast

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTS = sorted(EXAMPLES.glob("test_*.py"))
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path not in TESTS)


def docstring(name: str) -> str:
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert text is not None
    return text


def commands(name: str) -> list[str]:
    """Return the curl commands of a docstring."""
    found = [line.strip() for line in docstring(name).splitlines() if line.startswith("    curl ")]
    assert found
    return found


@contextmanager
def served(name: str, folder: Path) -> Iterator[Holdfast]:
    with Holdfast(folder, f"{EXAMPLES / f'{name}.py'}:app") as holdfast:
        holdfast.dev("--no-reload")
        yield holdfast


def curl(holdfast: Holdfast, command: str, **variables: str) -> Any:
    """Run a command as a shell would, at the address of the server of this test."""
    assert shutil.which("curl"), "these tests need curl"
    text = command.replace("localhost:8080", holdfast.ingress)
    text = text.replace("localhost:9070", holdfast.admin)
    assert text != command
    done = subprocess.run(
        ["sh", "-c", f"{text} --silent --show-error --fail-with-body --noproxy '*'"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{text}: {done.stdout} {done.stderr}"
    return json.loads(done.stdout) if done.stdout else None


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_says_how_to_run_it(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 50
    assert f"    holdfast dev examples/{name}.py:app" in docstring(name)
    assert commands(name)


def test_no_example_is_forgotten() -> None:
    assert NAMES == [
        "approval",
        "calls",
        "cancel",
        "counter",
        "fan_out",
        "hello",
        "options",
        "parallel",
        "patched",
        "race",
        "retry",
        "saga",
        "session_state",
        "signal",
        "unknown_outcome",
        "weather_agent",
        "workflow",
    ]


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_examples_of_tests_pass(path: Path) -> None:
    options = ("-n0", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        cwd=EXAMPLES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# -- the commands --------------------------------------------------------------------------------


def test_commands_of_hello(tmp_path: Path) -> None:
    call, idempotent, send = commands("hello")
    with served("hello", tmp_path) as holdfast:
        assert re.fullmatch(r"Hello Ada, it is \d\d:\d\d", curl(holdfast, call))
        first = curl(holdfast, idempotent)
        assert curl(holdfast, idempotent) == first
        sent = curl(holdfast, send)
        assert sent["status"] == "Accepted"
        assert holdfast.attach(sent["invocationId"]).ok().startswith("Hello Grace")
        assert len(holdfast.invocations()) == 3


def test_commands_of_counter(tmp_path: Path) -> None:
    with served("counter", tmp_path) as holdfast:
        assert [curl(holdfast, each) for each in commands("counter")] == [3, 7, 7, None]
        assert curl(holdfast, commands("counter")[2]) == 0


def test_commands_of_approval(tmp_path: Path) -> None:
    claim, resolve, attach = commands("approval")
    with served("approval", tmp_path) as holdfast:
        invocation_id = curl(holdfast, claim)["invocationId"]
        dev = holdfast.current("dev")
        dev.until("To decide: sign_1")
        shown = re.search(r"Ada wants 120.00 euros. To decide: (\S+)", dev.text)
        assert shown is not None
        ids = {"APPROVAL_ID": shown.group(1), "INVOCATION_ID": invocation_id}
        # Nobody has to be there while it waits.
        assert dev.terminate() == 0
        holdfast.dev("--no-reload")
        curl(holdfast, resolve, **ids)
        assert curl(holdfast, attach, **ids) == "Ada gets 120.00 euros"


def test_commands_of_workflow(tmp_path: Path) -> None:
    begin, status, click, attach = commands("workflow")
    with served("workflow", tmp_path) as holdfast:
        invocation_id = curl(holdfast, begin)["invocationId"]
        assert curl(holdfast, begin) == {
            "invocationId": invocation_id,
            "status": "PreviouslyAccepted",
        }
        dev = holdfast.current("dev")
        dev.until("To ada@example.org: click with")
        shown = re.search(r"click with (\S+)", dev.text)
        assert shown is not None
        assert curl(holdfast, status) == "waiting for the click"
        # Nobody has to be there while it waits.
        assert dev.terminate() == 0
        holdfast.dev("--no-reload")
        assert curl(holdfast, click, SECRET=shown.group(1)) is None
        assert curl(holdfast, attach) == "ada is in"
        assert curl(holdfast, status) == "done"


def test_commands_of_parallel(tmp_path: Path) -> None:
    with served("parallel", tmp_path) as holdfast:
        answers = [curl(holdfast, each) for each in commands("parallel")]
    assert answers == [{"tea": 3, "coffee": 6, "cocoa": 5}, "in time", "too slow"]


def test_commands_of_weather_agent(tmp_path: Path) -> None:
    with served("weather_agent", tmp_path) as holdfast:
        (ask,) = commands("weather_agent")
        assert curl(holdfast, ask) == "It is sunny in Oslo."
        (row,) = holdfast.invocations()
        steps = [e["name"] for e in holdfast.journal(row["id"]) if e["kind"] == "Command: Run"]
        assert steps == ["model call", "get_weather", "model call"]


def test_commands_of_saga(tmp_path: Path) -> None:
    good, bad, count = commands("saga")
    with served("saga", tmp_path) as holdfast:
        assert curl(holdfast, good) == "Have a good time in Oslo"
        assert curl(holdfast, count) == 2
        with pytest.raises(AssertionError, match="nobody sells tickets to Atlantis"):
            curl(holdfast, bad)
        assert curl(holdfast, count) == 2


def test_commands_of_unknown_outcome(tmp_path: Path) -> None:
    buy, receipts = commands("unknown_outcome")
    with served("unknown_outcome", tmp_path) as holdfast:
        assert curl(holdfast, buy) == "25 paid"
        assert curl(holdfast, receipts) == 1


async def test_unknown_outcome_with_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shop = load("unknown_outcome")
    async with hf.testing.environment(shop.app) as env:
        env.crash_at("during:charge")
        assert await env.client.call("Shop/buy", 25) == "25 paid"
        assert await env.client.call("Shop/receipts") == 1
        assert len(env.crashes) == 1


def test_commands_of_race(tmp_path: Path) -> None:
    with served("race", tmp_path) as holdfast:
        answers = [curl(holdfast, each) for each in commands("race")]
        assert answers == ["found by hare", "nobody found it in time"]
        asked = [row["id"] for row in holdfast.invocations() if row["target"] == "Search/ask"]
        assert len(asked) == 4
        for each in asked:
            holdfast.until_status(each, "completed")
        assert sum(holdfast.invocation(each)["has_failed"] for each in asked) == 3


def test_commands_of_signal(tmp_path: Path) -> None:
    take, note, other, finish = commands("signal")
    with served("signal", tmp_path) as holdfast:
        ids = {"INVOCATION_ID": curl(holdfast, take)["invocationId"]}
        curl(holdfast, note, **ids)
        curl(holdfast, other, **ids)
        assert curl(holdfast, finish) == "# trip; pack a hat; feed the cat; (enough)"


def test_commands_of_calls(tmp_path: Path) -> None:
    order, output, again, take = commands("calls")
    with served("calls", tmp_path) as holdfast:
        assert curl(holdfast, order) == "lamp ordered, 1 taken"
        for each in (order, output, again):
            assert curl(holdfast, each) == "lamp ordered, 1 taken"
        taken = curl(holdfast, take)
        assert "executionTime" in taken
        assert holdfast.attach(taken["invocationId"]).ok() == 3
        dev = holdfast.current("dev")
        dev.until("To Ada: your lamp is on its way")
        (survey,) = holdfast.invocations("status=scheduled")
        assert survey["target"] == "Mail/write"
        assert holdfast.post("/Mail/write", "hi").error_code() == "HF1015"


def test_commands_of_cancel(tmp_path: Path) -> None:
    film, stop = commands("cancel")
    with served("cancel", tmp_path) as holdfast:
        invocation_id = curl(holdfast, film)["invocationId"]
        # Only the rent has a result: the machine is rented, and the drawing is under way.
        holdfast.until_journal(invocation_id, "Notification: Run")
        assert curl(holdfast, stop) == "stopped with 409, 0 machines rented"
        names = [e["name"] for e in holdfast.journal(invocation_id) if e["kind"] == "Command: Run"]
        assert names[0] == "rent"
        assert names[-1] == "give back"


def test_commands_of_fan_out(tmp_path: Path) -> None:
    with served("fan_out", tmp_path) as holdfast:
        answers = [curl(holdfast, each) for each in commands("fan_out")]
        assert answers == [
            "49 answered, 0 were late, 1 failed",
            "4 answered, 1 were late, 0 failed",
            sum(range(100)),
        ]
        children = [row["id"] for row in holdfast.invocations() if row["target"] == "Survey/answer"]
        assert len(children) == 55
        for each in children:
            holdfast.until_status(each, "completed")


def test_commands_of_options(tmp_path: Path) -> None:
    (newsletter,) = commands("options")
    with served("options", tmp_path) as holdfast:
        assert curl(holdfast, newsletter) == "4 sent, 2 at once"
        listed = re.findall(r"^    holdfast (services .+)$", docstring("options"), re.MULTILINE)
        for number, command in enumerate(listed):
            options = (*command.split(), f"--admin=http://{holdfast.admin}")
            assert holdfast.run(f"services-{number}", *options).wait() == 0
        shown = holdfast.current("services-0").text
        assert '"team": "growth"' in shown
        assert '"audit": "yes"' in shown


def test_commands_of_patched(tmp_path: Path) -> None:
    send, pack = commands("patched")
    text = (EXAMPLES / "patched.py").read_text()
    lines = text.splitlines(keepends=True)
    gate = next(number for number, line in enumerate(lines) if "ctx.patched" in line)
    program = tmp_path / "shop.py"
    program.write_text("".join(lines[:gate] + lines[gate + 2 :]))
    with Holdfast(tmp_path, f"{program}:app") as holdfast:
        old = holdfast.dev("--no-reload")
        sent = curl(holdfast, send.replace("key: 1", "key: 2"))
        holdfast.until_journal(sent["invocationId"], "Notification: Run")
        assert old.terminate() == 0
        program.write_text(text)
        holdfast.dev("--no-reload")
        curl(holdfast, send)
        assert curl(holdfast, pack) == "tea: looked, charged, shipped"
        assert curl(holdfast, pack.replace("1", "2")) == "tea: charged, shipped"


# -- embedded ------------------------------------------------------------------------------------


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_embedded_hello_and_counter(tmp_path: Path) -> None:
    hello, counter = load("hello"), load("counter")
    store = f"sqlite:{tmp_path / 'a.db'}"
    async with hf.embedded(hello.app, store=store) as client:
        assert (await client.call(hello.greet, "Ada")).startswith("Hello Ada, it is ")
    store = f"sqlite:{tmp_path / 'b.db'}"
    async with hf.embedded(counter.app, store=store) as client:
        values = await asyncio.gather(*(client.call(counter.add, 1, key="a") for _ in range(20)))
        assert sorted(values) == list(range(1, 21))
        await client.call(counter.reset, key="b")
        assert await client.call(counter.value, key="a") == 20
    async with hf.embedded(counter.app, store=store) as client:
        assert await client.call(counter.value, key="a") == 20


def test_commands_of_retry(tmp_path: Path) -> None:
    with served("retry", tmp_path) as holdfast:
        assert [curl(holdfast, each) for each in commands("retry")] == [
            "lamp paid at try 3",
            "not paid: declined",
            "cancelled: not done 0.2 s after it was due",
        ]


async def test_embedded_parallel(tmp_path: Path) -> None:
    parallel = load("parallel")
    async with hf.embedded(parallel.app, store=f"sqlite:{tmp_path / 'a.db'}") as client:
        assert await client.call(parallel.compare, ["a", "bc"]) == {"a": 1, "bc": 2}
        assert await client.call(parallel.hurry, 0.01) == "in time"
        assert await client.call(parallel.hurry, 60) == "too slow"


@pytest.mark.parametrize("is_right", [True, False])
async def test_embedded_workflow(
    is_right: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = load("workflow")
    store = f"sqlite:{tmp_path / 'a.db'}"
    printed = ""
    async with hf.embedded(workflow.app, store=store) as client:
        await client.send(workflow.run, "a@b", key="ada")
        async with asyncio.timeout(30):
            while "click with" not in printed:
                await asyncio.sleep(0.005)
                printed += capsys.readouterr().out
    async with hf.embedded(workflow.app, store=store) as client:
        secret = printed.split()[-1] if is_right else "a guess"
        await client.call(workflow.click, secret, key="ada")
        outcome = await client.attach(hf.invocation(workflow.run, key="ada"))
    assert outcome == ("ada is in" if is_right else "ada stays out")


@pytest.mark.parametrize("is_approved", [True, False])
async def test_embedded_approval(
    is_approved: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    approval = load("approval")
    store = f"sqlite:{tmp_path / 'a.db'}"
    printed = ""
    async with hf.embedded(approval.app, store=store) as client:
        sent = await client.send(approval.claim, approval.Claim("Ada", 5))
        async with asyncio.timeout(30):
            while "To decide" not in printed:
                await asyncio.sleep(0.005)
                printed += capsys.readouterr().out
    async with hf.embedded(approval.app, store=store) as client:
        approval_id = printed.split("To decide: ")[1].split()[0]
        await client._handle.approvals.decide(approval_id, Verdict(is_approved))
        outcome = await client.attach(sent.invocation_id, type=str)
    assert outcome == ("Ada gets 5.00 euros" if is_approved else "Ada gets nothing")


async def close(weather: Any) -> None:
    weather.model.close()
    # The framework keeps one HTTP client per process, and with it connections of this loop.
    client, openai_provider._http_client = openai_provider.shared_http_client(), None
    await client.aclose()
    # A transport that is closed ends in the next turn of its loop, and must before that is gone.
    await asyncio.sleep(0)


async def test_embedded_weather_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    weather = load("weather_agent")
    try:
        async with hf.embedded(weather.app, store=f"sqlite:{tmp_path / 'a.db'}") as client:
            answer = await client.call(weather.ask, "How is the weather in Rome?")
    finally:
        await close(weather)
    assert answer == "It is sunny in Rome."


def test_commands_of_session_state(tmp_path: Path) -> None:
    with served("session_state", tmp_path) as holdfast:
        assert [curl(holdfast, each) for each in commands("session_state")] == [
            None,
            ["lamp"],
            "Ada: lamp",
        ]


async def test_calls_and_fan_out_are_deterministic() -> None:
    calls, fan_out = load("calls"), load("fan_out")
    options = {"always_replay": True, "strict": True}
    async with hf.testing.environment(calls.app, **options) as env:
        first = await env.client.call(calls.order, "lamp", idempotency_key="7")
        assert first == await env.client.call(calls.again, "7") == "lamp ordered, 1 taken"
    async with hf.testing.environment(fan_out.app, **options) as env:
        answer = await env.client.call(fan_out.ask, (4, 30.0))
        assert answer == "4 answered, 0 were late, 0 failed"
        assert await env.client.call(fan_out.draw, 20) == sum(range(20))


async def test_examples_are_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    parallel, weather = load("parallel"), load("weather_agent")
    options = {"always_replay": True, "strict": True}
    async with hf.testing.environment(parallel.app, **options) as env:
        assert await env.client.call(parallel.compare, ["a", "bc"]) == {"a": 1, "bc": 2}
        assert await env.client.call(parallel.hurry, 60) == "too slow"
    try:
        async with hf.testing.environment(weather.app, **options) as env:
            answer = await env.client.call(weather.ask, "How is the weather in Rome?")
    finally:
        await close(weather)
    assert answer == "It is sunny in Rome."
