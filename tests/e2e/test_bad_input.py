"""Bad requests and bad surroundings: each is told with its code, and nothing else suffers."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from .harness import APPS, Command, Holdfast, ask, free_port

JSON = {"content-type": "application/json"}
UNKNOWN = "inv_1dceKvwtEc2n4oukwixMA1k1N7YbJTIwud"

Bad = tuple[str, str, bytes | None, Mapping[str, str], int, str]

INGRESS: dict[str, Bad] = {
    "unknown service": ("POST", "/Nobody/greet", b'"x"', JSON, 404, "HF1001"),
    "unknown handler": ("POST", "/Greeter/nothing", b'"x"', JSON, 404, "HF1002"),
    "path without meaning": ("POST", "/a/b/c/d/e", b'"x"', JSON, 400, "HF1005"),
    "bad escape": ("POST", "/Greeter/%zz", b'"x"', JSON, 400, "HF1006"),
    "method": ("DELETE", "/Greeter/greet", None, {}, 405, "HF1007"),
    "malformed JSON": ("POST", "/Greeter/greet", b'{"a": ', JSON, 400, "HF1022"),
    "no body": ("POST", "/Greeter/greet", None, {}, 400, "HF1020"),
    "content type": ("POST", "/Greeter/greet", b"x", {"content-type": "text/plain"}, 400, "HF1026"),
    "too large": ("POST", "/Greeter/greet", b'"' + b"x" * 11_000_000 + b'"', JSON, 413, "HF1028"),
    "no key": ("POST", "/Counter/add", b"1", JSON, 400, "HF1010"),
    "key of a service": ("POST", "/Greeter/a/greet", b'"x"', JSON, 400, "HF1011"),
    "empty key": ("POST", "/Counter//add", b"1", JSON, 400, "HF1012"),
    "long key": ("POST", f"/Counter/{'k' * 2000}/add", b"1", JSON, 400, "HF1013"),
    "NUL in key": ("POST", "/Counter/a%00b/add", b"1", JSON, 400, "HF1014"),
    "idempotency key": ("POST", "/Greeter/greet", b'"x"', {**JSON, "idempotency-key": ""}, 400,
                        "HF1040"),
    "delay": ("POST", "/Greeter/greet/send?delay=soon", b'"x"', JSON, 400, "HF1030"),
    "unknown id": ("GET", f"/restate/invocation/{UNKNOWN}/attach", None, {}, 404, "HF1004"),
    "unknown id, output": ("GET", f"/restate/invocation/{UNKNOWN}/output", None, {}, 404, "HF1004"),
    "bad id": ("GET", "/restate/invocation/inv_1abc/attach", None, {}, 400, "HF1003"),
    "bad awakeable": ("POST", "/restate/awakeables/sign_1abc/resolve", b"1", JSON, 400, "HF1003"),
}  # fmt: skip
ADMIN: dict[str, Bad] = {
    "unknown id": ("GET", f"/holdfast/v1/invocations/{UNKNOWN}", None, {}, 404, "HF1004"),
    "bad id": ("GET", "/holdfast/v1/invocations/inv_1abc", None, {}, 400, "HF1003"),
    "cancel unknown": ("PATCH", f"/invocations/{UNKNOWN}/cancel", None, {}, 404, "HF1004"),
    "kill bad id": ("PATCH", "/invocations/1/kill", None, {}, 400, "HF1003"),
    "bad filter": ("GET", "/holdfast/v1/invocations?status=odd", None, {}, 400, "HF1060"),
    "unknown path": ("GET", "/nothing", None, {}, 404, "HF1005"),
    "unknown service": ("GET", "/services/Nobody", None, {}, 404, "HF1001"),
}


def test_bad_requests_are_told_and_the_server_lives(dev: Holdfast) -> None:
    wrong: list[str] = []
    for host, requests in ((dev.ingress, INGRESS), (dev.admin, ADMIN)):
        for name, (method, path, body, headers, status, code) in requests.items():
            answer = ask(method, host, path, body, headers)
            if answer.status != status or answer.error_code() != code:
                wrong.append(f"{name}: {answer.status} {answer.body[:300]!r}, not {status} {code}")
            assert dev.call("Greeter/greet", "Ada") == "Hello Ada", name
    assert not wrong, "\n".join(wrong)
    # Nothing was begun by any of them.
    assert {row["handler"] for row in dev.invocations()} == {"greet"}
    assert "Traceback" not in dev.current("dev").text


@pytest.mark.parametrize(
    ("path", "arg", "where"),
    [
        ("Greeter/greet", 5, "str"),
        ("Greeter/total", {"item": "tea", "count": "three"}, "$.count"),
        ("Greeter/total", {"item": "tea"}, "count"),
        ("Greeter/total", [], "object"),
    ],
)
def test_a_wrong_type_is_answered_by_the_sdk_with_400(
    dev: Holdfast, path: str, arg: object, where: str
) -> None:
    answer = dev.post(f"/{path}", arg)
    assert answer.status == 400
    assert answer.headers["x-restate-error-source"] == "invocation"
    assert f"Bad input for {path}" in answer.json()["message"]
    assert where in answer.json()["message"]
    assert answer.error_code() == "HF0508"
    # It is final: nobody tries it again.
    row = dev.invocation(answer.headers["x-restate-id"])
    assert (row["status"], row["attempt"]) == ("completed", 1)
    assert dev.call("Greeter/total", {"item": "tea", "count": 3}) == 3


def test_half_a_request_and_noise_do_no_harm(dev: Holdfast) -> None:
    host, port = dev.ingress.split(":")
    for noise in (
        b"POST /Greeter/greet HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\nshort",
        b"GET / HTTP/9.9\r\n\r\n",
        random.Random(7).randbytes(2000),
        b"",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(noise)
        assert dev.call("Greeter/greet", "Ada") == "Hello Ada"


# -- the command line --------------------------------------------------------------------------


class Refused:
    """A command that must end by itself, and what it said."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        command = Command(*arguments, log=folder / "refused.log", cwd=folder)
        try:
            self.code = command.wait()
        finally:
            command.close()
        self.text = command.text
        found = re.search(r"error\[(HF\d{4})\]", self.text)
        self.error = found.group(1) if found else ""
        assert "Traceback" not in self.text, self.text
        assert "hint:" in self.text, self.text


