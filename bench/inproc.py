"""The closed loop for engines that live in the calling process: DBOS and embedded Holdfast.

Runs in the virtual environment of the system under test, so it needs the standard library only.
Clients are asyncio tasks for async calls and threads for plain ones.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

from bench.meter import Watch
from bench.stats import Measurement, Window


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options every in-process runner takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--watch", action="append", default=[], help="role:scope:pid")
    return parser


class _Run:
    """What the clients of a run share; each answer must equal ``expect``."""

    def __init__(self, args: argparse.Namespace, expect: object) -> None:
        own = Watch("app + load", "self", os.getpid())
        self.window = Window([own, *map(Watch.parse, args.watch)])
        self.expect = expect
        self.stopping = False
        self._lock = threading.Lock()
        self._total = self._errors = 0
        self._first_error = ""

    def answered(self, answer: object, started: int) -> None:
        taken = perf_counter_ns() - started
        if answer != self.expect:
            self.failed(ValueError(f"answer {answer!r}, expected {self.expect!r}"))
            return
        with self._lock:
            self._total += 1
            if self.window.open:
                self.window.latencies_ns.append(taken)

    def failed(self, error: Exception) -> None:
        with self._lock:
            self._errors += 1
            self._first_error = self._first_error or f"{type(error).__name__}: {error}"[:300]

    def complete(self, measured: Measurement) -> Measurement:
        measured.total, measured.errors = self._total, self._errors
        measured.first_error = self._first_error
        return measured


async def closed_loop(
    call: Callable[[], Awaitable[object]], args: argparse.Namespace, expect: object = None
) -> Measurement:
    """Let ``args.clients`` tasks on this event loop call one after the other."""
    run = _Run(args, expect)

    async def client() -> None:
        while not run.stopping:
            started = perf_counter_ns()
            try:
                run.answered(await call(), started)
            except Exception as error:
                run.failed(error)
                await asyncio.sleep(0)

    clients = [asyncio.create_task(client()) for _ in range(args.clients)]
    await asyncio.sleep(args.warmup)
    run.window.start()
    await asyncio.sleep(args.seconds)
    measured = run.window.stop()
    run.stopping = True
    await asyncio.gather(*clients)
    return run.complete(measured)


def closed_loop_threads(
    call: Callable[[], object], args: argparse.Namespace, expect: object = None
) -> Measurement:
    """Let ``args.clients`` threads call one after the other."""
    run = _Run(args, expect)

    def client() -> None:
        while not run.stopping:
            started = perf_counter_ns()
            try:
                run.answered(call(), started)
            except Exception as error:
                run.failed(error)

    clients = [threading.Thread(target=client) for _ in range(args.clients)]
    for each in clients:
        each.start()
    time.sleep(args.warmup)
    run.window.start()
    time.sleep(args.seconds)
    measured = run.window.stop()
    run.stopping = True
    for each in clients:
        each.join()
    return run.complete(measured)


def report(measured: Measurement) -> None:
    """Hand the result to the harness: the last line of stdout."""
    sys.stdout.write("\n" + json.dumps(measured.as_dict()) + "\n")
    sys.stdout.flush()
