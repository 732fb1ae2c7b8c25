"""The commands that ask a server, against one that answers what a test wants."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import pytest
from cli_harness import Running, free_ports, holdfast

from holdfast.cli.call import target_path
from holdfast.cli.problem import CommandError


class Asked(NamedTuple):
    """A request that arrived."""

    line: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What the server answers."""

    status: int = 200
    body: bytes = b"{}"
    headers: tuple[tuple[str, str], ...] = ()


class Fake:
    """A server that gives prepared answers, in order; the last one again and again."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.replies: list[Reply] = [Reply()]
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                headers = {name.lower(): value for name, value in self.headers.items()}
                fake.asked.append(
                    Asked(f"{self.command} {self.path}", headers, self.rfile.read(size))
                )
                reply = fake.replies[0] if len(fake.replies) == 1 else fake.replies.pop(0)
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_PATCH = handle_any

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def env(self) -> dict[str, str]:
        return {"HOLDFAST_INGRESS": self.address, "HOLDFAST_ADMIN": f"http://{self.address}/"}


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.close()


JSON = ("content-type", "application/json")


def test_call_prints_the_answer_as_it_is(fake: Fake) -> None:
    fake.replies = [Reply(200, b'"Hello Ada"', (JSON, ("x-restate-id", "inv_1x")))]
    done = holdfast("call", "Greeter/greet", '"Ada"', "--idempotency-key", "k", env=fake.env)
    assert (done.returncode, done.stdout, done.stderr) == (0, '"Hello Ada"\n', "")
    (asked,) = fake.asked
    assert asked.line == "POST /Greeter/greet"
    assert asked.body == b'"Ada"'
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["idempotency-key"] == "k"
    done = holdfast("call", "Greeter/greet", "--json", env=fake.env)
    assert json.loads(done.stdout) == {
        "schema_version": 1,
        "invocation_id": "inv_1x",
        "result": "Hello Ada",
    }
    assert "content-type" not in fake.asked[1].headers


def test_the_argument_comes_from_standard_input_too(fake: Fake) -> None:
    done = holdfast("call", "A/b", "-", env=fake.env, stdin=b"[1]")
    assert done.returncode == 0
    assert fake.asked[0].body == b"[1]"


def test_other_types_are_not_checked(fake: Fake) -> None:
    done = holdfast("call", "A/b", "plain", "--content-type", "text/plain", env=fake.env)
    assert done.returncode == 0
    assert (fake.asked[0].body, fake.asked[0].headers["content-type"]) == (b"plain", "text/plain")


def test_send_prints_the_id(fake: Fake) -> None:
    body = b'{"invocationId":"inv_1x","status":"PreviouslyAccepted"}'
    fake.replies = [Reply(202, body, (JSON,))]
    done = holdfast("send", "A/b", "1", "--delay", "5m", env=fake.env)
    assert (done.returncode, done.stdout) == (0, "inv_1x\n")
    assert "earlier request" in done.stderr
    assert fake.asked[0].line == "POST /A/b/send?delay=5m"


def test_attach_waits(fake: Fake) -> None:
    fake.replies = [Reply(200, b"7", (JSON,))]
    done = holdfast("attach", "inv_1x", env=fake.env)
    assert (done.returncode, done.stdout) == (0, "7\n")
    assert fake.asked[0].line == "GET /restate/invocation/inv_1x/attach"


def test_the_token_is_sent(fake: Fake) -> None:
    holdfast("services", "ls", env={**fake.env, "HOLDFAST_TOKEN": "secret"})
    assert fake.asked[0].headers["authorization"] == "Bearer secret"


INGRESS = ("x-restate-error-source", "ingress")
INVOCATION = ("x-restate-error-source", "invocation")


@pytest.mark.parametrize(
    ("status", "source", "error_code", "exit_code"),
    [
        (500, INVOCATION, "", 1),
        (404, INVOCATION, "", 1),
        (404, INVOCATION, "HF1004", 3),
        (400, INGRESS, "HF1030", 2),
        (413, INGRESS, "HF1013", 2),
        (404, INGRESS, "HF1001", 3),
        (409, INGRESS, "HF1409", 4),
        (429, INGRESS, "HF1429", 4),
        (401, INGRESS, "", 7),
        (403, INGRESS, "HF1009", 7),
        (503, INGRESS, "HF4001", 5),
        (500, INGRESS, "HF0000", 5),
    ],
)
def test_what_the_server_says_decides_the_exit_code(
    status: int, source: tuple[str, str], error_code: str, exit_code: int, fake: Fake
) -> None:
    body = {"code": status, "message": "it is \x1b[31mso", "hint": "do", "error_code": error_code}
    fake.replies = [Reply(status, json.dumps(body).encode(), (JSON, source))]
    done = holdfast("call", "A/b", env=fake.env)
    assert done.returncode == exit_code
    assert done.stdout == ""
    assert "\x1b" not in done.stderr
    assert "it is \\x1b[31mso" in done.stderr
    if error_code:
        assert f"error[{error_code}]" in done.stderr


def test_no_server_exits_5() -> None:
    (port,) = free_ports(1)
    done = holdfast("call", "A/b", "--ingress", f"127.0.0.1:{port}")
    assert done.returncode == 5
    assert "error[HF3001]" in done.stderr
    assert "holdfast dev" in done.stderr


def test_no_answer_in_time_exits_6() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        done = holdfast("attach", "inv_1x", "--timeout", "0.1", "--ingress", address)
    assert done.returncode == 6
    assert "error[HF3003]" in done.stderr


def test_ctrl_c_while_waiting_exits_130_and_says_how_to_go_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Running("attach", "inv_1x", "--ingress", address) as waiting:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1000).startswith(b"GET /restate/invocation/inv_1x/attach")
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait() == 130
            assert "holdfast attach inv_1x" in waiting.text


def test_an_answer_that_is_no_json_exits_5(fake: Fake) -> None:
    fake.replies = [Reply(200, b"<html>")]
    done = holdfast("services", "ls", env=fake.env)
    assert done.returncode == 5
    assert "error[HF3002]" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["call", "A"], "HF1216"),
        (["call", "/b"], "HF1216"),
        (["call", "A/"], "HF1216"),
        (["call", "A/k/b", "--key", "k"], "HF1216"),
        (["call", "A/b", "{x"], "HF1221"),
        (["send", "A/b", "Ada"], "HF1221"),
        (["call", "A/b", "@no-such-file"], "HF1222"),
        (["call", "A/b", "--ingress", "ftp://x"], "HF1206"),
        (["call", "A/b", "--ingress", "127.0.0.1:port"], "HF1206"),
    ],
)
def test_wrong_arguments_exit_2(arguments: list[str], code: str) -> None:
    done = holdfast(*arguments)
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr


@pytest.mark.parametrize(
    ("target", "key", "path"),
    [
        ("A/b", None, "/A/b"),
        ("A/k/b", None, "/A/k/b"),
        ("A/b", "k", "/A/k/b"),
        ("A/x/y z/b", None, "/A/x%2Fy%20z/b"),
        ("A/b", "ä/ö", "/A/%C3%A4%2F%C3%B6/b"),
    ],
)
def test_target_path(target: str, key: str | None, path: str) -> None:
    assert target_path(target, key) == path


def test_target_path_refuses_an_empty_handler() -> None:
    with pytest.raises(CommandError):
        target_path("A/k/", None)


def an_invocation(number: int, **changes: object) -> dict[str, object]:
    """Return an invocation as the admin API shows it."""
    return {
        "id": f"inv_{number}",
        "target": "A/b\n",
        "status": "completed",
        "created_at": "2026-01-31T12:00:00.000Z",
        "completed_at": "2026-01-31T12:00:01.500Z",
        "attempt": 1,
        "journal_length": 2,
        "has_failed": False,
        "deployment_id": "dp_1",
        "idempotency_key": None,
        "origin": {"invocation_id": None, "target": None},
        "last_failure": None,
        "waiting": None,
        **changes,
    }


def page(*invocations: dict[str, object], following: str | None = None) -> Reply:
    body = json.dumps({"invocations": invocations, "next": following})
    return Reply(200, body.encode(), (JSON,))


def test_ls_reads_page_after_page_and_prints_lines(fake: Fake) -> None:
    fake.replies = [
        page(an_invocation(1), following="5-inv_1"),
        page(an_invocation(2, has_failed=True), following="4-inv_2"),
        page(),
    ]
    done = holdfast("inv", "ls", "--service", "A", "--status", "paused", "--status", "running",
                    "--limit", "2", env=fake.env)  # fmt: skip
    assert done.stdout == (
        "succeeded\tinv_1\tA/b\\x0a\t2026-01-31T12:00:00.000Z\t1.5 s\t1\t2\n"
        "failed\tinv_2\tA/b\\x0a\t2026-01-31T12:00:00.000Z\t1.5 s\t1\t2\n"
    )
    assert "more than 2" in done.stderr
    assert [asked.line for asked in fake.asked] == [
        "GET /holdfast/v1/invocations?service=A&status=paused%2Crunning&limit=2",
        "GET /holdfast/v1/invocations?service=A&status=paused%2Crunning&limit=1&before=5-inv_1",
    ]


def test_ls_as_json(fake: Fake) -> None:
    fake.replies = [page(an_invocation(1))]
    shown = json.loads(holdfast("inv", "ls", "--json", env=fake.env).stdout)
    assert shown["schema_version"] == 1
    assert [each["id"] for each in shown["invocations"]] == ["inv_1"]


def test_get_says_why(fake: Fake) -> None:
    failure = {"message": "boom", "code": 500}
    backing_off = an_invocation(
        1, status="backing-off", last_failure=failure, retry_at="2026-01-31T12:00:09Z"
    )
    fake.replies = [Reply(200, json.dumps(backing_off).encode(), (JSON,))]
    done = holdfast("inv", "get", "inv_1", env=fake.env)
    assert "tries again 2026-01-31T12:00:09Z, after: boom (code 500)" in done.stdout


def test_get_says_how_it_failed(fake: Fake) -> None:
    failed = an_invocation(1, has_failed=True)
    entry = {"index": 1, "kind": "Command: Output", "failure": {"code": 418, "message": "no"}}
    fake.replies = [
        Reply(200, json.dumps(failed).encode(), (JSON,)),
        Reply(200, json.dumps({"id": "inv_1", "entries": [entry]}).encode(), (JSON,)),
    ]
    done = holdfast("inv", "get", "inv_1", env=fake.env)
    assert "why\tno (code 418)\n" in done.stdout


def test_journal_shows_what_tells_most(fake: Fake) -> None:
    value = {"encoding": "json", "value": {"a": 1}, "size": 7}
    entries = [
        {"index": 0, "kind": "Command: Input", "at": "t0", "name": "", "payload": value},
        {"index": 1, "kind": "Command: Sleep", "at": "t1", "completion_id": 1, "wake_up_at": "t9"},
        {"index": 2, "kind": "Command: Output", "at": "t2", "failure": {"message": "no\x1b[0m"}},
    ]
    fake.replies = [Reply(200, json.dumps({"id": "i", "entries": entries}).encode(), (JSON,))]
    done = holdfast("inv", "journal", "inv_1", env=fake.env)
    assert done.stdout.splitlines() == [
        '0\tt0\tCommand: Input\t\t{"a": 1}',
        "1\tt1\tCommand: Sleep\t\tcompletion_id 1, wake_up_at t9",
        "2\tt2\tCommand: Output\t\tno\\x1b[0m",
    ]


def test_cancel_and_kill_tell_what_happened(fake: Fake) -> None:
    fake.replies = [Reply(202, b""), Reply(200, b""), Reply(200, b"")]
    done = holdfast("inv", "cancel", "inv_1", "inv_2", env=fake.env)
    assert done.stdout == "inv_1\tcancelling\ninv_2\tcancelled\n"
    done = holdfast("inv", "kill", "inv_3", "--json", env=fake.env)
    assert json.loads(done.stdout)["invocations"] == [{"id": "inv_3", "result": "killed"}]
    assert [asked.line for asked in fake.asked] == [
        "PATCH /invocations/inv_1/cancel",
        "PATCH /invocations/inv_2/cancel",
        "PATCH /invocations/inv_3/kill",
    ]


def test_lists_of_the_catalog(fake: Fake) -> None:
    handlers = [{"name": "b"}, {"name": "c"}]
    service = {
        "name": "A",
        "ty": "Service",
        "handlers": handlers,
        "deployment_id": "dp",
        "public": True,
    }
    fake.replies = [
        Reply(200, json.dumps({"services": [service]}).encode(), (JSON,)),
        Reply(200, b'{"deployments": []}', (JSON,)),
    ]
    assert holdfast("svc", "ls", env=fake.env).stdout == "A\tService\tb, c\tdp\tpublic\n"
    done = holdfast("dp", "ls", env=fake.env)
    assert done.stdout == ""
    assert "holdfast worker" in done.stderr
