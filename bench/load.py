"""A lean HTTP/1.1 load generator, run as a process of its own.

Every client is one keep-alive connection that sends prebuilt request bytes and, when it has the
whole response, sends them again. Responses with a content-length and chunked ones are read. It
runs on uvloop where that is installed. The result is one JSON object on stdout (the fields of
:class:`bench.stats.Measurement`); the CPU the generator itself took is there as role ``load``.

    python -m bench.load --address 127.0.0.1:8080 --path /Bench/empty --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Coroutine
from time import perf_counter_ns
from typing import Any, TypeVar

from bench.meter import Watch
from bench.stats import Measurement, Window

T = TypeVar("T")

_DRAIN_SECONDS = 30.0


class BadResponse(Exception):
    """The peer sent something this small HTTP client does not read."""


def build_request(address: str, path: str, body: bytes) -> bytes:
    """A POST with a JSON body, or with no body at all."""
    head = f"POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {len(body)}\r\n"
    if body:
        head += "content-type: application/json\r\n"
    return f"{head}\r\n".encode() + body


def read_response(data: bytes) -> tuple[bytes, bytes] | None:
    """Status and body, or None if the response is not complete yet."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    status = data[9:12]
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at >= 0:
        stop = head.find(b"\r\n", at + 17)
        length = int(head[at + 17 : stop if stop >= 0 else end])
        body = data[end + 4 :]
        return (status, body) if len(body) >= length else None
    if b"\r\ntransfer-encoding: chunked" in head:
        chunks = read_chunks(data, end + 4)
        return None if chunks is None else (status, chunks)
    if status in (b"204", b"304"):
        return status, b""
    raise BadResponse("neither content-length nor chunked")


def read_chunks(data: bytes, at: int) -> bytes | None:
    """The body of a chunked response without trailers, or None if it is not complete."""
    body = b""
    while True:
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(data[at:line].partition(b";")[0], 16)
        after = line + 2 + size
        if len(data) < after + 2:
            return None
        if size == 0:
            return body
        body += data[line + 2 : after]
        at = after + 2


class Run:
    """What all clients of a run share."""

    def __init__(self, request: bytes, expect: bytes | None, window: Window) -> None:
        self.request = request
        self.expect = expect
        self.window = window
        self.stopping = False
        self.busy = 0
        self.idle = asyncio.Event()
        self.total = 0
        self.errors = 0
        self.first_error = ""

    def failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why[:300]

    def client_done(self) -> None:
        self.busy -= 1
        if self.busy == 0:
            self.idle.set()


class Client(asyncio.Protocol):
    """One connection making one call after the other."""

    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self._run = run
        self._partial = b""
        self._sent = 0
        self._done = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._run.busy += 1
        self._send()

    def _send(self) -> None:
        self._sent = perf_counter_ns()
        self.transport.write(self._run.request)

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        try:
            response = read_response(data)
        except (BadResponse, ValueError) as error:
            self._run.failed(f"{error}: {data[:200]!r}")
            self.transport.close()
            return
        if response is None:
            self._partial = data
            return
        self._partial = b""
        run = self._run
        status, body = response
        if status[:1] != b"2" or (run.expect is not None and body != run.expect):
            run.failed(f"status {status.decode()}: {body[:200]!r}")
        else:
            run.total += 1
            if run.window.open:
                run.window.latencies_ns.append(perf_counter_ns() - self._sent)
        if run.stopping:
            self._finish()
        else:
            self._send()

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            self._run.client_done()
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done:
            self._run.failed(f"connection lost: {exc}")
        self._finish()


async def generate(args: argparse.Namespace) -> Measurement:
    """Warm up, measure, let the calls in flight finish."""
    watches = [Watch("load", "self", os.getpid()), *map(Watch.parse, args.watch)]
    expect = None if args.expect is None else args.expect.encode()
    window = Window(watches)
    run = Run(build_request(args.address, args.path, args.body.encode()), expect, window)
    host, port = args.address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    for _ in range(args.clients):
        await loop.create_connection(lambda: Client(run), host, int(port))
    await asyncio.sleep(args.warmup)
    window.start()
    await asyncio.sleep(args.seconds)
    measured = window.stop()
    run.stopping = True
    if run.busy:
        try:
            await asyncio.wait_for(run.idle.wait(), _DRAIN_SECONDS)
        except TimeoutError:
            run.failed(f"{run.busy} calls had no answer {_DRAIN_SECONDS:.0f} s after the window")
    measured.total, measured.errors = run.total, run.errors
    measured.first_error = run.first_error
    return measured


def runner() -> Callable[[Coroutine[Any, Any, T]], T]:
    """How to run the main coroutine: on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="HOST:PORT")
    parser.add_argument("--path", required=True)
    parser.add_argument("--body", default="", help="JSON body; none if empty")
    parser.add_argument("--expect", help="the exact body every response must have")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--watch", action="append", default=[], help="role:scope:pid")
    json.dump(runner()(generate(parser.parse_args())).as_dict(), sys.stdout)


if __name__ == "__main__":
    main()
