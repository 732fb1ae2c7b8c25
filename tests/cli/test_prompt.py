"""`holdfast inv prompts`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cli_harness import holdfast
from test_call import JSON, Fake, Reply

from holdfast.cli.prompt import spent

CALL: dict[str, Any] = {
    "completion_id": 4,
    "attempt": 2,
    "at": "2026-01-02T03:04:05.000Z",
    "request_model": "gpt-5",
    "response_model": "gpt-5-2025",
    "usage": {"input": 10, "cached_input": None, "output": None, "reasoning": None},
    "cost": {"amount": "0.001", "currency": "USD"},
    "latency_ms": 12,
    "finish_reasons": ["stop"],
    "error": None,
    "omitted": None,
}
LIST = {"id": "inv_1", "totals": {}, "model_calls": [CALL, {**CALL, "cost": None}]}
SHOWN = {
    **CALL,
    "messages": [
        {"role": "user", "content": "two\nlines\x1b[2J"},
        {"kind": "tools", "tools": [{"name": "search"}]},
    ],
    "answer": {"role": "assistant", "content": "yes"},
}


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


def said(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode(), (JSON,))


def ask(fake: Fake, *arguments: str) -> tuple[int, str, str]:
    done = holdfast("inv", "prompts", *arguments, "--admin", fake.address)
    return done.returncode, done.stdout, done.stderr


def test_the_list(fake: Fake) -> None:
    fake.replies = [said(LIST)]
    code, out, _ = ask(fake, "inv_1")
    assert code == 0
    one, two = out.splitlines()
    assert one.split("\t")[0::2] == ["1", "gpt-5-2025", "?", "12"]
    assert "0.001 USD" in one
    assert two.split("\t")[5] == "?"
    assert fake.asked[0].line == "GET /holdfast/v1/invocations/inv_1/model-calls"


def test_a_prompt(fake: Fake) -> None:
    fake.replies = [said(LIST), said(SHOWN)]
    code, out, err = ask(fake, "inv_1", "2")
    assert (code, err) == (0, "")
    assert out.startswith("--- user\ntwo\nlines\\x1b[2J\n--- tools\n{")
    assert out.endswith("--- answer\n--- assistant\nyes\n")
    assert fake.asked[1].line == "GET /holdfast/v1/invocations/inv_1/model-calls/4?attempt=2"


def test_as_json(fake: Fake) -> None:
    fake.replies = [said(LIST), said(SHOWN)]
    code, out, _ = ask(fake, "inv_1", "1", "--json")
    assert (code, json.loads(out)["model_call"]) == (0, SHOWN)


def test_there_are_not_so_many(fake: Fake) -> None:
    fake.replies = [said(LIST)]
    code, out, err = ask(fake, "inv_1", "3")
    assert (code, out) == (2, "")
    assert "3: inv_1 has 2 model calls" in err


def test_content_that_is_not_kept(fake: Fake) -> None:
    fake.replies = [said(LIST), said({**SHOWN, "messages": [], "answer": None, "omitted": "off"})]
    code, out, err = ask(fake, "inv_1", "1")
    assert (code, out) == (0, "")
    assert "not kept: off" in err


def test_none(fake: Fake) -> None:
    fake.replies = [said({**LIST, "model_calls": []})]
    code, out, err = ask(fake, "inv_1")
    assert (code, out) == (0, "")
    assert "No model calls" in err


TOTALS: dict[str, Any] = {
    "count": 3,
    "usage": {"input": 300, "cached_input": 20, "output": 30, "reasoning": 0},
    "costs": [{"amount": "0.01", "currency": "USD"}],
    "count_without_cost": 0,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "3: 300 tokens in (20 cached), 30 out, 0.01 USD"),
        (
            {"count_without_cost": 2},
            "3: 300 tokens in (20 cached), 30 out, 0.01 USD + 2 of unknown cost",
        ),
        ({"count": 0}, ""),
    ],
)
def test_what_was_spent(changes: dict[str, Any], line: str) -> None:
    assert spent({"model_calls": TOTALS | changes}) == line
