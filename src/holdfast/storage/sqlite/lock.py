"""The lock that keeps a second server away from the same data.

It is an advisory lock of the operating system on a file beside the database, so it ends with the
process, however that dies. The file stays; only its content, the holder's pid, comes and goes.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from holdfast.domain.errors import StorageError


class FileLock:
    """An exclusive lock, held from creation until `release`.

    Raises:
        StorageError: HF4102, another process (or another store in this one) holds it.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # flock and not lockf: a POSIX lock would vanish when any descriptor of the file is
            # closed, and would not keep a second store in the same process away.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            who = f"process {holder}" if holder else "another process"
            raise StorageError(
                f"The data is in use by {who}, which holds {path}",
                code="HF4102",
                hint="Stop that server, or give this one its own data path.",
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock up. Idempotent."""
        if self._descriptor >= 0:
            os.truncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