def server_options(store: Path) -> list[str]:
    return [
        f"--ingress=127.0.0.1:{free_port()}",
        f"--admin=127.0.0.1:{free_port()}",
        f"--store=sqlite:{store}",
    ]


def test_a_taken_port(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        options = server_options(tmp_path / "a.db")
        options[0] = f"--ingress=127.0.0.1:{port}"
        refused = Refused(tmp_path, "server", *options)
    assert (refused.code, refused.error) == (2, "HF1201"), refused.text
    assert str(port) in refused.text
    assert str(os.getpid()) in refused.text


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    # Also root may not write below a file.
    (tmp_path / "file").write_text("mine")
    refused = Refused(tmp_path, "server", *server_options(tmp_path / "file" / "a.db"))
    assert refused.code == 2, refused.text
    assert refused.error.startswith("HF41"), refused.text
    assert (tmp_path / "file").read_text() == "mine"


def test_a_store_of_random_bytes_is_left_as_it_is(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    noise = random.Random(11).randbytes(100_000)
    store.write_bytes(noise)
    for command in (["server"], ["dev", f"{APPS / 'basics.py'}:app", "--no-reload"]):
        refused = Refused(tmp_path, *command, *server_options(store))
        assert refused.code in (2, 3), refused.text
        assert refused.error.startswith("HF41"), refused.text
        assert str(store) in refused.text
        assert store.read_bytes() == noise
        rest = {each.name for each in tmp_path.iterdir()} - {"a.db", "refused.log"}
        assert not any(name.endswith(("-wal", "-shm", "-journal")) for name in rest), rest


def test_a_second_server_on_the_same_store(dev: Holdfast) -> None:
    assert dev.call("Counter/a/add", 4) == 4
    refused = Refused(dev.folder, "server", *server_options(dev.store))
    assert (refused.code, refused.error) == (2, "HF4102"), refused.text
    assert str(dev.current("dev").pid) in refused.text
    assert dev.call("Counter/a/add", 1) == 5


@pytest.mark.parametrize(
    ("source", "app", "error"),
    [
        ("import no_such_package\n", "agent.py:app", "HF1214"),
        ("x = (\n", "agent.py:app", "HF1214"),
        ("app = 1\n", "agent.py:app", "HF1213"),
        ("import holdfast as hf\napp = hf.App()\n", "agent.py:apple", "HF1212"),
        ("", "agnet.py:app", "HF1211"),
        ("", "agent.py", "HF1210"),
    ],
)
def test_an_app_that_cannot_be_loaded(source: str, app: str, error: str, tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(source)
    with Holdfast(tmp_path, f"{APPS / 'basics.py'}:app", {"LEDGER": str(tmp_path / "l")}) as first:
        first.dev("--no-reload")
        assert first.call("Counter/a/add", 4) == 4
        assert first.current("dev").terminate() == 0
        command = first.run("bad", "dev", app, *first.addresses)
        assert command.wait() == 2, command.text
        assert f"error[{error}]" in command.text, command.text
        # What is stored suffers no harm.
        first.dev("--no-reload")
        assert first.call("Counter/a/peek") == 4


def test_a_signal_while_it_starts_ends_it(tmp_path: Path) -> None:
    options = server_options(tmp_path / "a.db")
    command = Command("server", *options, log=tmp_path / "a.log", cwd=tmp_path)
    try:
        command.until("Ingress")
        os.kill(command.pid, signal.SIGTERM)
        assert command.wait() in (0, -signal.SIGTERM)
        assert "Traceback" not in command.text
    finally:
        command.close()
