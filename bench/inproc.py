"""The closed loop for engines that live in the calling process: DBOS and embedded Holdfast.

Runs in the virtual environment of the system under test, so it needs the standard library only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter_ns

from bench.meter import Watch
from bench.stats import Measurement, Window

Call = Callable[[], Awaitable[object]]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options every in-process runner takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--watch", action="append", default=[], help="role:scope:pid")
    return parser


async def closed_loop(
    call: Call, args: argparse.Namespace, expect: object = None, role: str = "app + load"
) -> Measurement:
    """Let ``args.clients`` tasks call in a loop; each answer must equal ``expect``."""
    watches = [Watch(role, "self", os.getpid()), *map(Watch.parse, args.watch)]
    window = Window(watches)
    stopping = False
    total = errors = 0
    first_error = ""

    async def client() -> None:
        nonlocal total, errors, first_error
        while not stopping:
            started = perf_counter_ns()
            try:
                answer = await call()
                if answer != expect:
                    raise ValueError(f"answer {answer!r}, expected {expect!r}")
            except Exception as error:
                errors += 1
                first_error = first_error or f"{type(error).__name__}: {error}"[:300]
                await asyncio.sleep(0)
                continue
            total += 1
            if window.open:
                window.latencies_ns.append(perf_counter_ns() - started)

    clients = [asyncio.create_task(client()) for _ in range(args.clients)]
    await asyncio.sleep(args.warmup)
    window.start()
    await asyncio.sleep(args.seconds)
    measured = window.stop()
    stopping = True
    await asyncio.gather(*clients)
    measured.total, measured.errors, measured.first_error = total, errors, first_error
    return measured


def report(measured: Measurement) -> None:
    """Hand the result to the harness: the last line of stdout."""
    sys.stdout.write("\n" + json.dumps(measured.as_dict()) + "\n")
    sys.stdout.flush()
