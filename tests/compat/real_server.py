"""Restate's server, from npm, on free ports: what services of ours are tried against."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.compat import npm

PACKAGE = "@restatedev/restate-server"
VERSION = "1.7.12"
READY_TIMEOUT_S = 60.0


def installed() -> Path:
    """Return the server's binary, which is installed on first use.

    Raises:
        NotThere: No npm, no network, or no binary for this machine.
    """
    return npm.binary(PACKAGE, VERSION, "restate-server")


class RealServer:
    """A running server. Use as a context manager."""

    def __init__(self, binary: Path, folder: Path, settings: Mapping[str, str]) -> None:
        ingress, admin, node = free_ports(3)
        self.ingress = f"http://127.0.0.1:{ingress}"
        self.admin = f"http://127.0.0.1:{admin}"
        self._argv = [str(binary), "--no-logo"]
        self._log = folder / "restate-server.log"
        self._environment = {
            **os.environ,
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}/",
            "RESTATE_BASE_DIR": str(folder / "restate-data"),
            "RESTATE_NODE_NAME": "test",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
            "RESTATE_DEFAULT_NUM_PARTITIONS": "2",
            "RESTATE_BIFROST__DEFAULT_PROVIDER": "local",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RealServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        for url in (f"{self.admin}/health", f"{self.ingress}/restate/health"):
            while not _answers(url):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise AssertionError(f"no server: {self._log.read_text()[-2000:]}")
                time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; held together, so they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports
