"""Compare Holdfast with Restate and DBOS, side by side in one run on one machine.

    python -m bench.compare                                  # everything
    python -m bench.compare --only restate,dbos --seconds 3
    python -m bench.compare --only holdfast-http-restate-sdk,restate-stock
    python -m bench.compare --only carriers --seconds 3      # our SDK through each carrier
    python -m bench.compare --only holdfast --workloads steps --clients 64 --json out.json

Progress goes to stderr, the report (Markdown) to stdout. One system runs at a time, each with a
fresh data directory and durable writes; ``--rounds`` repeats the whole sequence, so that the
systems meet the same noise, and the report has the medians. What is installed for the peers goes
to ``bench/.cache``. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from pathlib import Path

if not __package__:  # run as a file: import the package, and not its modules by their bare names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench.dbos_peer import DbosPostgres, DbosPostgresThreads, DbosSqlite, DbosSqliteThreads
from bench.disk import filesystem, flush_latency
from bench.holdfast_http import HoldfastHttp, HoldfastHttp11, HoldfastHttpRestateSdk
from bench.holdfast_peer import Holdfast, HoldfastEmbedded, HoldfastInProcess
from bench.procs import CACHE, BenchError, progress
from bench.report import CARRIERS, Results, markdown
from bench.restate import Restate, RestateStock
from bench.system import WORKLOADS, System

SYSTEMS: tuple[type[System], ...] = (
    Holdfast,
    HoldfastInProcess,
    HoldfastHttpRestateSdk,
    HoldfastHttp,
    HoldfastHttp11,
    Restate,
    RestateStock,
    HoldfastEmbedded,
    DbosSqlite,
    DbosSqliteThreads,
    DbosPostgres,
    DbosPostgresThreads,
)
_GROUPS = {"carriers": (*CARRIERS, RestateStock.name)}
_IN_MEMORY = {"tmpfs", "ramfs"}


def chosen(only: str | None) -> list[type[System]]:
    """The systems that were asked for; "dbos" stands for every "dbos-..." too.

    "carriers" stands for our SDK through each carrier, and the Restate server as it comes.
    """
    if only is None:
        return [s for s in SYSTEMS if not s.on_request]
    found: list[type[System]] = []
    for name in only.split(","):
        matching = [
            s
            for s in SYSTEMS
            if s.name in _GROUPS.get(name, (name,))
            or (s.name.startswith(f"{name}-") and not s.on_request)
        ]
        if not matching:
            known = ", ".join([*_GROUPS, *(s.name for s in SYSTEMS)])
            raise SystemExit(f"unknown system {name!r}; known: {known}")
        found += matching
    return [s for s in SYSTEMS if s in found]


def machine(data: Path) -> dict[str, object]:
    """What the numbers were taken on."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "CPUs": f"{len(os.sched_getaffinity(0))} ({model})",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "file system": filesystem(data),
        "load average at the start": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


def gist(error: BenchError) -> str:
    """The first and the last line of an error that may quote a log."""
    first, *rest = str(error).strip().splitlines()
    return f"{first} {rest[-1]}" if rest else first


def measure_all(args: argparse.Namespace, data: Path) -> Results:
    """Every round of every system."""
    results = Results(machine(data))
    for kind in chosen(args.only):
        system = kind(data)
        try:
            system.install()
            results.versions[system.name] = system.versions()
            results.systems.append(system)
        except BenchError as error:
            progress(f"{system.name}: {error}")
            results.failures[system.name] = gist(error)
    for number in range(1, args.rounds + 1):
        for system in list(results.systems):
            results.flushes.append(flush_latency(data, seconds=1.0))
            try:
                measure_system(type(system)(data), number, args, results)
            except BenchError as error:
                progress(f"{system.name}: {error}")
                results.failures[system.name] = gist(error)
    return results


def measure_system(system: System, number: int, args: argparse.Namespace, results: Results) -> None:
    """One round of one system."""
    progress(f"round {number}: starting {system.name}")
    system.install()
    with system:
        for workload in args.workloads:
            if workload not in system.workloads:
                continue
            for clients in args.clients:
                got = system.measure(workload, clients, args.seconds, args.warmup)
                got.system, got.workload = system.name, workload
                got.clients, got.round = clients, number
                results.measurements.append(got)
                progress(
                    f"{system.name:26} {workload:8} {clients:3} clients: p50 {got.p50_ms:8.2f} ms, "
                    f"p99 {got.p99_ms:8.2f} ms, {got.throughput:7.0f}/s"
                    + (f", {got.errors} ERRORS: {got.first_error}" if got.errors else "")
                )


def workload_list(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [n for n in names if n not in WORKLOADS]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return names


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="systems, separated by commas")
    parser.add_argument("--workloads", type=workload_list, default=list(WORKLOADS))
    parser.add_argument("--clients", type=lambda t: [int(n) for n in t.split(",")], default=[1, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="measuring window")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds before each window")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write all measurements to this file")
    parser.add_argument("--data", type=Path, default=CACHE / "data", help="where databases go")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so everything is stopped
    args.data.mkdir(parents=True, exist_ok=True)
    if (kind := filesystem(args.data)) in _IN_MEMORY:
        parser.error(f"--data is on {kind}, where nothing is durable")
    results = measure_all(args, args.data.resolve())
    sys.stdout.write(markdown(results))
    if args.json is not None:
        args.json.write_text(json.dumps(results.as_dict(), indent=2) + "\n")
    return 1 if results.failures or any(m.errors for m in results.measurements) else 0


if __name__ == "__main__":
    sys.exit(main())
