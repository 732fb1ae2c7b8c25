"""Runs Holdfast as users do: processes of its own, real files, real HTTP on loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

PATIENCE_S = float(os.environ.get("E2E_PATIENCE_S", "60"))
"""After that long a condition will not come true any more, however slow the machine."""

APPS = Path(__file__).parent / "apps"

# Below the ports that the kernel hands out, so that a server that was killed gets its port back.
_PORTS = range(12_000, 32_000)
_taken: set[int] = set()
_dice = random.SystemRandom()


def free_port() -> int:
    """Return a port that is free now, and was not returned before."""
    while True:
        port = _dice.choice(_PORTS)
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _taken.add(port)
        return port


def wait_until(find: Callable[[], T | None], what: str, *, patience_s: float = PATIENCE_S) -> T:
    """Ask again and again until the answer is neither None nor False, and return it."""
    end = time.monotonic() + patience_s
    while True:
        found = find()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < end, f"waited {patience_s:g} s for {what}"
        time.sleep(0.005)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment without settings of Holdfast, and without keys that cost money."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HOLDFAST_", "OPENAI_"))
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(extra or {})}


class Command:
    """A running `holdfast …`, with its output in a file."""

    def __init__(
        self, *arguments: str, log: Path, env: Mapping[str, str] | None = None, cwd: Path
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.cli", *arguments],
                cwd=cwd,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def name(self) -> str:
        return self._log.name

    @property
    def text(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def until(self, text: str, *, count: int = 1) -> None:
        """Wait until a text is in the output that many times."""

        def is_there() -> bool:
            if self.text.count(text) >= count:
                return True
            ended = self._process.poll() is not None
            # It may have written in between.
            assert not ended or self.text.count(text) >= count, f"no {text!r} in:\n{self.text}"
            return False

        wait_until(is_there, f"{text!r} in {self._log}")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def terminate(self) -> int:
        """SIGTERM; wait for the end and return the exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it, however it is."""
        if self._process.poll() is None:
            # Gently first: `dev` takes its worker with it.
            self._process.terminate()
            try:
                self._process.wait(15.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait(PATIENCE_S)

    def children(self) -> list[int]:
        """Return the process ids of its children."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in found.split()]


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error_code(self) -> str:
        """Return the stable code of an error, empty if there is none."""
        body = self.json() if self.body else None
        return str(body.get("error_code", "")) if isinstance(body, dict) else ""

    def ok(self) -> Any:
        """Return the JSON of an answer that must be good."""
        assert 200 <= self.status < 300, f"{self.status} {self.body!r}"
        return self.json() if self.body else None


