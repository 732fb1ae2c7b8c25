"""The workloads with DBOS, called from the process that embeds it; runs in the peers' venv.

Both styles DBOS offers are here: async workflows called from one event loop, and plain ones
called from threads. DBOS has nothing like a keyed object with durable state: no counter.

    python -m bench.services.dbos_app --database URL --workload steps --clients 64
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
from pathlib import Path

from dbos import DBOS, DBOSConfig

from bench.inproc import arguments, closed_loop, closed_loop_threads, report
from bench.stats import Measurement

_SQLITE = "sqlite:///"


@DBOS.workflow()
async def empty() -> None:
    """Nothing: the cost of a durable workflow as such."""


@DBOS.step()
async def one() -> int:
    return 1


@DBOS.workflow()
async def steps() -> int:
    """Ten durable steps, one after the other."""
    total = 0
    for _ in range(10):
        total += await one()
    return total


@DBOS.workflow()
def empty_sync() -> None:
    """As empty, in a thread."""


@DBOS.step()
def one_sync() -> int:
    return 1


@DBOS.workflow()
def steps_sync() -> int:
    """As steps, in a thread."""
    total = 0
    for _ in range(10):
        total += one_sync()
    return total


def prepare_sqlite(path: Path) -> None:
    """Put the database in WAL mode (it stays so); SQLite's synchronous=FULL then still holds.

    DBOS itself leaves the rollback journal on, which costs more flushes for every commit.
    """
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=WAL")
    if connection.execute("PRAGMA synchronous").fetchone() != (2,):
        raise SystemExit("this SQLite does not default to synchronous=FULL")
    connection.close()


async def run_async(args: argparse.Namespace) -> Measurement:
    """Launch DBOS on this event loop and measure async workflows."""
    DBOS.launch()
    try:
        if args.workload == "steps":
            return await closed_loop(steps, args, expect=10)
        return await closed_loop(empty, args)
    finally:
        DBOS.destroy()


def run_threads(args: argparse.Namespace) -> Measurement:
    """Launch DBOS without an event loop and measure plain workflows."""
    DBOS.launch()
    try:
        if args.workload == "steps":
            return closed_loop_threads(steps_sync, args, expect=10)
        return closed_loop_threads(empty_sync, args)
    finally:
        DBOS.destroy()


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--database", required=True, help="SQLAlchemy URL")
    parser.add_argument("--style", choices=("async", "threads"), default="async")
    parser.add_argument("--pool", type=int, required=True, help="connections to the database")
    parser.add_argument("--threads", type=int, help="DBOS threads that talk to the database")
    args = parser.parse_args()
    if args.database.startswith(_SQLITE):
        prepare_sqlite(Path(args.database.removeprefix(_SQLITE)))
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": args.database,
        "sys_db_pool_size": args.pool,
        # the default asks "SELECT 1" before each use of a connection
        "db_engine_kwargs": {"pool_pre_ping": False},
        "log_level": "ERROR",
    }
    if args.threads:
        config["max_executor_threads"] = args.threads
    DBOS(config=config)
    report(run_threads(args) if args.style == "threads" else asyncio.run(run_async(args)))


if __name__ == "__main__":
    main()
