"""The part of apsw that is used here, with types.

apsw's own types name `collections.abc.Buffer`, which Python has had since 3.12 only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import apsw

Value = str | int | bytes | None
Bindings = tuple[Value, ...]
Found = list[tuple[Any, ...]]
"""Rows as SQLite returns them: the schema, which is STRICT, says what types are in them."""


class Cursor(Protocol):
    """`apsw.Cursor`. A statement runs as far as its rows are read: read them all."""

    def execute(self, statements: str, bindings: Sequence[Value] = ...) -> Cursor:
        """Run a statement as far as its first row."""
        ...

    def executemany(self, statements: str, bindings: Iterable[Sequence[Value]]) -> Cursor:
        """Run a statement for each of the bindings."""
        ...

    def fetchall(self) -> Found:
        """Read all rows; ends the statement."""
        ...

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Read row by row. Close the cursor if you stop before the end."""
        ...

    def close(self, force: bool = ...) -> None:
        """End the statement."""
        ...


class Connection(Protocol):
    """`apsw.Connection`."""

    def cursor(self) -> Cursor:
        """Return a new cursor."""
        ...

    def execute(self, statements: str, bindings: Sequence[Value] = ...) -> Cursor:
        """Run a statement on a new cursor."""
        ...

    def changes(self) -> int:
        """Return how many rows the last statement changed."""
        ...

    def total_changes(self) -> int:
        """Return how many rows were changed since the connection was opened."""
        ...

    def status(self, op: int, /) -> tuple[int, int]:
        """Return a counter of the connection: current value, highest value."""
        ...

    def set_busy_timeout(self, milliseconds: int) -> None:
        """Set how long to wait for a lock."""
        ...

    def wal_checkpoint(self, dbname: str | None = ..., mode: int = ...) -> tuple[int, int]:
        """Move the WAL into the file: frames in the WAL, frames moved."""
        ...

    def create_scalar_function(
        self, name: str, callable: Callable[..., Value], numargs: int, *, deterministic: bool
    ) -> None:
        """Have SQL call a function."""
        ...

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        ...

    def interrupt(self) -> None:
        """Make what runs in another thread stop with `apsw.InterruptError`."""
        ...

    def close(self, force: bool = ...) -> None:
        """Close; what is not committed is rolled back. Idempotent."""
        ...


def connect(path: str, *, vfs: str | None = None) -> Connection:
    """Open an existing file, with the operating system's file functions or those named."""
    return cast("Connection", apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs))


def first(connection: Connection, sql: str) -> int:
    """Return the only value of a query."""
    return cast("int", connection.execute(sql).fetchall()[0][0])
