"""`python -m tests.simulation --seeds 0:300`, or `--seed N --trace` to repeat one."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from .checker import Violation
from .run import commit_hash, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="0:100", help="FIRST:END")
    parser.add_argument("--seed", type=int, help="run one")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--hash", action="store_true", help="print the hash of each trace")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a failure")
    options = parser.parse_args()
    if options.seed is not None:
        first, end = options.seed, options.seed + 1
    else:
        first, end = (int(part) for part in options.seeds.split(":"))
    begin_s = time.perf_counter()
    counts: Counter[str] = Counter()
    failures = 0
    for seed in range(first, end):
        try:
            report = simulate(seed, is_traced=options.trace)
        except Violation as violation:
            failures += 1
            if options.trace:
                print("\n".join(violation.lines))  # type: ignore[attr-defined]
                traceback.print_exc()
            print(f"FAILED {violation}")
            if not options.keep_going:
                return 1
            continue
        if options.trace:
            print("\n".join(report.lines))
        if options.hash:
            print(f"{seed} {report.trace_hash}")
        counts["runs"] += 1
        counts["simulated s"] += round(report.simulated_s)
        counts["commits"] += report.commits
        counts["actions"] += report.dispatches
        counts["steps"] += report.step_runs
        counts["invocations"] += report.invocations
        counts.update(report.counts)
    elapsed_s = time.perf_counter() - begin_s
    print(f"commit {commit_hash()}, seeds {first}:{end}, {failures} failed")
    for name, count in sorted(counts.items()):
        print(f"  {name}: {count}")
    print(
        f"  {elapsed_s:.1f} s; per second: {counts['runs'] / elapsed_s:.1f} runs,"
        f" {counts['steps'] / elapsed_s:.0f} steps, {counts['commits'] / elapsed_s:.0f} commits,"
        f" {counts['simulated s'] / elapsed_s:.0f} simulated seconds"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
