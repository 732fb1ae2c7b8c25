"""What one measurement is, and how latencies become percentiles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.meter import Watch, cpu_seconds, machine_busy_seconds, memory


@dataclass
class Measurement:
    """One workload on one system with one number of clients.

    Latency is what a client sees from sending a call to having its whole answer. Calls are made
    in a closed loop: each client makes its next call when it has the answer to the last one.
    ``throughput`` is calls completed per second of the measuring window. ``cpu`` is CPU seconds
    per second of the window for each role, so 1.0 is one core kept busy; role ``elsewhere`` is the
    rest of the machine: kernel threads, and other programs that spoil the measurement. ``total``
    counts all successful calls, with those of the warm-up and those in flight at the end.
    """

    system: str = ""
    workload: str = ""
    clients: int = 0
    round: int = 0
    count: int = 0
    seconds: float = 0.0
    throughput: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    total: int = 0
    errors: int = 0
    first_error: str = ""
    cpu: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of an ascending sequence; 0 for an empty one."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * fraction))]


class Window:
    """The measuring window: collects latencies and the CPU time spent between start and stop."""

    def __init__(self, watches: Sequence[Watch] = ()) -> None:
        self.open = False
        self.latencies_ns: list[int] = []
        self._watches = watches
        self._cpu: dict[str, float] = {}
        self._started = 0

    def _read_cpu(self) -> dict[str, float]:
        used = {w.role: cpu_seconds(w) for w in self._watches}
        return {**used, "elsewhere": machine_busy_seconds() - sum(used.values())}

    def start(self) -> None:
        self._cpu = self._read_cpu()
        self._started = time.perf_counter_ns()
        self.open = True

    def stop(self) -> Measurement:
        """Close the window and sum it up; the caller adds ``total`` and errors once drained."""
        self.open = False
        seconds = (time.perf_counter_ns() - self._started) / 1e9
        used = {role: now - self._cpu[role] for role, now in self._read_cpu().items()}
        # "elsewhere" is a difference of coarse counters and can come out just below zero
        cpu = {role: max(0.0, round(spent / seconds, 3)) for role, spent in used.items()}
        ordered = sorted(self.latencies_ns)
        return Measurement(
            count=len(ordered),
            seconds=seconds,
            throughput=len(ordered) / seconds,
            p50_ms=percentile(ordered, 0.50) / 1e6,
            p99_ms=percentile(ordered, 0.99) / 1e6,
            max_ms=(ordered[-1] if ordered else 0) / 1e6,
            cpu=cpu,
            memory_mib={w.role: memory(w) for w in self._watches},
        )
