"""Starting, awaiting and stopping the processes under test; loopback ports; small HTTP calls."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from bench.meter import descendants, start_time

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "bench" / ".cache"
PEER_PYTHON = CACHE / "venv" / "bin" / "python"
PROJECT_BIN = Path(sys.executable).parent


class BenchError(Exception):
    """A system could not be installed, started or measured; the message says why."""


def progress(text: str) -> None:
    """Tell the person watching; stdout is for results only."""
    sys.stderr.write(f"[bench] {text}\n")
    sys.stderr.flush()


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now (all held at once, so they differ)."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()


class Process:
    """A process of ours with its log file; ended by its own pid and no other way."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        account: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [str(a) for a in argv],
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=account,
                group=None if account is None else account_group(account),
                extra_groups=None if account is None else [],
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """Raise, with the end of the log, if the process has ended."""
        if (code := self._popen.poll()) is not None:
            raise BenchError(f"{self.name} ended with {code}:\n{self.log_tail()}")

    def wait(self, timeout: float) -> int:
        """Exit code of a process that ends by itself."""
        return self._popen.wait(timeout)

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self, timeout: float = 20.0) -> None:
        """Ask it to end; kill it if it has not after ``timeout``, and any child it left behind."""
        if self._popen.poll() is not None:
            return
        children = {pid: start_time(pid) for pid in descendants(self.pid)}
        self._popen.send_signal(self._stop_signal)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            progress(f"{self.name} did not stop in {timeout:.0f} s: killing pid {self.pid}")
            self._popen.kill()
            self._popen.wait()
        deadline = time.monotonic() + 3
        while left := [p for p, t in children.items() if t is not None and start_time(p) == t]:
            if time.monotonic() > deadline:
                progress(f"{self.name} left {left} behind: killing them")
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)


def account_group(account: str) -> int:
    import pwd

    return pwd.getpwnam(account).pw_gid


def http(method: str, url: str, body: bytes = b"", timeout: float = 10.0) -> bytes:
    """One exchange with a loopback server; raises OSError on failure or a non-2xx status."""
    where = urlsplit(url)
    connection = HTTPConnection(where.netloc, timeout=timeout)
    try:
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, where.path, body or None, headers)
        response = connection.getresponse()
        payload = response.read()
    except HTTPException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise OSError(f"status {response.status}: {payload[:300].decode(errors='replace')}")
    return payload


def await_http(
    process: Process, method: str, url: str, contains: bytes = b"", timeout: float = 60.0
) -> bytes:
    """Repeat a request until it succeeds and its answer contains ``contains``."""
    deadline = time.monotonic() + timeout
    last: object = "no attempt"
    while time.monotonic() < deadline:
        process.check()
        try:
            answer = http(method, url)
            if contains in answer:
                return answer
            last = answer[:200]
        except OSError as error:
            last = error
        time.sleep(0.1)
    raise BenchError(f"{process.name}: {url} not ready: {last}\n{process.log_tail()}")
