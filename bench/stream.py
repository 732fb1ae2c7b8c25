"""How long a token takes from a step to the readers of its stream, and with how many readers.

    python -m bench.stream                                    # one stream, one reader
    python -m bench.stream --streams 20                       # an agent for each of 20 people
    python -m bench.stream --readers 200 --gap-ms 50          # 200 people watch one agent

Server, worker and readers are processes of their own on this machine, so their clocks are one. Each
token is durable (fsync) before it leaves. A reader that misses a token or gets one twice is an
error.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.procs import PROJECT_BIN, Process, await_http, free_ports, progress

APP = Path(__file__).with_name("services") / "holdfast_stream.py"
CONNECT_S = 2.0
"""How long an agent waits for its readers before it begins to speak."""


class Reader:
    """One reader of one stream."""

    def __init__(self, ingress: str) -> None:
        self._host, _, port = ingress.partition(":")
        self._port = int(port)
        self.hops_ms: list[float] = []
        self.first_ns = 0

    async def send(self, request: bytes) -> asyncio.StreamReader:
        reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        return reader

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read to the end, and check that no token is missing and none comes twice."""
        number = 0
        async for line in reader:
            now_ns = time.monotonic_ns()
            if line.startswith(b"id: ") and not line.endswith(b"-end\n"):
                number += 1
                assert line.startswith(b"id: %d-" % number), f"{line!r} is not {number}"
            elif line.startswith(b"data: {"):
                break
            elif line.startswith(b"data: "):
                said_ns = int(line[6:])
                self.hops_ms.append((now_ns - said_ns) / 1e6)
        self._writer.close()


async def listen(ingress: str, options: argparse.Namespace) -> list[float]:
    """Start the agents, read all streams with all readers, and return the hops."""
    wait_s = CONNECT_S + options.readers * options.streams * 0.005
    body = json.dumps([options.tokens, options.gap_ms / 1000, wait_s]).encode()
    readers: list[Reader] = []
    jobs: list[asyncio.Task[None]] = []
    for _ in range(options.streams):
        first = Reader(ingress)
        head = b"POST /Speaker/speak/send HTTP/1.1\r\nhost: localhost\r\n"
        head += b"content-type: application/json\r\nconnection: close\r\n"
        answer = await (
            await first.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        ).read()
        invocation_id = json.loads(answer.partition(b"\r\n\r\n")[2])["invocationId"]
        path = f"/holdfast/v1/invocations/{invocation_id}/stream"
        for _ in range(options.readers):
            reader = Reader(ingress)
            opened = await reader.send(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            readers.append(reader)
            jobs.append(asyncio.create_task(reader.read(opened)))
    await asyncio.gather(*jobs)
    for reader in readers:
        assert len(reader.hops_ms) == options.tokens, f"{len(reader.hops_ms)} tokens came"
    return [hop for reader in readers for hop in reader.hops_ms]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.stream", description=__doc__)
    parser.add_argument("--tokens", type=int, default=300, help="per stream")
    parser.add_argument("--gap-ms", type=float, default=10.0, help="between two tokens")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--readers", type=int, default=1, help="per stream")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    try:
        with ExitStack() as stack:
            ingress, admin = (f"127.0.0.1:{port}" for port in free_ports(2))
            command = [PROJECT_BIN / "holdfast", "server", "--ingress", ingress, "--admin", admin]
            store = f"sqlite:{home / 'store.db'}"
            server = Process("server", [*command, "--store", store], home / "server.log")
            stack.callback(server.stop)
            await_http(server, "GET", f"http://{admin}/health")
            argv = [
                PROJECT_BIN / "holdfast",
                "worker",
                f"{APP}:app",
                "--connect",
                f"http://{admin}",
            ]
            worker = Process("worker", argv, home / "worker.log")
            stack.callback(worker.stop)
            progress("waiting for the worker")
            await_http(worker, "GET", f"http://{admin}/services/Speaker")
            progress(f"{options.streams} streams, {options.readers} readers each")
            hops = sorted(asyncio.run(listen(ingress, options)))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    count = len(hops)
    print(f"{options.streams} streams x {options.readers} readers x {options.tokens} tokens, "
          f"one each {options.gap_ms:g} ms: {count} hops")  # fmt: skip
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
        print(f"  {name}  {hops[min(count - 1, int(count * share))]:8.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
