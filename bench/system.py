"""What the harness needs of a system under test, and how one is measured."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from bench.meter import Watch
from bench.procs import PROJECT_BIN, ROOT, BenchError, Process, await_http, http
from bench.stats import Measurement

EMPTY, STEPS, COUNTER = "empty", "steps", "counter"
WORKLOADS = {
    EMPTY: "empty call",
    STEPS: "10 durable steps",
    COUNTER: "counter object, one hot key",
}


class System(ABC):
    """A system under test. Enter it to start it with a fresh data directory; leave to stop it."""

    name: ClassVar[str]
    summary: ClassVar[str]  # what runs where, for the report
    workloads: ClassVar[tuple[str, ...]] = (EMPTY, STEPS, COUNTER)
    group: ClassVar[str] = "http"  # ratios are made within a group
    on_request: ClassVar[bool] = False  # left out unless it is named with --only

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._stack = ExitStack()
        self.data = data_root
        self.watches: list[Watch] = []

    def __enter__(self) -> System:
        with ExitStack() as stack:
            directory = tempfile.TemporaryDirectory(
                dir=self._data_root, prefix=f"{self.name}-", ignore_cleanup_errors=True
            )
            self.data = Path(stack.enter_context(directory))
            self.start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @abstractmethod
    def install(self) -> None:
        """Bring what it needs onto the machine; raises BenchError where that cannot be."""

    @abstractmethod
    def versions(self) -> dict[str, str]:
        """Names and versions of its parts."""

    @abstractmethod
    def start(self, stack: ExitStack) -> None:
        """Start it; register with ``stack`` what stops it."""

    @abstractmethod
    def measure(self, workload: str, clients: int, seconds: float, warmup: float) -> Measurement:
        """Put it under load."""

    def spawn(
        self,
        stack: ExitStack,
        name: str,
        argv: list[str | Path],
        env: dict[str, str] | None = None,
        account: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Process:
        """Start a process that is stopped when the system is."""
        log = Path(tempfile.mkstemp(dir=self.data, prefix=f"{name}-", suffix=".log")[1])
        process = Process(f"{self.name} {name}", argv, log, env, account, stop_signal)
        stack.callback(process.stop)
        return process

    def watch_options(self) -> list[str]:
        return [part for w in self.watches for part in ("--watch", str(w))]


def run_load(argv: list[str], limit: float) -> Measurement:
    """Run a load process and read the measurement on the last line of its stdout."""
    try:
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"no result after {limit:.0f} s: {' '.join(argv[1:4])}") from error
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv[1:4])} failed:\n{done.stderr[-2000:]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


class HttpSystem(System):
    """A server with an HTTP ingress that calls handlers in a process of their own."""

    ingress: str  # HOST:PORT

    _PATHS: ClassVar[dict[str, str]] = {
        EMPTY: "/Bench/empty",
        STEPS: "/Bench/steps",
        COUNTER: "/Counter/{key}/add",
    }

    def __init__(self, data_root: Path) -> None:
        super().__init__(data_root)
        self._added: dict[str, int] = {}

    def measure(self, workload: str, clients: int, seconds: float, warmup: float) -> Measurement:
        key = f"hot{clients}"
        path = self._PATHS[workload].format(key=key)
        argv = [str(PROJECT_BIN / "python"), "-m", "bench.load"]
        argv += ["--address", self.ingress, "--path", path, "--clients", str(clients)]
        argv += ["--seconds", str(seconds), "--warmup", str(warmup), *self.watch_options()]
        if workload == COUNTER:
            argv += ["--body", "1"]
        elif workload == STEPS:
            argv += ["--expect", "10"]
        measured = run_load(argv, seconds + warmup + 90)
        if workload == COUNTER and not measured.errors:
            self._check_counter(path, key, measured)
        return measured

    def _check_counter(self, path: str, key: str, measured: Measurement) -> None:
        """The counter must stand at the number of calls that were acknowledged."""
        self._added[key] = self._added.get(key, 0) + measured.total
        try:
            value = int(http("POST", f"http://{self.ingress}{path}", b"0", timeout=60))
        except OSError as error:
            measured.errors += 1
            measured.first_error = f"the counter could not be read: {error}"
            return
        if value != self._added[key]:
            measured.errors += 1
            measured.first_error = f"counter is {value} after {self._added[key]} calls"

    def register(self, admin: str, uri: str, http_version: str = "HTTP/2.0") -> None:
        """Register an endpoint with the server; both servers take the same requests.

        Args:
            admin: HOST:PORT of the server's admin API.
            uri: Where the endpoint serves.
            http_version: What the server shall speak to it, checked afterwards.
        """
        url = f"http://{admin}/deployments"
        body = {"uri": uri, "use_http_11": http_version == "HTTP/1.1"}
        try:
            registered = json.loads(http("POST", url, json.dumps(body).encode(), timeout=60))
            found = json.loads(http("GET", f"{url}/{registered['id']}"))
        except OSError as error:
            raise BenchError(f"{self.name}: {uri} could not be registered: {error}") from error
        if found["http_version"] != http_version:
            raise BenchError(f"{self.name}: {uri} is spoken to in {found['http_version']}")

    def first_call(self, process: Process) -> None:
        """Return once a call goes through end to end."""
        await_http(process, "POST", f"http://{self.ingress}{self._PATHS[EMPTY]}")
