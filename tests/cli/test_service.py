"""`holdfast services get`, `config`, `openapi`, against a server that answers what a test wants."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from cli_harness import holdfast
from test_call import Fake, Reply

SERVICE = {
    "name": "Cart",
    "ty": "VirtualObject",
    "deployment_id": "dp_1x",
    "revision": 2,
    "public": False,
    "idempotency_retention": "1d",
    "journal_retention": "7d",
    "inactivity_timeout": "1m",
    "abort_timeout": "10m",
    "handlers": [
        {
            "name": "add",
            "ty": "Exclusive",
            "public": False,
            "input_description": "JSON 'Item'",
            "output_description": "none",
        }
    ],
}


@pytest.fixture
def server() -> Iterator[Fake]:
    fake = Fake()
    fake.replies = [Reply(body=json.dumps(SERVICE).encode())]
    yield fake
    fake.close()


def ask(server: Fake, *arguments: str) -> tuple[int, str, str]:
    done = holdfast("services", *arguments, "--admin", server.address)
    return done.returncode, done.stdout, done.stderr


def test_get(server: Fake) -> None:
    code, out, _ = ask(server, "get", "Cart")
    assert code == 0
    assert server.asked[0].line == "GET /services/Cart"
    assert "journal-retention\t7d\n" in out
    assert "access\tprivate\n" in out
    assert "add\tExclusive\tJSON 'Item'\tnone\tprivate\n" in out


def test_config_shows(server: Fake) -> None:
    code, out, err = ask(server, "config", "Cart", "--json")
    assert (code, err) == (0, "")
    left_out = ("handlers", "ty", "deployment_id", "revision")
    expected = {name: value for name, value in SERVICE.items() if name not in left_out}
    assert json.loads(out) == {"schema_version": 1, **expected}
    assert server.asked[0].line == "GET /services/Cart"


def test_config_changes_what_is_named_and_nothing_else(server: Fake) -> None:
    code, _, err = ask(server, "config", "Cart", "--private", "--journal-retention", "7d")
    assert code == 0
    assert "Changed Cart" in err
    assert server.asked[0].line == "PATCH /services/Cart"
    assert json.loads(server.asked[0].body) == {"journal_retention": "7d", "public": False}


def test_openapi(server: Fake) -> None:
    server.replies = [Reply(body=b'{"openapi": "3.1.0"}')]
    code, out, _ = ask(server, "openapi", "My/Cart")
    assert (code, json.loads(out)) == (0, {"openapi": "3.1.0"})
    assert server.asked[0].line == "GET /services/My%2FCart/openapi"
