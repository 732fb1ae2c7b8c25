"""`holdfast state`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_harness import holdfast
from test_call import Fake, Reply

ENTRIES = [
    {"name": "n", "encoding": "json", "value": {"a": "ä"}, "size": 9, "expires_at": None},
    {"name": "raw", "encoding": "base64", "value": "/wA=", "size": 2, "expires_at": None},
]
STATE = json.dumps({"service": "Cart", "key": "a/b", "version": "v1", "entries": ENTRIES}).encode()


@pytest.fixture
def server() -> Iterator[Fake]:
    fake = Fake()
    fake.replies = [Reply(body=STATE)]
    yield fake
    fake.close()


def ask(server: Fake, *arguments: str) -> tuple[int, str, str]:
    done = holdfast("state", *arguments, "--admin", server.address)
    return done.returncode, done.stdout, done.stderr


def test_get(server: Fake) -> None:
    code, out, err = ask(server, "get", "Cart", "a/b")
    assert code == 0
    assert '{"a": "ä"}' in out
    assert "version v1" in err
    assert server.asked[0].line == "GET /holdfast/v1/state/Cart/a%2Fb"
    assert ask(server, "get", "Cart", "a/b", "raw")[:2] == (0, "/wA=\n")
    code, _, err = ask(server, "get", "Cart", "a/b", "none")
    assert code == 2
    assert "HF1272" in err


def test_ls_reads_all_pages(server: Fake) -> None:
    pages = [
        {"service": "Cart", "keys": ["a", "b"], "next": "b"},
        {"service": "Cart", "keys": ["c"], "next": None},
    ]
    server.replies = [Reply(body=json.dumps(page).encode()) for page in pages]
    code, out, _ = ask(server, "ls", "Cart", "--json")
    assert (code, json.loads(out)["keys"]) == (0, ["a", "b", "c"])
    assert server.asked[1].line == "GET /holdfast/v1/state/Cart?limit=48&after=b"


def test_set_and_clear(server: Fake) -> None:
    server.replies = [Reply(body=b'{"status": "applied"}')]
    assert ask(server, "set", "Cart", "k", 'na"me', "[1, 2.50]", "--if-version", "v1")[0] == 0
    assert server.asked[0].line == "PATCH /holdfast/v1/state/Cart/k"
    assert server.asked[0].body == b'{"set": {"na\\"me": [1, 2.50]}, "version": "v1"}'
    assert ask(server, "clear", "Cart", "k", "name")[0] == 0
    assert json.loads(server.asked[1].body) == {"clear": ["name"], "version": None}
    server.replies = [Reply(status=202, body=b'{"status": "queued"}')]
    code, _, err = ask(server, "clear", "Cart", "k")
    assert (code, json.loads(server.asked[2].body)) == (0, {"replace": True, "version": None})
    assert "when its turn comes" in err


def test_what_is_no_json_is_refused(server: Fake) -> None:
    code, _, err = ask(server, "set", "Cart", "k", "name", "Ada")
    assert code == 2
    assert "HF1273" in err
    assert server.asked == []


def test_another_version(server: Fake) -> None:
    body = json.dumps({"message": "It has changed.", "error_code": "HF1270"}).encode()
    server.replies = [Reply(status=409, body=body)]
    code, _, err = ask(server, "clear", "Cart", "k", "--if-version", "v0")
    assert code == 4
    assert "HF1270" in err
