from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner, Result

from holdfast.cli.deployment import get, register, remove
from holdfast.cli.problem import CommandError, ExitCode

ID = "dp_149kW7TiajOESTuNaWonp8B"
SERVICE = {"name": "Cart", "ty": "VirtualObject", "revision": 2, "handlers": [{"name": "add"}]}
REGISTERED = {"id": ID, "services": [SERVICE]}


class Admin:
    """A server that answers every request alike, and remembers it."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any]] = []
        self.status = 201
        self.answer: dict[str, Any] = REGISTERED
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                admin.seen.append((self.command, self.path, json.loads(body) if body else None))
                answer = json.dumps(admin.answer).encode()
                self.send_response(admin.status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def run(self, command: Any, *arguments: str) -> Result:
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return CliRunner().invoke(command, [*arguments, "--admin", url])

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def admin() -> Iterator[Admin]:
    admin = Admin()
    yield admin
    admin.close()


def test_register(admin: Admin) -> None:
    done = admin.run(register, "http://h:9080")
    assert done.exit_code == 0
    assert done.stdout == "Cart\tVirtualObject\t2\tadd\n"
    assert f"Registered as {ID}" in done.stderr
    [(method, path, body)] = admin.seen
    assert (method, path) == ("POST", "/deployments")
    assert body == {
        "uri": "http://h:9080",
        "use_http_11": False,
        "force": False,
        "breaking": False,
        "additional_headers": None,
        "metadata": None,
    }


def test_register_with_options(admin: Admin) -> None:
    admin.status = 200
    options = ("--use-http1.1", "--force", "--breaking", "--yes", "--json")
    pairs = ("--header", "authorization=Bearer a=b", "--metadata", "team=shop")
    done = admin.run(register, "http://h:9080", *options, *pairs)
    assert json.loads(done.stdout)["id"] == ID
    assert "Registered anew" in done.stderr
    body = admin.seen[0][2]
    assert (body["use_http_11"], body["force"], body["breaking"]) == (True, True, True)
    assert body["additional_headers"] == {"authorization": "Bearer a=b"}
    assert body["metadata"] == {"team": "shop"}


def test_register_what_is_known(admin: Admin) -> None:
    admin.status = 200
    assert "It was registered before" in admin.run(register, "http://h:9080").stderr


def test_dry_run_asks_once_and_says_that_it_was_one(admin: Admin) -> None:
    done = admin.run(register, "http://h:9080", "--dry-run")
    assert done.stdout == "Cart\tVirtualObject\t2\tadd\n"
    assert "Nothing was registered" in done.stderr
    assert [body["dry_run"] for _, _, body in admin.seen] == [True]


def test_a_header_without_a_value(admin: Admin) -> None:
    done = admin.run(register, "http://h:9080", "--header", "authorization")
    assert isinstance(done.exception, CommandError)
    assert done.exception.exit_code is ExitCode.USAGE
    assert admin.seen == []


def test_what_the_server_refuses_is_told(admin: Admin) -> None:
    admin.status = 500
    admin.answer = {"message": "h cannot be reached", "error_code": "HF1340", "hint": "Start it"}
    done = admin.run(register, "http://h:9080")
    assert isinstance(done.exception, CommandError)
    assert done.exception.code == "HF1340"


def test_get(admin: Admin) -> None:
    admin.status = 200
    admin.answer = {
        **REGISTERED,
        "uri": "http://h:9080/",
        "status": "draining",
        "open_invocations": 3,
        "http_version": "HTTP/2.0",
        "protocol_type": "BidiStream",
        "max_protocol_version": 6,
        "created_at": "2026-01-31T12:00:00.000Z",
    }
    done = admin.run(get, ID)
    facts = dict(line.split("\t") for line in done.stdout.splitlines())
    assert facts["status"] == "draining"
    assert facts["open"] == "3"
    assert facts["services"] == "Cart (2)"
    assert admin.seen == [("GET", f"/deployments/{ID}?open=true", None)]


def test_rm(admin: Admin) -> None:
    admin.status = 202
    assert admin.run(remove, ID).exit_code == 0
    assert admin.run(remove, ID, "--force", "--yes").exit_code == 0
    paths = [path for _, path, _ in admin.seen]
    assert paths == [f"/deployments/{ID}", f"/deployments/{ID}?force=true"]


def test_rm_by_force_needs_a_yes(admin: Admin) -> None:
    done = admin.run(remove, ID, "--force")
    assert isinstance(done.exception, CommandError)
    assert admin.seen == []
