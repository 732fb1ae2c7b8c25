"""The errors of the SQLite store. Every code is stable and has a page in docs/errors.

Codes:
    HF4101  the file or its directory cannot be created, opened or written
    HF4102  another process uses the file
    HF4103  the file is not a SQLite database
    HF4104  the file is a SQLite database, but not ours
    HF4105  the file was written by a newer version
    HF4106  the file is damaged
    HF4107  the SQLite library is too old to be trusted
    HF4108  a write failed: the store is poisoned, the outcome of commits is unknown
    HF4109  the store is not open
    HF4110  a read failed
    HF4111  a value cannot be stored; nothing was written
    HF4112  a batch contradicts what is stored; nothing was written (`storage.rule`)
    HF4113  a stored row cannot be decoded
"""

from __future__ import annotations

from pathlib import Path

import apsw

from holdfast.domain.errors import CorruptState, StorageError, Unstorable

RESTORE = (
    "Stop every process that uses it, keep a copy of the file with its -wal file, "
    "and restore the latest backup."
)

VALUE_ERRORS = (TypeError, ValueError, OverflowError)
"""What Python raises for a value that has no encoding or no place in a column."""


def damaged(path: Path, detail: str) -> CorruptState:
    """Return HF4106."""
    return CorruptState(f"The database {path} is damaged: {detail}", code="HF4106", hint=RESTORE)


def open_failed(path: Path, error: Exception) -> StorageError:
    """Return the error for a failure while the file was opened, checked or migrated."""
    if isinstance(error, apsw.CorruptError):
        return damaged(path, str(error))
    if isinstance(error, apsw.NotADBError):
        return StorageError(
            f"{path} is not a SQLite database, or its first page is destroyed",
            code="HF4103",
            hint=f"Choose another path. If this was the data of a server: {RESTORE}",
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StorageError(
            f"The database {path} is locked by another program: {error}",
            code="HF4102",
            hint="Close database tools that have it open for writing, then start again.",
        )
    return StorageError(
        f"The database {path} cannot be opened for writing: {error}",
        code="HF4101",
        hint="The directory and the file must be writable by this user, on a disk with free space.",
    )


def poisoned(path: Path, cause: BaseException) -> StorageError:
    """Return HF4108. A new one for every waiter: a traceback belongs to one raise."""
    return StorageError(
        f"Writing to the database {path} failed: {type(cause).__name__}: {cause}. "
        "The outcome of commits that were under way is unknown, and no more are taken",
        code="HF4108",
        hint="Repair the cause (disk, free space, permissions) and start the server again: "
        "it goes on from what is on the disk.",
    )


def not_open(path: Path) -> StorageError:
    """Return HF4109."""
    return StorageError(f"The database {path} is not open", code="HF4109")


def read_failed(path: Path, error: apsw.Error) -> StorageError:
    """Return the error for a failed read: HF4106 for damage, else HF4110."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        return damaged(path, str(error))
    return StorageError(
        f"Reading the database {path} failed: {type(error).__name__}: {error}", code="HF4110"
    )


def not_storable(error: Exception) -> Unstorable:
    """Return HF4111."""
    return Unstorable(
        f"A value cannot be stored: {type(error).__name__}: {error}",
        hint="Nothing was written. Text must be valid Unicode, integers fit 64 bits.",
    )


def undecodable(path: Path, where: str, error: Exception) -> CorruptState:
    """Return HF4113."""
    return CorruptState(
        f"A row of the database {path} cannot be decoded: {where}: {error}",
        code="HF4113",
        hint=f"A newer version may have written it, or the file is damaged. {RESTORE}",
    )
