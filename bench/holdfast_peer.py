"""Holdfast: the server with the handlers in a child process, and embedded in the caller."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.meter import Watch
from bench.peer_setup import project_version
from bench.procs import PROJECT_BIN, BenchError, await_http, free_ports
from bench.stats import Measurement
from bench.system import EMPTY, STEPS, HttpSystem, System, run_load

APP = "bench.services.holdfast_app:app"


def ensure_command() -> None:
    """Raise BenchError unless the project is installed."""
    if not (PROJECT_BIN / "holdfast").exists():
        raise BenchError("the holdfast command is not installed in this environment")


def _versions() -> dict[str, str]:
    return {d: project_version(d) for d in ("holdfast", "apsw", "uvloop", "msgspec")}


class Holdfast(HttpSystem):
    """``holdfast dev``: the server, and the handlers in a child process over a WebSocket."""

    name = "holdfast"
    summary = "holdfast dev: server (SQLite store) + Python handlers in a child process"

    def install(self) -> None:
        ensure_command()

    def versions(self) -> dict[str, str]:
        return _versions()

    def start(self, stack: ExitStack) -> None:
        ingress, admin = free_ports(2)
        self.ingress = f"127.0.0.1:{ingress}"
        server = self.spawn(
            stack,
            "server",
            [
                *(PROJECT_BIN / "holdfast", "dev", APP, "--no-reload"),
                *("--ingress", self.ingress, "--admin", f"127.0.0.1:{admin}"),
                *("--store", f"sqlite:{self.data / 'store.sqlite'}"),
            ],
        )
        await_http(server, "GET", f"http://127.0.0.1:{admin}/health")
        health = f"http://{self.ingress}/restate/health"
        await_http(server, "GET", health, contains=b"Bench")
        await_http(server, "GET", health, contains=b"Counter")
        self.first_call(server)
        self.watches = [
            Watch("server", "self", server.pid),
            Watch("worker", "below", server.pid),
        ]


class HoldfastInProcess(HttpSystem):
    """Server, ingress and handlers in one process: what carriers add is measured from here."""

    name = "holdfast-in-process"
    summary = "server (SQLite store) and Python handlers in one process, called over HTTP"
    on_request = True

    def install(self) -> None:
        """It is the project itself."""

    def versions(self) -> dict[str, str]:
        return _versions()

    def start(self, stack: ExitStack) -> None:
        ingress, admin = free_ports(2)
        self.ingress = f"127.0.0.1:{ingress}"
        server = self.spawn(
            stack,
            "server",
            [
                *(PROJECT_BIN / "python", "-m", "bench.services.holdfast_inprocess"),
                *("--ingress", self.ingress, "--admin", f"127.0.0.1:{admin}"),
                *("--store", f"sqlite:{self.data / 'store.sqlite'}"),
            ],
        )
        await_http(server, "GET", f"http://127.0.0.1:{admin}/health")
        self.first_call(server)
        self.watches = [Watch("server + handlers", "self", server.pid)]


class HoldfastEmbedded(System):
    """The engine as a library in the calling process, as DBOS is."""

    name = "holdfast-embedded"
    summary = "engine and handlers in the calling process, SQLite store"
    workloads = (EMPTY, STEPS)
    group = "in-process"

    def install(self) -> None:
        """It is the project itself."""

    def versions(self) -> dict[str, str]:
        return _versions()

    def start(self, stack: ExitStack) -> None:
        """Nothing runs between measurements."""

    def measure(self, workload: str, clients: int, seconds: float, warmup: float) -> Measurement:
        store = self.data / f"{workload}{clients}-{time.monotonic_ns()}.sqlite"
        argv = [str(PROJECT_BIN / "python"), "-m", "bench.services.holdfast_embedded"]
        argv += ["--workload", workload, "--store", f"sqlite:{store}", "--clients", str(clients)]
        argv += ["--seconds", str(seconds), "--warmup", str(warmup)]
        return run_load(argv, seconds + warmup + 90)
