"""CPU time per call of our server and worker: steadier than the clock on a machine in use.

Runs `holdfast dev` and makes a fixed number of calls per workload, several rounds. Of the rounds,
the one counts in which server and worker together used least. Times are user + system of all
threads, in microseconds per call; the last column is the least median latency of a round.

    python -m bench.cpu --calls 5000 --rounds 5
    python -m bench.cpu --data /dev/shm     # without what the disk costs
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench.holdfast_peer import Holdfast
from bench.load import Client, Run, build_request, runner
from bench.meter import Watch
from bench.stats import Measurement, Window
from bench.system import COUNTER, EMPTY, STEPS, HttpSystem

_PATHS = {EMPTY: "/Bench/empty", STEPS: "/Bench/steps", COUNTER: "/Counter/hot/add"}
_BODIES = {EMPTY: b"", STEPS: b"", COUNTER: b"1"}
_CASES = [(workload, clients) for workload in _PATHS for clients in (1, 64)]


def spent_us(watch: Watch) -> float:
    """CPU time of the processes of a role so far, by the scheduler's own account."""
    total_ns = 0
    for pid in watch.pids():
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((thread / "schedstat").read_text().split()[0])
    return total_ns / 1000


class _Limited(Run):
    """A run of a number of calls."""

    def __init__(self, request: bytes, calls: int) -> None:
        super().__init__(request, None, Window())
        self._calls = calls

    @property
    def stopping(self) -> bool:
        """Whether a client that has its answer makes no more calls. Asked once per answer."""
        return self.total + self.errors + self.busy > self._calls

    @stopping.setter
    def stopping(self, value: bool) -> None:
        """Not decided from outside."""


async def make_calls(address: str, workload: str, clients: int, calls: int) -> Measurement:
    """Make the calls; raises SystemExit if one of them fails."""
    run = _Limited(build_request(address, _PATHS[workload], _BODIES[workload]), calls)
    run.window.start()
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(lambda: Client(run), host, int(port))
    await run.idle.wait()
    if run.errors:
        raise SystemExit(f"{run.errors} calls failed: {run.first_error}")
    measured = run.window.stop()
    measured.total = run.total
    return measured


def measure(system: HttpSystem, workload: str, clients: int, calls: int) -> tuple[float, ...]:
    """One round: microseconds per call of each role, and the median latency in milliseconds."""
    before = [spent_us(watch) for watch in system.watches]
    made = runner()(make_calls(system.ingress, workload, clients, calls))
    after = [spent_us(watch) for watch in system.watches]
    used = ((b - a) / made.total for a, b in zip(before, after, strict=True))
    return (*used, made.p50_ms)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000, help="per round; of steps, a fifth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path.cwd(), help="on the disk to measure")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.data, prefix="bench-cpu-") as folder:
        system = Holdfast(Path(folder))
        with system:
            print_table(system, args.calls, args.rounds)


def print_table(system: HttpSystem, calls: int, rounds: int) -> None:
    """Measure all workloads."""
    print("workload  clients | server | worker |  both | p50 ms", flush=True)
    for workload, clients in _CASES:
        count = calls // 5 if workload == STEPS else calls
        found = [measure(system, workload, clients, count) for _ in range(rounds)]
        server, worker, _ = min(found, key=lambda it: it[0] + it[1])
        p50_ms = min(it[-1] for it in found)
        print(
            f"{workload:9} {clients:7} | {server:6.0f} | {worker:6.0f} | {server + worker:5.0f}"
            f" | {p50_ms:6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
