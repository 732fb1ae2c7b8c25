"""The tour of agents: every example runs as its text says, and again with a replay at each wait."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import json
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

import holdfast as hf
from holdfast.domain.errors import TerminalError
from holdfast.testing import Environment, environment

ROOT = Path(__file__).parents[2]
AGENTS = ROOT / "examples" / "agents"
NAMES = sorted(path.stem for path in AGENTS.glob("*.py") if path.stem != "provider")

Load = Callable[[str], Any]


@pytest.fixture
async def load(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Load]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("MODEL", raising=False)
    monkeypatch.syspath_prepend(str(AGENTS))
    loaded: list[Any] = []

    def load(name: str) -> Any:
        spec = importlib.util.spec_from_file_location(f"agent_{name}", AGENTS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        loaded.append(module)
        return module

    yield load
    for module in loaded:
        await module.llm.close()
    sys.modules.pop("provider", None)
    # A transport that is closed ends in the next turn of its loop, and must before that is gone.
    await asyncio.sleep(0)


@asynccontextmanager
async def running(app: hf.App) -> AsyncIterator[Environment]:
    async with environment(app, always_replay=True, strict=True) as env:
        yield env


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_says_how_to_run_it_and_is_in_the_list(name: str) -> None:
    text = (AGENTS / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 120
    shown = ast.get_docstring(ast.parse(text)) or ""
    assert f"examples/agents/{name}.py" in shown
    assert f"(agents/{name}.py)" in (ROOT / "examples" / "README.md").read_text()


async def test_chat(load: Load) -> None:
    async with running(load("chat").app) as env:
        await env.client.call("Chat/send", "I am Ada.", key="ada")
        said = await env.client.call("Chat/send", "Who am I?", key="ada")
        assert said == {"text": "I remember: I am Ada. Who am I?", "status": "done"}
        assert len(await env.client.call("Chat/history", key="ada")) == 2


async def test_interruption(load: Load) -> None:
    async with running(load("interruption").app) as env:
        plan = (await env.client.send("Hasty/send", "Plan it.", key="a")).invocation_id
        await env.settle()
        said = await env.client.call("Hasty/send", "Stop.", key="a")
        assert said["text"] == "You said: Plan it.\n\nStop."
        assert (await env.client.attach(plan))["status"] == "interrupted"


async def test_steering(load: Load) -> None:
    async with running(load("interruption").app) as env:
        sent = [await env.client.send("Patient/send", text, key="a") for text in ("One.", "Two.")]
        answers = [await env.client.attach(each.invocation_id) for each in sent]
        assert {one["text"] for one in answers} in (
            {"You said: One. Two."},
            {"You said: Two. One."},
        )
        assert {one["status"] for one in answers} == {"done", "steered"}


@pytest.mark.parametrize(
    ("name", "target", "argument", "expected"),
    [
        ("sequential", "Article/write", "rivers", "translate of draft of outline of rivers"),
        (
            "orchestrator",
            "Research/report",
            "rivers, seas",
            "Report: rivers are wet; seas are wet.",
        ),
        ("evaluator", "Slogan/write", "umbrellas", "Stay dry!!"),
        ("racing", "Panel/fastest", "Where?", "You said: hare: Where?"),
        (
            "racing",
            "Panel/all",
            "Where?",
            ["You said: hare: Where?", "tortoise is still thinking"],
        ),
        ("remote_agents", "Desk/ask", "My invoice!", "As accountant: My invoice!"),
        ("remote_agents", "Desk/ask", "My printer!", "As technician: My printer!"),
        ("errors", "Weather/ask", "feed", "It failed: the station is broken"),
        ("errors", "Weather/ask", "stop", "stopped by look: the station is broken"),
        ("errors", "Weather/ask", "retry", "sunny at the third try"),
        ("handoff", "Desk/ask", "Money!", "refunds: about 'Money!'"),
        ("handoff", "Desk/plan", "Rome", "planner: about 'Rome'"),
        (
            "parallel_tools",
            "Traveller/ask",
            "Go to Oslo?",
            "It is sunny in Oslo. There is a room in Oslo.",
        ),
        ("tool_workflows", "Clerk/ask", "Send it to Oslo", "delivered to Oslo"),
    ],
)
async def test_answers(load: Load, name: str, target: str, argument: str, expected: Any) -> None:
    async with running(load(name).app) as env:
        assert await env.client.call(target, argument) == expected


async def test_a_tool_that_fails_its_agent(load: Load) -> None:
    async with running(load("errors").app) as env:
        with pytest.raises(TerminalError, match="the station is broken"):
            await env.client.call("Weather/ask", "fail")


async def test_rollback(load: Load) -> None:
    async with running(load("rollback").app) as env:
        rome = ["flight to Rome", "hotel in Rome"]
        assert await env.client.call("Travel/book", "Rome") == f"booked: {', '.join(rome)}"
        with pytest.raises(TerminalError, match="no hotels under water"):
            await env.client.call("Travel/book", "Atlantis")
        assert await env.client.call("Travel/booked") == rome


@pytest.mark.parametrize("is_answered", [True, False])
async def test_follow_up(load: Load, is_answered: bool) -> None:
    async with running(load("follow_up").app) as env:
        began = env.now
        sent = await env.client.send("FollowUp/run", "the bicycle", key="ada")
        if is_answered:
            await env.client.call("FollowUp/answered", "fine", key="ada")
        said = await env.client.attach(sent.invocation_id)
        assert said == ("You said: Sum up: fine" if is_answered else "no answer")
        assert (env.now - began).days == (30 if is_answered else 90)


async def test_approval(load: Load) -> None:
    async with running(load("approval").app) as env:
        sent = await env.client.send("Refund/patient", 120)
        (waiting,) = await env.approvals()
        await env.decide(waiting.id, True, by="grace")
        assert await env.client.attach(sent.invocation_id) == "You said: Granted: 120 euros, grace"
        said = await env.client.call("Refund/hurried", 120)
        assert said == "You said: Refused: 120 euros, nobody had time"


async def test_budget(load: Load) -> None:
    async with running(load("budget").app) as env:
        sent = await env.client.send("Talker/talk", ["one", "two", "three"])
        (waiting,) = await env.approvals()
        assert "is used up" in waiting.row.title
        await env.decide(waiting.id, True, by="grace")
        assert await env.client.attach(sent.invocation_id) == 3


async def test_mcp_tools(load: Load) -> None:
    async with running(load("mcp_tools").app) as env:
        said = await env.client.call("Tourist/ask", "How is the weather in Oslo?")
        assert said == "It is sunny in Oslo."


async def test_streaming_chat(load: Load, tmp_path: Path) -> None:
    chat = load("streaming_chat")
    web = chat.Web(f"sqlite:{tmp_path / 'chat.db'}")
    sockets = [socket.create_server(("127.0.0.1", 0))]
    server = uvicorn.Server(uvicorn.Config(web, log_config=None, lifespan="on"))
    serving = asyncio.create_task(server.serve(sockets=sockets))
    async with asyncio.timeout(30):
        while not server.started:
            await asyncio.sleep(0.005)
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as browser:
            assert "<title>Chat</title>" in (await browser.get("/")).text
            said = await browser.post("/say", content="hello")
            assert (await browser.get("/other")).status_code == 404
        server.should_exit = True
        await serving
    words = [json.loads(line)["text"] for line in said.text.splitlines()]
    assert len(words) > 1
    assert "".join(words) == "You said 'hello', one word at a time."
