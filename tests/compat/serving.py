"""`holdfast serve` in a process of its own, and what stopping it must not change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.compat.front_door import FrontDoor
from tests.compat.real_server import free_ports

APP = Path(__file__).with_name("primitive_app.py")
PATIENCE_S = 30.0


class Served:
    """The services of `primitive_app`, on a port of loopback. Use as a context manager."""

    def __init__(self, port: int, log: Path, http_version: str) -> None:
        self._port = port
        self._output = log.with_suffix(".output")
        self._argv = [
            *(sys.executable, "-m", "holdfast.cli", "serve", f"{APP}:app"),
            *("--port", str(port), "--http", http_version),
        ]
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HOLDFAST_")}
        self._environment = {**kept, "PRIMITIVE_LOG": str(log)}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Served:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv, env=self._environment, stdout=output, stderr=output
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, self._output.read_text()
            assert time.monotonic() < deadline, self._output.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._port}/health", timeout=2
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)


TURNS = 12
COUNT = 4


async def run_through_a_stop(
    door: FrontDoor, tmp_path: Path, http_version: str, *, is_killed: bool
) -> list[str]:
    """Stop the handlers' process in the middle of invocations; return what happened, in order."""
    log = tmp_path / "happened"
    log.touch()
    [port] = free_ports(1)
    served = Served(port, log, http_version)
    with served:
        options = {} if http_version == "2" else {"use_http_11": True}
        await door.register(f"http://127.0.0.1:{port}", **options)
        ids = [await door.send("Steps/half", TURNS) for _ in range(COUNT)]
        while len(log.read_text().splitlines()) < COUNT * TURNS // 3:
            await asyncio.sleep(0.01)
        if is_killed:
            served.kill()
        else:
            assert await asyncio.to_thread(served.terminate) == 0
        served.start()
        for invocation_id in ids:
            answer = await door.attach(invocation_id)
            expected = [f"{invocation_id} half {n}" for n in range(TURNS)]
            assert answer.json == expected, answer
    return log.read_text().splitlines()
