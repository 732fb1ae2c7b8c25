"""A disk in memory that remembers what was synced, so that a loss of power can be played.

Every write, truncation, deletion and sync is logged. `after_power_loss` makes a new disk as it may
be found after the power went at some point: all that was synced, and of the later writes any
subset, sector by sector. A write that is kept may stand on one that is lost.

WAL mode on such a disk needs one connection that has the file for itself: a VFS in Python has no
shared memory. `CrashFile` gives the store the same connection for everything.
"""

from __future__ import annotations

import random
from itertools import count
from pathlib import Path
from typing import NamedTuple, cast

import apsw

from holdfast.storage.sqlite.driver import Connection
from holdfast.storage.sqlite.file import DatabaseFile

SECTOR = 512
_numbers = count()


class Op(NamedTuple):
    """Something done to a file. `data` None: cut it to `offset`, or below 0 delete it."""

    name: str
    offset: int
    data: bytes | None


class Sync(NamedTuple):
    """All done to a file before is durable; with DIRECTORY, all deletions are."""

    name: str


DIRECTORY = "/"


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class CrashDisk:
    """Files by name, and how they came to be.

    Args:
        files: What is on it, durably.
        is_lying: Syncs do nothing.
    """

    def __init__(self, files: dict[str, bytes] | None = None, *, is_lying: bool = False) -> None:
        self.durable = dict(files or {})
        self.files = {name: bytearray(content) for name, content in self.durable.items()}
        self.log: list[Op | Sync] = []
        self.is_lying = is_lying
        self.fail_at = -1
        """Count of writes and syncs until one fails; below 0 none does."""
        self.failure: type[apsw.Error] = apsw.IOError
        self.is_failing_on = False
        """Whether all later ones fail too."""
        self.has_failed = False
        self.vfs = _CrashVfs(self)

    def work(self) -> None:
        """Count down to the planned failure."""
        self.fail_at -= 1
        if self.fail_at == 0 or (self.is_failing_on and self.has_failed):
            self.has_failed = True
            raise self.failure("planned")

    def apply(self, op: Op) -> None:
        self.work()
        self.log.append(op)
        if op.data is not None:
            _write(self.files.setdefault(op.name, bytearray()), op.offset, op.data)
        elif op.offset < 0:
            self.files.pop(op.name, None)
        else:
            del self.files[op.name][op.offset :]

    def sync(self, name: str) -> None:
        self.work()
        if not self.is_lying:
            self.log.append(Sync(name))

    def after_power_loss(self, pick: random.Random, position: int) -> dict[str, bytes]:
        """Return the files as they may be when the power goes after `position` log items."""
        log = self.log[:position]
        last_sync = {op.name: at for at, op in enumerate(log) if isinstance(op, Sync)}
        files = {name: bytearray(content) for name, content in self.durable.items()}
        # From nothing reached the disk, through a mixture, to all of it did.
        share = pick.choice([0.0, 0.5, 1.0, pick.random()])
        for at, op in enumerate(log):
            if isinstance(op, Sync):
                continue
            is_deletion = op.data is None and op.offset < 0
            is_durable = at < last_sync.get(DIRECTORY if is_deletion else op.name, -1)
            if op.data is None:
                if is_durable or pick.random() < share:
                    _cut(files, op)
                continue
            content = files.setdefault(op.name, bytearray())
            for start in range(0, len(op.data), SECTOR):
                if is_durable or pick.random() < share:
                    _write(content, op.offset + start, op.data[start : start + SECTOR])
        return {name: bytes(content) for name, content in files.items()}


def _cut(files: dict[str, bytearray], op: Op) -> None:
    if op.offset < 0:
        files.pop(op.name, None)
    elif op.name in files:
        del files[op.name][op.offset :]


class _CrashVfs(apsw.VFS):
    def __init__(self, disk: CrashDisk) -> None:
        self.disk = disk
        self.name = f"crash-{next(_numbers)}"
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        flags[1] = flags[0]
        if isinstance(name, apsw.URIFilename):
            name = name.filename()
        path = name or f"temporary {next(_numbers)}"
        # It is no apsw.VFSFile, but has all that is called.
        return cast("apsw.VFSFile", _CrashHandle(self.disk, path, flags[0]))

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.disk.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.disk.apply(Op(filename, -1, None))
        if syncdir:
            self.disk.sync(DIRECTORY)

    def xFullPathname(self, name: str) -> str:
        return name


class _CrashHandle:
    def __init__(self, disk: CrashDisk, name: str, flags: int) -> None:
        self.disk = disk
        self.name = name
        # As SQLite does on Unix: the first sync of a new log also syncs the directory.
        is_log = flags & (apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL)
        self.is_unnamed = bool(is_log) and name not in disk.files
        disk.files.setdefault(name, bytearray())

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self.disk.files[self.name][offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self.disk.apply(Op(self.name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        self.disk.apply(Op(self.name, newsize, None))

    def xSync(self, flags: int) -> None:
        self.disk.sync(self.name)
        if self.is_unnamed:
            self.is_unnamed = False
            self.disk.sync(DIRECTORY)

    def xFileSize(self) -> int:
        return len(self.disk.files[self.name])

    def xClose(self) -> None: ...

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0


class CrashFile(DatabaseFile):
    """A database on a `CrashDisk`."""

    def __init__(self, disk: CrashDisk) -> None:
        super().__init__(Path("/data.db"))
        self._disk = disk
        self._connection: Connection | None = None

    def claim(self) -> None:
        pass

    def connect(self) -> Connection:
        connection = apsw.Connection(str(self.path), vfs=self._disk.vfs.name)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        self._connection = cast("Connection", connection)
        return self._connection

    def connect_reader(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def size(self) -> int:
        return len(self._disk.files[str(self.path)])
