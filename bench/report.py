"""The results as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.disk import FlushLatency
from bench.stats import Measurement
from bench.system import COUNTER, WORKLOADS, System

_BASELINES = {"http": "holdfast", "in-process": "holdfast-embedded"}
CARRIERS = ("holdfast-in-process", "holdfast", "holdfast-http", "holdfast-http1.1")
"""Names of the systems that differ in the carrier alone; the first has none."""
_SAME_SERVICE = "holdfast-http-restate-sdk"
_SAME_SERVICE_PEERS = ("restate-stock", "restate")


@dataclass
class Results:
    """All that one run of the harness found."""

    machine: dict[str, Any]
    systems: list[System] = field(default_factory=list)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    flushes: list[FlushLatency] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "versions": self.versions,
            "systems": {s.name: s.summary for s in self.systems},
            "fdatasync": [f.as_dict() for f in self.flushes],
            "measurements": [m.as_dict() for m in self.measurements],
            "failures": self.failures,
        }


@dataclass(frozen=True)
class Cell:
    """The medians, over the rounds, of one workload on one system with one number of clients."""

    p50_ms: float
    p99_ms: float
    throughput: float
    cpu: dict[str, float]
    errors: int


def cell(measurements: Sequence[Measurement]) -> Cell:
    def median(values: list[float]) -> float:
        return statistics.median(values)

    return Cell(
        p50_ms=median([m.p50_ms for m in measurements]),
        p99_ms=median([m.p99_ms for m in measurements]),
        throughput=median([m.throughput for m in measurements]),
        cpu={r: median([m.cpu.get(r, 0.0) for m in measurements]) for r in measurements[0].cpu},
        errors=sum(m.errors for m in measurements),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: Sequence[str], left: int, rows: list[list[str]]) -> list[str]:
    """A Markdown table whose first ``left`` columns are text and whose others are numbers."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return [_row(head), _row(rule), *map(_row, rows)]


def _cells(results: Results) -> dict[tuple[str, int, str], Cell]:
    """By workload, number of clients and system."""
    by_key: dict[tuple[str, int, str], list[Measurement]] = {}
    for m in results.measurements:
        by_key.setdefault((m.workload, m.clients, m.system), []).append(m)
    return {key: cell(found) for key, found in by_key.items()}


def _ratios(ours: Cell, theirs: Cell) -> list[str]:
    """p50, p99 and throughput of ours divided by theirs; empty where theirs did nothing."""
    if not (theirs.p50_ms and theirs.p99_ms and theirs.throughput):
        return ["", "", ""]
    return [
        f"{ours.p50_ms / theirs.p50_ms:.2f}",
        f"{ours.p99_ms / theirs.p99_ms:.2f}",
        f"{ours.throughput / theirs.throughput:.2f}",
    ]


def results_table(results: Results) -> list[str]:
    """Latency, throughput and what Holdfast makes of the same."""
    cells = _cells(results)
    head = ["workload", "clients", "system", "p50 ms", "p99 ms", "calls/s"]
    head += ["HF/peer p50", "HF/peer p99", "HF/peer calls/s", "CPU cores busy"]
    rows = []
    client_counts = sorted({m.clients for m in results.measurements})
    for workload, title in WORKLOADS.items():
        for clients in client_counts:
            for system in results.systems:
                got = cells.get((workload, clients, system.name))
                if got is None:
                    continue
                base = cells.get((workload, clients, _BASELINES[system.group]))
                ratios = ["", "", ""]
                if base is not None and base is not got:
                    ratios = _ratios(base, got)
                cpu = ", ".join(f"{role} {used:.2f}" for role, used in got.cpu.items())
                name = f"{system.name} ({got.errors} errors)" if got.errors else system.name
                numbers = map(_number, (got.p50_ms, got.p99_ms, got.throughput))
                rows.append([title, str(clients), name, *numbers, *ratios, cpu])
    if any(m.workload == COUNTER for m in results.measurements) and any(
        COUNTER not in s.workloads for s in results.systems if s.name.startswith("dbos")
    ):
        nothing = ["–"] * (len(head) - 3)
        rows.append([WORKLOADS[COUNTER], "–", "dbos: has no equivalent", *nothing])
    return _table(head, 3, rows)


