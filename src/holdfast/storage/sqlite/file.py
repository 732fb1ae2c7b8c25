"""Opening the database file: whose it is, whether it is sound, what schema it has."""

from __future__ import annotations

import contextlib
import os
from importlib.resources import files
from pathlib import Path

import apsw

from holdfast.domain.errors import StorageError
from holdfast.storage.sqlite.chunk import provide_whole
from holdfast.storage.sqlite.driver import Connection, connect, first
from holdfast.storage.sqlite.failure import damaged, open_failed
from holdfast.storage.sqlite.lock import FileLock

SQLITE_VERSION_MIN = (3, 51, 3)
"""Older ones can corrupt a database when a WAL is reset while another connection reads it."""
APPLICATION_ID = 0x484F4C44
"""`HOLD`, in the header of every file of ours."""
SCHEMA_VERSION = 8
"""Number of the last file in `migration/`; also the file's user_version."""
CHECK_SIZE_MAX = 64 * 1024 * 1024
"""Larger files are not checked when they are opened: it takes about 1 ms per megabyte."""
WAL_SIZE_BYTES_MAX = 16 * 1024 * 1024
"""A WAL that a slow reader let grow further is cut to this when it begins anew."""
WRITER_CACHE_KIB = 64 * 1024
READER_CACHE_KIB = 8 * 1024


class DatabaseFile:
    """The file on disk, and this process's claim to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    def claim(self) -> None:
        """Create directory and file where they are missing, and keep other servers away.

        Raises:
            StorageError: HF4102, in use.
            OSError: The directory or the file cannot be created or written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        # SQLite would create the file with the process's umask. The descriptor must be closed
        # before SQLite locks the file: closing it later would drop SQLite's locks.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def connect(self) -> Connection:
        """Open one more connection."""
        return connect(str(self.path))

    def connect_reader(self) -> Connection:
        """Open one more connection, which cannot write."""
        connection = self.connect()
        # A reader meets a lock only while the WAL is cut, for a moment.
        connection.set_busy_timeout(5000)
        for pragma in ("query_only = ON", f"cache_size = -{READER_CACHE_KIB}"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def size(self) -> int:
        """Return the size in bytes."""
        return self.path.stat().st_size

    def release(self) -> None:
        """Let others have the file. Idempotent; close all connections first."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def open_reader(file: DatabaseFile) -> Connection:
    """Open one more connection that reads."""
    connection = file.connect_reader()
    provide_whole(connection)
    return connection


def open_writer(
    file: DatabaseFile, is_durable: bool, partition_count: int
) -> tuple[Connection, int]:
    """Open the connection that writes; create or migrate the database.

    Returns:
        The connection, and the partition count that the database was created with.

    Raises:
        StorageError: HF4101..HF4107, see `failure`. The connection is closed.
    """
    _refuse_old_library()
    connection: Connection | None = None
    try:
        connection = file.connect()
        is_new = _identify(file, connection)
        _configure_writer(connection, is_durable)
        provide_whole(connection)
        if not is_new and file.size() <= CHECK_SIZE_MAX:
            _check(file, connection)
        _migrate(connection, partition_count)
        count = first(connection, "SELECT value FROM meta WHERE name = 'partition_count'")
    except (apsw.Error, OSError) as error:
        close_all(connection)
        raise open_failed(file.path, error) from error
    except BaseException:
        close_all(connection)
        raise
    return connection, count


def _refuse_old_library() -> None:
    version = apsw.sqlite_lib_version()
    if tuple(int(part) for part in version.split(".")) < SQLITE_VERSION_MIN:
        needed = ".".join(str(part) for part in SQLITE_VERSION_MIN)
        raise StorageError(
            f"SQLite {version} is too old: {needed} or newer is needed, "
            "because older ones can corrupt a database in WAL mode",
            code="HF4107",
            hint="pip install --upgrade apsw",
        )


def _identify(file: DatabaseFile, connection: Connection) -> bool:
    """Return whether the database is empty; refuse those that are not ours or too new."""
    application_id = first(connection, "PRAGMA application_id")
    version = first(connection, "PRAGMA user_version")
    is_empty = not first(connection, "SELECT count(*) FROM sqlite_schema")
    if application_id == 0 and version == 0 and is_empty:
        return True
    if application_id != APPLICATION_ID:
        raise StorageError(
            f"{file.path} is a database of another program "
            f"(application id {application_id:#x}, expected {APPLICATION_ID:#x})",
            code="HF4104",
            hint="Choose another path. The file was not changed.",
        )
    if version > SCHEMA_VERSION:
        raise StorageError(
            f"{file.path} has schema version {version}; this version of Holdfast knows "
            f"versions up to {SCHEMA_VERSION}",
            code="HF4105",
            hint="Use the version that wrote it, or a newer one. The file was not changed.",
        )
    return False


def _configure_writer(connection: Connection, is_durable: bool) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchall()[0][0]
    if mode != "wal":
        raise OSError(f"its file system does not support WAL (journal mode {mode})")
    pragmas = {
        "synchronous": "FULL" if is_durable else "NORMAL",
        # macOS: fsync alone leaves the data in the drive's cache.
        "fullfsync": "ON" if is_durable else "OFF",
        "cache_size": f"-{WRITER_CACHE_KIB}",
        "temp_store": "MEMORY",
        # Checkpoints happen when the writer says so, not inside a commit that somebody waits for.
        "wal_autocheckpoint": "0",
        "journal_size_limit": str(WAL_SIZE_BYTES_MAX),
    }
    for name, value in pragmas.items():
        # SQLite runs a statement as far as its rows are read; an unread PRAGMA may do nothing.
        connection.execute(f"PRAGMA {name} = {value}").fetchall()


def _check(file: DatabaseFile, connection: Connection) -> None:
    lines = [str(row[0]) for row in connection.execute("PRAGMA quick_check(10)").fetchall()]
    if lines != ["ok"]:
        raise damaged(file.path, "; ".join(" ".join(line.split()) for line in lines))


def _migrate(connection: Connection, partition_count: int) -> None:
    """Run the missing migrations, each in a transaction of its own."""
    for version in range(first(connection, "PRAGMA user_version") + 1, SCHEMA_VERSION + 1):
        script = files("holdfast.storage.sqlite.migration").joinpath(f"{version:04}.sql")
        connection.execute("BEGIN IMMEDIATE").fetchall()
        connection.execute(script.read_text("utf-8")).fetchall()
        connection.execute(
            "INSERT INTO migration (version, at_ms)"
            " VALUES (?, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
            (version,),
        ).fetchall()
        if version == 1:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}").fetchall()
            connection.execute(
                "INSERT INTO meta (name, value) VALUES ('partition_count', ?)", (partition_count,)
            ).fetchall()
        connection.execute(f"PRAGMA user_version = {version}").fetchall()
        connection.execute("COMMIT").fetchall()


def close_all(*connections: Connection | None) -> None:
    """Close connections. What is committed is durable, so failures here lose nothing."""
    for connection in connections:
        if connection is not None:
            with contextlib.suppress(apsw.Error):
                connection.close(force=True)
