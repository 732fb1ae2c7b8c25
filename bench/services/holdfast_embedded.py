"""Holdfast embedded in the calling process, measured like DBOS; runs in the project's venv.

python -m bench.services.holdfast_embedded --store sqlite:FILE --workload steps --clients 64
"""

from __future__ import annotations

import argparse

import holdfast as hf
from bench.inproc import arguments, closed_loop, report
from bench.load import runner
from bench.services.holdfast_app import app, empty, steps
from bench.stats import Measurement


async def run(args: argparse.Namespace) -> Measurement:
    """Open the engine on this event loop, measure, close it."""
    async with hf.embedded(app, store=args.store) as client:
        if args.workload == "steps":
            return await closed_loop(lambda: client.call(steps), args, expect=10)
        return await closed_loop(lambda: client.call(empty), args)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--store", required=True, help="sqlite:FILE")
    report(runner()(run(parser.parse_args())))


if __name__ == "__main__":
    main()