def servers_table(results: Results) -> list[str]:
    """Our server divided by restate-server, with the same service behind both."""
    cells = _cells(results)
    rows: list[list[str]] = []
    for workload, clients in dict.fromkeys((m.workload, m.clients) for m in results.measurements):
        ours = cells.get((workload, clients, _SAME_SERVICE))
        for peer in _SAME_SERVICE_PEERS:
            theirs = cells.get((workload, clients, peer))
            if ours is not None and theirs is not None:
                rows.append([WORKLOADS[workload], str(clients), peer, *_ratios(ours, theirs)])
    if not rows:
        return []
    return _table(["workload", "clients", "divided by", "p50", "p99", "calls/s"], 3, rows)


def carriers_table(results: Results) -> list[str]:
    """Our SDK through each carrier divided by the same in one process, and by restate-server."""
    cells = _cells(results)
    rows: list[list[str]] = []
    for workload, clients in dict.fromkeys((m.workload, m.clients) for m in results.measurements):
        for carrier in CARRIERS:
            ours = cells.get((workload, clients, carrier))
            for base in (CARRIERS[0], *_SAME_SERVICE_PEERS):
                theirs = cells.get((workload, clients, base))
                if ours is not None and theirs is not None and ours is not theirs:
                    ratios = _ratios(ours, theirs)
                    rows.append([WORKLOADS[workload], str(clients), carrier, base, *ratios])
    if not any(row[3] == CARRIERS[0] for row in rows):
        return []
    return _table(
        ["workload", "clients", "carrier", "divided by", "p50", "p99", "calls/s"], 4, rows
    )


def memory_table(results: Results) -> list[str]:
    """The most memory each process had right after a measuring window."""
    most: dict[tuple[str, str], dict[str, float]] = {}
    for m in results.measurements:
        for role, used in m.memory_mib.items():
            if role == "load":
                continue
            seen = most.setdefault((m.system, role), {"rss": 0.0, "pss": 0.0})
            for kind in seen:
                seen[kind] = max(seen[kind], used[kind])
    rows = [
        [system, role, f"{used['rss']:.0f}", f"{used['pss']:.0f}"]
        for (system, role), used in most.items()
    ]
    return _table(["system", "process", "RSS MiB", "PSS MiB"], 2, rows)


def markdown(results: Results) -> str:
    """The whole report."""
    lines = ["## Machine", ""]
    lines += [f"- {name}: {value}" for name, value in results.machine.items()]
    if results.flushes:
        p50 = statistics.median(f.p50_ms for f in results.flushes)
        p99 = statistics.median(f.p99_ms for f in results.flushes)
        worst = max(f.p99_ms for f in results.flushes)
        lines.append(
            f"- append of 512 bytes + fdatasync: p50 {p50:.3f} ms, p99 {p99:.3f} ms "
            f"(worst p99 {worst:.3f} ms; taken {len(results.flushes)} times in the run)"
        )
    lines += ["", "## Systems", ""]
    measured = {m.system for m in results.measurements}
    for system in results.systems:
        if system.name not in measured:
            continue
        parts = ", ".join(f"{k} {v}" for k, v in results.versions.get(system.name, {}).items())
        lines.append(f"- **{system.name}**: {system.summary} ({parts})")
    lines += [f"- **{name}**: not measured: {why}" for name, why in results.failures.items()]
    lines += ["", "## Latency and throughput", ""]
    lines += [
        "Closed loop; medians over the rounds. HF/peer is Holdfast divided by the peer: below 1 is "
        "better for latency, above 1 for throughput. Systems with an HTTP ingress compare with "
        "holdfast, those in the calling process with holdfast-embedded.",
        "",
        *results_table(results),
    ]
    if ratios := servers_table(results):
        lines += ["", "## The same service behind both servers", ""]
        lines += [f"{_SAME_SERVICE} divided by restate-server, as above.", "", *ratios]
    if ratios := carriers_table(results):
        lines += ["", "## Our SDK through each carrier", ""]
        lines += ["Divided by the same without a carrier, and by restate-server.", "", *ratios]
    lines += ["", "## Memory after load", "", *memory_table(results), ""]
    return "\n".join(lines)