def ask(
    method: str,
    host: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Do one HTTP request on a connection of its own."""
    connection = http.client.HTTPConnection(host, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, dict(headers or {}))
        response = connection.getresponse()
        names = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, names, response.read())
    finally:
        connection.close()


class Holdfast:
    """A Holdfast installation: addresses, a store, and the processes that run now.

    Args:
        folder: For data and logs.
        app: `MODULE:APP`.
        env: Added to the environment of all processes.
    """

    def __init__(self, folder: Path, app: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.app = app
        self.ingress = f"127.0.0.1:{free_port()}"
        self.admin = f"127.0.0.1:{free_port()}"
        self.store = folder / "holdfast.db"
        self._env = dict(env or {})
        self._started: list[Command] = []
        self._current: dict[str, Command] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for command in reversed(self._started):
            command.close()
        # Pytest shows it when the test has failed.
        for command in self._started[-4:]:
            print(f"--- {command.name}\n{command.text[-6000:]}")

    # -- processes --------------------------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Options of a server for its addresses and its store."""
        store = f"--store=sqlite:{self.store}"
        return [f"--ingress={self.ingress}", f"--admin={self.admin}", store]

    def run(self, name: str, *arguments: str) -> Command:
        """Start a command that is ended with this."""
        log = self.folder / f"{len(self._started)}-{name}.log"
        command = Command(*arguments, log=log, env=self._env, cwd=self.folder)
        self._started.append(command)
        self._current[name] = command
        return command

    def current(self, name: str) -> Command:
        """Return the latest process of that name."""
        return self._current[name]

    def dev(self, *options: str) -> Command:
        """Start `holdfast dev` and wait until it serves."""
        command = self.run("dev", "dev", self.app, *self.addresses, *options)
        command.until("ready in")
        return command

    def server(self) -> Command:
        """Start `holdfast server`; does not wait."""
        return self.run("server", "server", *self.addresses)

    def worker(self) -> Command:
        """Start `holdfast worker`; does not wait."""
        return self.run("worker", "worker", self.app, f"--connect=http://{self.admin}")

    def up(self) -> None:
        """Start server and worker and wait until they serve."""
        self.server().until("Ready")
        self.worker().until("Serving")

    # -- the ingress ------------------------------------------------------------------------------

    def call(self, path: str, arg: object = None, *, key: str | None = None) -> Any:
        """Call a handler; the answer must be good."""
        return self.post(f"/{path}", arg, key).ok()

    def send(
        self, path: str, arg: object = None, *, key: str | None = None, delay: str = ""
    ) -> str:
        """Send to a handler and return the invocation id."""
        query = f"?delay={delay}" if delay else ""
        return str(self.post(f"/{path}/send{query}", arg, key).ok()["invocationId"])

    def post(self, path: str, arg: object = None, key: str | None = None) -> Answer:
        """POST to the ingress; `key` is an idempotency key."""
        headers = {} if key is None else {"idempotency-key": key}
        body = None
        if arg is not None:
            body = json.dumps(arg).encode()
            headers["content-type"] = "application/json"
        return ask("POST", self.ingress, path, body, headers)

    def attach(self, invocation_id: str) -> Answer:
        """Wait for the outcome of an invocation."""
        return ask("GET", self.ingress, f"/restate/invocation/{invocation_id}/attach")

    def resolve(self, awakeable_id: str, value: object) -> None:
        """Complete an awakeable."""
        assert self.post(f"/restate/awakeables/{awakeable_id}/resolve", value).status == 202

    # -- the admin API ----------------------------------------------------------------------------

    def invocation(self, invocation_id: str) -> dict[str, Any]:
        found = ask("GET", self.admin, f"/holdfast/v1/invocations/{invocation_id}").ok()
        assert isinstance(found, dict)
        return found

    def invocations(self, query: str = "") -> list[dict[str, Any]]:
        rows = ask("GET", self.admin, f"/holdfast/v1/invocations?limit=1000&{query}").ok()
        return list(rows["invocations"])

    def journal(self, invocation_id: str) -> list[dict[str, Any]]:
        found = ask("GET", self.admin, f"/holdfast/v1/invocations/{invocation_id}/journal").ok()
        return list(found["entries"])

    def patch(self, invocation_id: str, verb: str) -> Answer:
        """Cancel or kill an invocation."""
        return ask("PATCH", self.admin, f"/invocations/{invocation_id}/{verb}")

    def until_status(self, invocation_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until an invocation has one of these statuses."""

        def find() -> dict[str, Any] | None:
            row = self.invocation(invocation_id)
            return row if row["status"] in statuses else None

        return wait_until(find, f"{invocation_id} to be {' or '.join(statuses)}")

    def until_journal(self, invocation_id: str, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for entries of a kind, such as `Notification: Run`, and return them."""

        def find() -> list[dict[str, Any]] | None:
            found = [e for e in self.journal(invocation_id) if e["kind"] == kind]
            return found if len(found) >= count else None

        return wait_until(find, f"{count} x {kind!r} in {invocation_id}")


def kill_process(pid: int) -> None:
    """SIGKILL a process that one of ours started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class Ledger:
    """A file to which handlers append what they do. One `write` per line, so nothing is torn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    @property
    def env(self) -> dict[str, str]:
        return {"LEDGER": str(self.path)}

    def note(self, line: str) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{line}\n".encode())

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    def until(self, line: str, *, count: int = 1) -> list[str]:
        """Wait until a line is there that many times; return all lines."""

        def find() -> list[str] | None:
            lines = self.lines()
            return lines if lines.count(line) >= count else None

        return wait_until(find, f"{line!r} in the ledger")
