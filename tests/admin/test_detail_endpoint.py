"""Routes to model calls, on a real host with a real SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import holdfast as hf
from holdfast.admin.app import create_admin_app
from holdfast.server.clock import SystemClock
from holdfast.server.embedded import EmbeddedClient
from holdfast.server.host import Host
from holdfast.storage.sqlite import SqliteStore
from holdfast.transport.inprocess import InProcessPort
from tests.admin.sql.client import SqlClient
from tests.ingress.fake import Client

agent = hf.Service("Agent")
failures: dict[str, int] = {}
UNPRICED: dict[str, Any] = {"request_model": "m", "response_model": "", "cost": None}


def model_call(turn: int, **fields: Any) -> hf.ModelCall:
    values: dict[str, Any] = {
        "provider": "openai",
        "request_model": "gpt-5",
        "response_model": f"gpt-5-{turn}",
        "settings": {"temperature": 0.5},
        "messages": [{"role": "user", "content": f"q{n}"} for n in range(turn)],
        "answer": {"role": "assistant", "content": f"a{turn}"},
        "usage": hf.TokenUsage(input=100, cached_input=40, output=10, reasoning=3),
        "cost": hf.Cost(amount="0.0012", table="t 1", table_date="2026-01-02"),
        "finish_reasons": ["stop"],
        "latency_ms": 12,
        "agent_name": "helper",
    }
    return hf.ModelCall(**(values | fields))


async def ask_model(turn: int) -> str:
    hf.describe_step(model_call(turn))
    return f"a{turn}"


def search(query: str) -> list[str]:
    hf.describe_step(
        hf.ToolCall(name="search", call_id="c1", arguments={"q": query}, result=["found"])
    )
    return ["found"]


async def flaky() -> str:
    hf.describe_step(model_call(1, **UNPRICED, error="overloaded"))
    failures["flaky"] = failures.get("flaky", 0) + 1
    if failures["flaky"] < 3:
        raise RuntimeError("overloaded")
    return "at last"


@agent.handler
async def run(ctx: hf.Context, turns: int) -> str:
    for turn in range(1, turns + 1):
        await ctx.run("model", ask_model, turn)
    await ctx.run("tool", search, "x")
    return "done"


@agent.handler
async def stumble(ctx: hf.Context) -> str:
    retry = hf.RetryPolicy(initial_interval=0.001, max_attempts=5)
    return await ctx.run("model", flaky, retry=retry)


class Running(NamedTuple):
    calls: EmbeddedClient
    admin: Client
    sql: SqlClient


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    failures.clear()
    store = SqliteStore(tmp_path / "data.db", 2, "relaxed")
    await store.open()
    host = Host(store, SystemClock(), owner="me")
    await host.start()
    await host.attach_worker(InProcessPort(hf.App(agent)))
    app = create_admin_app(host, ingress_url="http://127.0.0.1:8080")
    yield Running(EmbeddedClient(host), Client(app), SqlClient(app))
    await host.stop()
    await store.close()


async def done(running: Running, handler: Any, *args: Any) -> str:
    sent = await running.calls.send(handler, *args)
    await running.calls.attach(sent.invocation_id)
    return str(sent.invocation_id)


async def get(running: Running, path: str) -> Any:
    seen = await running.admin.get(f"/holdfast/v1{path}")
    assert seen.status == 200, seen.body
    return seen.json


async def test_the_model_calls_of_an_invocation(running: Running) -> None:
    inv = await done(running, run, 3)
    shown = await get(running, f"/invocations/{inv}/model-calls")
    assert [call["response_model"] for call in shown["model_calls"]] == [
        "gpt-5-1",
        "gpt-5-2",
        "gpt-5-3",
    ]
    first = shown["model_calls"][0]
    assert first["usage"] == {"input": 100, "cached_input": 40, "output": 10, "reasoning": 3}
    assert first["cost"] == {
        "amount": "0.0012",
        "currency": "USD",
        "table": "t 1",
        "table_date": "2026-01-02",
    }
    assert (first["message_count"], first["agent"], first["service"]) == (1, "helper", "Agent")
    assert "messages" not in first
    totals = {
        "count": 3,
        "usage": {"input": 300, "cached_input": 120, "output": 30, "reasoning": 9},
        "costs": [{"amount": "0.0036", "currency": "USD"}],
        "count_without_cost": 0,
    }
    assert shown["totals"] == totals
    assert (await get(running, f"/invocations/{inv}"))["model_calls"] == totals


async def test_a_prompt(running: Running) -> None:
    inv = await done(running, run, 2)
    calls = (await get(running, f"/invocations/{inv}/model-calls"))["model_calls"]
    shown = await get(running, f"/invocations/{inv}/model-calls/{calls[1]['completion_id']}")
    assert shown["messages"] == [
        {"role": "user", "content": "q0"},
        {"role": "user", "content": "q1"},
    ]
    assert shown["answer"] == {"role": "assistant", "content": "a2"}
    assert shown["settings"] == {"temperature": 0.5}


async def test_what_is_not_there(running: Running) -> None:
    inv = await done(running, run, 1)
    missing = await running.admin.get(f"/holdfast/v1/invocations/{inv}/model-calls/99")
    assert (missing.status, missing.json["error_code"]) == (404, "HF0615")
    unknown = await running.admin.get(
        "/holdfast/v1/invocations/inv_1000000000000000000000000000000000/model-calls"
    )
    assert unknown.status in (400, 404)
    for query in ("after=x", "after=1.2.x.inv", "limit=0", "modle=x"):
        refused = await running.admin.get(f"/holdfast/v1/model-calls?{query}")
        assert (refused.status, refused.json["error_code"]) == (400, "HF1060"), query


async def test_recent_model_calls_in_pages(running: Running) -> None:
    one, two = await done(running, run, 3), await done(running, run, 2)
    whole = (await get(running, "/model-calls"))["model_calls"]
    assert [call["invocation_id"] for call in whole] == [two] * 2 + [one] * 3
    paged: list[Any] = []
    after = ""
    while True:
        page = await get(running, f"/model-calls?limit=2{after}")
        paged += page["model_calls"]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert paged == whole
    found = await get(running, "/model-calls?model=gpt-5-3&service=Agent")
    assert [call["invocation_id"] for call in found["model_calls"]] == [one]
    assert (await get(running, "/model-calls?service=Nobody"))["model_calls"] == []


async def test_the_journal_shows_tools(running: Running) -> None:
    inv = await done(running, run, 1)
    entries = (await get(running, f"/invocations/{inv}/journal"))["entries"]
    runs = {each["name"]: each for each in entries if each["kind"] == "Command: Run"}
    (tool,) = runs["tool"]["tool_calls"]
    assert (tool["name"], tool["call_id"]) == ("search", "c1")
    assert tool["arguments"]["value"] == {"q": "x"}
    assert tool["result"]["value"] == ["found"]
    (model,) = runs["model"]["model_calls"]
    assert model["response_model"] == "gpt-5-1"


async def test_failed_tries_are_there(running: Running) -> None:
    inv = await done(running, stumble)
    shown = await get(running, f"/invocations/{inv}/model-calls")
    tries = [(call["attempt"], call["is_failed"], call["error"]) for call in shown["model_calls"]]
    assert tries == [(1, True, "overloaded"), (2, True, "overloaded"), (3, False, "overloaded")]
    assert shown["totals"]["count_without_cost"] == 3
    assert shown["totals"]["costs"] == []
    number = shown["model_calls"][0]["completion_id"]
    second = await get(running, f"/invocations/{inv}/model-calls/{number}?attempt=2")
    assert (second["attempt"], second["messages"]) == (2, [{"role": "user", "content": "q0"}])


async def test_sql(running: Running) -> None:
    inv = await done(running, run, 3)
    rows = await running.sql.rows(
        "SELECT model, sum(input_tokens) AS tokens, sum(cost_nano) AS nano"
        " FROM holdfast_model_call GROUP BY model ORDER BY model LIMIT 2"
    )
    assert rows == [
        {"model": "gpt-5-1", "tokens": 100, "nano": 1_200_000},
        {"model": "gpt-5-2", "tokens": 100, "nano": 1_200_000},
    ]
    (tool,) = await running.sql.rows(
        f"SELECT name, call_id, is_failed FROM holdfast_tool_call WHERE invocation_id = '{inv}'"
    )
    assert tool == {"name": "search", "call_id": "c1", "is_failed": False}
    (all_of,) = await running.sql.rows(
        "SELECT * FROM holdfast_model_call WHERE model = 'gpt-5-2' AND service = 'Agent'"
    )
    assert all_of["finish_reasons"] == ["stop"]
    assert all_of["settings"] == '{"temperature":0.5}'
