"""How long the disk takes to make a small append durable.

Every system here must wait for at least one such flush before it may acknowledge anything, so
this latency is the floor of every durable call, and 1 / latency is the ceiling on its rate for an
engine that does not share a flush among concurrent calls.

    python -m bench.disk [--directory DIR]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, perf_counter_ns

from bench.stats import percentile

_APPEND = b"x" * 512


@dataclass(frozen=True)
class FlushLatency:
    """Latency of write(512 bytes) + fdatasync on a growing file."""

    count: int
    p50_ms: float
    p99_ms: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def filesystem(directory: Path) -> str:
    """The type of the file system that holds ``directory``, or "unknown"."""
    best = ("", "unknown")
    target = str(directory.resolve())
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return best[1]
    for line in mounts:
        _, point, kind, *_ = line.split()
        inside = point == "/" or target == point or target.startswith(point + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def flush_latency(directory: Path, seconds: float = 1.0) -> FlushLatency:
    """Append and fdatasync for ``seconds``."""
    handle, name = tempfile.mkstemp(dir=directory, prefix="flush-")
    taken: list[int] = []
    try:
        deadline = perf_counter() + seconds
        while perf_counter() < deadline:
            started = perf_counter_ns()
            os.write(handle, _APPEND)
            os.fdatasync(handle)
            taken.append(perf_counter_ns() - started)
    finally:
        os.close(handle)
        os.unlink(name)
    taken.sort()
    return FlushLatency(len(taken), percentile(taken, 0.5) / 1e6, percentile(taken, 0.99) / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    got = flush_latency(args.directory, args.seconds)
    print(f"{filesystem(args.directory)}: {got.count} flushes, p50 {got.p50_ms:.3f} ms, "
          f"p99 {got.p99_ms:.3f} ms")  # fmt: skip


if __name__ == "__main__":
    main()
