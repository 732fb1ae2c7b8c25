"""Restate: the Rust server, and Python handlers with the Restate SDK under hypercorn.

Durability is the server's default: the log (RocksDB write-ahead log) is synced to disk before an
entry counts as written. The settings below differ from the defaults only where that makes
Restate faster here, and never where it weakens durability.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import ExitStack
from typing import ClassVar

from bench.meter import Watch
from bench.peer_setup import ensure_peer_venv, ensure_restate_server, peer_version
from bench.procs import PEER_PYTHON, ROOT, Process, await_http, free_ports
from bench.system import HttpSystem

_HYPERCORN = ROOT / "bench" / "services" / "hypercorn.toml"


def spawn_sdk_service(system: HttpSystem, stack: ExitStack, port: int) -> Process:
    """Serve the workloads written with the Restate SDK on a loopback port (HTTP/2, no TLS)."""
    return system.spawn(
        stack,
        "worker",
        [
            *(PEER_PYTHON, "-m", "hypercorn", "--config", _HYPERCORN),
            *("--bind", f"127.0.0.1:{port}", "bench.services.restate_app:app"),
        ],
        # the SDK takes SIGTERM for itself, and hypercorn (workers = 0) then never sees it
        stop_signal=signal.SIGINT,
    )


class Restate(HttpSystem):
    """restate-server + restate-sdk."""

    name = "restate"
    summary = "restate-server (one node) + Python handlers (restate-sdk, hypercorn, HTTP/2)"
    settings: ClassVar[dict[str, str]] = {
        # the default is 24; with two cores one partition gave the best rates by far
        "RESTATE_DEFAULT_NUM_PARTITIONS": "1",
        # the log in the server's own RocksDB, also synced; the default is the log-server role
        "RESTATE_BIFROST__DEFAULT_PROVIDER": "local",
    }

    def install(self) -> None:
        ensure_peer_venv()
        self._binary = ensure_restate_server()

    def versions(self) -> dict[str, str]:
        done = subprocess.run([self._binary, "--version"], capture_output=True, text=True)
        found = {"restate-server": done.stdout.split()[-1]}
        for distribution in ("restate-sdk", "hypercorn", "uvloop"):
            found[distribution] = peer_version(distribution)
        return found

    def start(self, stack: ExitStack) -> None:
        ingress, admin, node, service = free_ports(4)
        self.ingress = f"127.0.0.1:{ingress}"
        worker = spawn_sdk_service(self, stack, service)
        env = {
            "RESTATE_INGRESS__BIND_ADDRESS": self.ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}/",
            "RESTATE_BASE_DIR": str(self.data / "restate-data"),
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
            **self.settings,
        }
        server = self.spawn(stack, "server", [self._binary, "--no-logo"], env)
        await_http(server, "GET", f"http://127.0.0.1:{admin}/health")
        await_http(worker, "GET", f"http://127.0.0.1:{service}/health")
        self.register(f"127.0.0.1:{admin}", f"http://127.0.0.1:{service}")
        self.first_call(server)
        self.watches = [Watch("server", "self", server.pid), Watch("worker", "tree", worker.pid)]


class RestateStock(Restate):
    """The same with the server's settings as they come."""

    name = "restate-stock"
    summary = "as restate, server settings untouched (24 partitions, replicated log provider)"
    on_request = True
    settings: ClassVar[dict[str, str]] = {}
