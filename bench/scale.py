"""What a step costs in a long run, and what wide and long runs cost as a whole.

    python -m bench.scale [--store sqlite|memory] [--dir DIRECTORY] [--n 10,1000,10000]

Server and handlers are in this process. `per step` is the median over the last tenth of a run's
steps (at least ten), so that it is the cost *at* n; `whole` is the run from call to answer, per
operation. Not a test: figures depend on the machine. What must not grow is checked in
`tests/engine/test_scale.py`, by counting.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import holdfast as hf
from holdfast.server.embedded import EmbeddedClient

work = hf.Service("Work")

_marks: list[float] = []
"""When each step of the latest sequential run ended, seconds."""


async def _body(number: int) -> int:
    return number


@work.handler
async def echo(ctx: hf.Context, number: int) -> int:
    return number


@work.handler
async def sequence(ctx: hf.Context, count: int) -> int:
    _marks.clear()
    for number in range(count):
        await ctx.run("step", _body, number)
        _marks.append(time.perf_counter())
    return count


@work.handler
async def parallel(ctx: hf.Context, count: int) -> int:
    return len(await asyncio.gather(*(ctx.run("step", _body, n) for n in range(count))))


@work.handler
async def tasks(ctx: hf.Context, count: int) -> int:
    async def one(number: int) -> int:
        return await ctx.run("step", _body, number)

    async with asyncio.TaskGroup() as group:
        made = [group.create_task(one(n)) for n in range(count)]
    return len(made)


@work.handler
async def calls(ctx: hf.Context, count: int) -> int:
    return len(await asyncio.gather(*(ctx.call(echo, n) for n in range(count))))


@work.handler
async def sends(ctx: hf.Context, count: int) -> int:
    return len(await asyncio.gather(*(ctx.send(echo, n) for n in range(count))))


@work.handler
async def sleeps(ctx: hf.Context, count: int) -> int:
    await asyncio.gather(*(ctx.sleep(0.5) for _ in range(count)))
    return count


@work.handler
async def wait(ctx: hf.Context, count: int) -> float:
    """Do many steps, then wait for the outside. Returns how long the last attempt replayed."""
    begun = time.perf_counter()
    for number in range(count):
        await ctx.run("step", _body, number)
    replayed = time.perf_counter() - begun
    _replay_s.append(replayed)
    promise = ctx.awakeable(str)
    _has_replayed.set()
    await promise
    return replayed


_replay_s: list[float] = []
_has_replayed = asyncio.Event()


class Line(NamedTuple):
    """One line of the table."""

    what: str
    size: int
    per_step_us: float | None
    whole_s: float


def _at_end(count: int) -> float:
    tail = max(10, count // 10)
    ends = _marks[-tail:]
    gaps = [b - a for a, b in pairwise(ends)]
    return statistics.median(gaps) * 1e6


async def _sequential(client: EmbeddedClient, count: int) -> Line:
    best: float | None = None
    begun = time.perf_counter()
    # Short runs are over before anything is warm.
    for _ in range(max(1, 200 // count)):
        await client.call(sequence, count)
        cost = _at_end(count)
        best = cost if best is None else min(best, cost)
    return Line("sequential steps", count, best, (time.perf_counter() - begun))


async def _wide(client: EmbeddedClient, handler: hf.Handler[int, int], count: int) -> Line:
    begun = time.perf_counter()
    await client.call(handler, count)
    whole = time.perf_counter() - begun
    return Line(f"parallel: {handler.name}", count, whole / count * 1e6, whole)


async def _measure(store: str, durability: str, sizes: list[int], only: str) -> list[Line]:
    lines: list[Line] = []
    app = hf.App(work)
    async with hf.embedded(app, store=store, durability=durability) as client:
        await client.call(sequence, 200)
        for count in sizes:
            if only in "sequence":
                lines.append(await _sequential(client, count))
                _print(lines[-1])
            for handler in (parallel, tasks, calls, sends, sleeps):
                if only in handler.name:
                    lines.append(await _wide(client, handler, count))
                    _print(lines[-1])
    return lines


async def _resume(directory: Path, count: int) -> Line:
    """Let a run wait in one server, start another on the same file, and complete it there."""
    store = f"sqlite:{directory / 'resume.db'}"
    app = hf.App(work)
    async with hf.embedded(app, store=store) as client:
        call = asyncio.create_task(client.call(wait, count))
        await _has_replayed.wait()
        call.cancel()
    _has_replayed.clear()
    begun = time.perf_counter()
    async with hf.embedded(app, store=store):
        await _has_replayed.wait()
        whole = time.perf_counter() - begun
    return Line("resume after restart", count, _replay_s[-1] / count * 1e6, whole)


def _print(line: Line) -> None:
    each = "" if line.per_step_us is None else f"{line.per_step_us:10.0f}"
    print(f"{line.what:24} {line.size:8,} {each:>10} {line.whole_s:10.3f}", flush=True)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("sqlite", "memory"), default="sqlite")
    parser.add_argument(
        "--durability",
        choices=("full", "relaxed"),
        default="full",
        help="relaxed leaves out the syncs of the disk, whose time varies most",
    )
    parser.add_argument("--dir", type=Path, default=None, help="where the database goes")
    parser.add_argument("--n", default="10,1000,10000", help="sizes, separated by commas")
    parser.add_argument("--only", default="", help="handlers whose name contains this")
    options = parser.parse_args()
    sizes = [int(size) for size in options.n.split(",")]
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        directory = Path(name)
        store = f"sqlite:{directory / 'scale.db'}" if options.store == "sqlite" else "memory:"
        print(f"{'what':24} {'n':>8} {'us each':>10} {'whole s':>10}")
        asyncio.run(_measure(store, options.durability, sizes, options.only))
        if options.only in "resume":
            _print(asyncio.run(_resume(directory, 3_000)))


if __name__ == "__main__":
    main()
