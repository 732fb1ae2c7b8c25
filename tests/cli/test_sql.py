"""`holdfast sql`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_harness import holdfast
from test_call import Fake, Reply

QUERY = "SELECT id, key, n FROM t"
ROWS = [{"id": "a", "n": 1}, {"id": "b\x1b[2J", "key": None, "n": [1, 2]}]


@pytest.fixture
def server() -> Iterator[Fake]:
    fake = Fake()
    headers = (("x-holdfast-columns", '["id", "key", "n"]'),)
    fake.replies = [Reply(body=json.dumps({"rows": ROWS}).encode(), headers=headers)]
    yield fake
    fake.close()


def ask(server: Fake, *arguments: str) -> tuple[int, str, str]:
    done = holdfast("sql", QUERY, *arguments, "--admin", server.address)
    return done.returncode, done.stdout, done.stderr


def test_a_table(server: Fake) -> None:
    code, out, _ = ask(server)
    assert (code, out) == (0, "a\t\t1\nb\\x1b[2J\t\t[1, 2]\n")
    assert server.asked[0].line == "POST /query"
    assert json.loads(server.asked[0].body) == {"query": QUERY}


def test_json(server: Fake) -> None:
    code, out, _ = ask(server, "--json")
    assert (code, json.loads(out)) == (0, {"schema_version": 1, "rows": ROWS})


def test_no_rows_and_a_server_that_names_no_columns(server: Fake) -> None:
    server.replies = [Reply(body=b'{"rows": []}')]
    assert ask(server) == (0, "", "No rows.\n")
    server.replies = [Reply(body=b'{"rows": [{"b": 1}, {"a": 2, "b": 3}]}')]
    assert ask(server)[1] == "1\t\n3\t2\n"


def test_a_refusal(server: Fake) -> None:
    body = json.dumps({"message": "Not SQL.", "error_code": "HF1401", "hint": "Try."}).encode()
    server.replies = [Reply(status=400, body=body)]
    code, _, err = ask(server)
    assert code == 2
    assert "Not SQL." in err
    assert "HF1401" in err
