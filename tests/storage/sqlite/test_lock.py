from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.domain.errors import StorageError
from holdfast.storage.sqlite.lock import FileLock


def test_the_second_one_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "data.lock"
    lock = FileLock(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError, match=rf"process {os.getpid()}, .*data\.lock.*HF4102"):
        FileLock(path)
    lock.release()
    lock.release()
    assert path.read_bytes() == b""
    FileLock(path).release()


def test_a_holder_that_has_not_written_its_pid_yet(tmp_path: Path) -> None:
    path = tmp_path / "data.lock"
    lock = FileLock(path)
    path.write_bytes(b"")
    with pytest.raises(StorageError, match="another process"):
        FileLock(path)
    lock.release()


def test_what_a_dead_holder_left_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "data.lock"
    path.write_text("1234567890 left by a crash\n")
    lock = FileLock(path)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.release()
