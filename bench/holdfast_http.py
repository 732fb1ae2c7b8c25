"""Holdfast with handlers that are served over HTTP: ``holdfast server`` dials out to them.

One of the systems serves the very service, under the very settings, that restate-server has in
``bench.restate``: what differs between the two is the server alone.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from typing import ClassVar

from bench.holdfast_peer import APP, ensure_command
from bench.meter import Watch
from bench.peer_setup import ensure_peer_venv, peer_version, project_version
from bench.procs import PROJECT_BIN, Process, await_http, free_ports
from bench.restate import spawn_sdk_service
from bench.system import HttpSystem


class _Dialling(HttpSystem):
    """``holdfast server`` on SQLite, and an endpoint that is registered with it."""

    on_request = True
    http_version: ClassVar[str] = "HTTP/2.0"  # what the server speaks to the endpoint

    @abstractmethod
    def start_endpoint(self, stack: ExitStack, port: int) -> Process:
        """Start what serves the handlers on a loopback port."""

    def install(self) -> None:
        ensure_command()

    def versions(self) -> dict[str, str]:
        return {d: project_version(d) for d in ("holdfast", "apsw", "h2", "msgspec")}

    def start(self, stack: ExitStack) -> None:
        ingress, admin, service = free_ports(3)
        self.ingress = f"127.0.0.1:{ingress}"
        worker = self.start_endpoint(stack, service)
        server = self.spawn(
            stack,
            "server",
            [
                *(PROJECT_BIN / "holdfast", "server"),
                *("--ingress", self.ingress, "--admin", f"127.0.0.1:{admin}"),
                *("--store", f"sqlite:{self.data / 'store.sqlite'}"),
            ],
        )
        await_http(server, "GET", f"http://127.0.0.1:{admin}/health")
        await_http(worker, "GET", f"http://127.0.0.1:{service}/health")
        self.register(f"127.0.0.1:{admin}", f"http://127.0.0.1:{service}", self.http_version)
        self.first_call(server)
        self.watches = [Watch("server", "self", server.pid), Watch("worker", "tree", worker.pid)]


class HoldfastHttpRestateSdk(_Dialling):
    """The service of restate and restate-stock, behind our server."""

    name = "holdfast-http-restate-sdk"
    summary = "holdfast server + the handlers of restate (restate-sdk, hypercorn, HTTP/2)"

    def install(self) -> None:
        super().install()
        ensure_peer_venv()

    def versions(self) -> dict[str, str]:
        peers = {d: peer_version(d) for d in ("restate-sdk", "hypercorn", "uvloop")}
        return super().versions() | peers

    def start_endpoint(self, stack: ExitStack, port: int) -> Process:
        return spawn_sdk_service(self, stack, port)


class HoldfastHttp(_Dialling):
    """Handlers of our own SDK, served by ``holdfast serve``, over HTTP/2."""

    name = "holdfast-http"
    summary = "holdfast server + Python handlers behind holdfast serve --http 2"
    serve_option: ClassVar[str] = "2"

    def versions(self) -> dict[str, str]:
        return super().versions() | {d: project_version(d) for d in ("hypercorn", "uvloop")}

    def start_endpoint(self, stack: ExitStack, port: int) -> Process:
        return self.spawn(
            stack,
            "worker",
            [
                *(PROJECT_BIN / "holdfast", "serve", APP),
                *("--port", str(port), "--http", self.serve_option),
            ],
        )


class HoldfastHttp11(HoldfastHttp):
    """The same over HTTP/1.1: a request for every stretch between two answers of the server."""

    name = "holdfast-http1.1"
    summary = "holdfast server + Python handlers behind holdfast serve --http 1.1"
    serve_option = "1.1"
    http_version = "HTTP/1.1"

    def versions(self) -> dict[str, str]:
        return _Dialling.versions(self) | {d: project_version(d) for d in ("uvicorn", "uvloop")}
