"""Bad files and bad places: each has its own error, and none of them is changed."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from holdfast.domain.errors import CorruptState, StorageError
from holdfast.domain.message import Value
from holdfast.engine.row import Key, PromiseRow, Status, Table
from holdfast.storage.sqlite import SqliteStore
from holdfast.storage.sqlite import file as file_module
from holdfast.storage.sqlite.file import APPLICATION_ID, SCHEMA_VERSION
from tests.storage.builder import batch, invocation, journal_input


async def fill(path: Path, count: int = 300) -> None:
    store = SqliteStore(path)
    await store.open()
    epoch = await store.acquire(0, "me", 1)
    rows = [invocation(number) for number in range(count)]
    journal = [journal_input(number) for number in range(count)]
    await store.commit(batch(0, epoch, *rows, journal=journal))
    await store.close()


async def refuse(path: Path, code: str) -> StorageError:
    with pytest.raises(StorageError) as caught:
        await SqliteStore(path).open()
    assert caught.value.code == code, caught.value
    assert str(path) in caught.value.message
    assert caught.value.hint
    # Nothing of it is left open or locked.
    with pytest.raises(StorageError) as again:
        await SqliteStore(path).open()
    assert again.value.code == code
    return caught.value


async def test_a_new_file_is_private(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        path = tmp_path / "a" / "b" / "data.db"
        store = SqliteStore(str(path))
        await store.open()
        assert path.parent.stat().st_mode & 0o777 == 0o700
        for suffix in ("", "-wal", "-shm", ".lock"):
            assert path.with_name(f"data.db{suffix}").stat().st_mode & 0o777 == 0o600
        await store.close()
    finally:
        os.umask(mask)
    assert sorted(it.name for it in path.parent.iterdir()) == ["data.db", "data.db.lock"]


async def test_settings_of_the_connection(tmp_path: Path) -> None:
    for durability, synchronous in (("full", 2), ("relaxed", 1)):
        store = SqliteStore(tmp_path / f"{durability}.db", durability=durability)
        await store.open()
        assert store.is_durable() is (durability == "full")
        assert store._opened is not None
        for pragma, value in {
            "journal_mode": "wal",
            "synchronous": synchronous,
            "wal_autocheckpoint": 0,
            "application_id": APPLICATION_ID,
            "user_version": SCHEMA_VERSION,
        }.items():
            found = store._opened.writing.execute(f"PRAGMA {pragma}").fetchall()[0][0]
            assert found == value, pragma
        for connection in (store._opened.reading, store._opened.listing):
            with pytest.raises(apsw.ReadOnlyError):
                connection.execute("DELETE FROM meta")
        await store.close()


async def test_the_partition_count_of_the_file_wins(tmp_path: Path) -> None:
    for asked in (7, 3):
        store = SqliteStore(tmp_path / "data.db", partition_count=asked)
        assert store.partition_count == asked
        await store.open()
        assert store.partition_count == 7
        await store.acquire(6, "me", 1)
        await store.close()


async def test_everything_is_there_after_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    store = SqliteStore(path)
    await store.open()
    assert len(await store.with_status(0, Status.RUNNING, "", 1000)) == 300
    assert await store.acquire(0, "me", 1) == 2
    await store.close()
    await store.open()
    assert await store.acquire(0, "me", 1) == 3
    await store.close()


async def test_a_store_that_is_not_open(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data.db")
    for _ in range(2):
        with pytest.raises(StorageError, match="HF4109"):
            await store.timers(0, None, 1)
        with pytest.raises(StorageError, match="HF4109"):
            await store.commit(batch(0, 1))
        await store.open()
        await store.close()


# -- places ----------------------------------------------------------------------------------------


async def test_a_parent_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "data.db", tmp_path / "file" / "deeper" / "data.db"):
        error = await refuse(path, "HF4101")
        assert "writable" in error.hint


async def test_a_directory_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "data.db").mkdir()
    await refuse(tmp_path / "data.db", "HF4101")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_directory_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    await refuse(tmp_path / "data.db", "HF4101")
    tmp_path.chmod(0o700)


async def test_a_file_system_without_wal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A database in memory is the nearest thing: it cannot have a WAL either.
    monkeypatch.setattr(file_module, "connect", lambda path: apsw.Connection(":memory:"))
    error = await refuse(tmp_path / "data.db", "HF4101")
    assert "does not support WAL" in error.message


async def test_another_process_has_it(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    script = (
        "import asyncio, sys\n"
        "from holdfast.storage.sqlite import SqliteStore\n"
        "asyncio.run(SqliteStore(sys.argv[1]).open())\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        error = await refuse(path, "HF4102")
        assert f"process {process.pid}" in error.message
        process.kill()
        process.wait()
    await fill(path)


async def test_the_same_process_has_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "data.db")
    await store.open()
    await refuse(tmp_path / "data.db", "HF4102")
    await store.close()
    await fill(tmp_path / "data.db")


async def test_a_database_tool_is_writing_to_it(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    tool = apsw.Connection(str(path))
    tool.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    tool.execute("BEGIN EXCLUSIVE").fetchall()
    await refuse(path, "HF4102")
    tool.close()
    store = SqliteStore(path)
    await store.open()
    await store.close()


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"hello", b"hello" * 4000, b"\x00" * 8192])
async def test_not_a_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.db"
    path.write_bytes(content)
    await refuse(path, "HF4103")
    assert path.read_bytes() == content


async def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "data.db").write_bytes(b"")
    await fill(tmp_path / "data.db")


@pytest.mark.parametrize("sql", ["CREATE TABLE t (x)", "PRAGMA application_id = 77"])
async def test_a_database_of_another_program(tmp_path: Path, sql: str) -> None:
    path = tmp_path / "data.db"
    with apsw.Connection(str(path)) as other:
        other.execute(sql).fetchall()
    other.close()
    content = path.read_bytes()
    await refuse(path, "HF4104")
    assert path.read_bytes() == content


async def test_a_newer_schema(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    newer = apsw.Connection(str(path))
    newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}").fetchall()
    newer.close()
    content = path.read_bytes()
    error = await refuse(path, "HF4105")
    assert f"version {SCHEMA_VERSION + 1}" in error.message
    assert path.read_bytes() == content


async def test_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(StorageError, match=r"3\.51\.2 is too old: 3\.51\.3.*HF4107"):
        await SqliteStore(tmp_path / "data.db").open()


@pytest.mark.parametrize("seed", range(5))
async def test_a_damaged_file(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    content = bytearray(path.read_bytes())
    page_count = len(content) // 4096
    # The start of a page tells what it is and where its cells are: never right by chance.
    page = random.Random(seed).randrange(1, page_count)
    for offset in range(page * 4096, page * 4096 + 12):
        content[offset] ^= 0xA5
    path.write_bytes(content)
    error = await refuse(path, "HF4106")
    assert isinstance(error, CorruptState)
    assert "backup" in error.hint
    assert path.read_bytes() == content


async def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    path.write_bytes(path.read_bytes()[:8192])
    assert isinstance(await refuse(path, "HF4106"), CorruptState)


async def test_a_large_file_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(tmp_path / "data.db")
    monkeypatch.setattr(file_module, "CHECK_SIZE_MAX", 1000)
    monkeypatch.setattr(file_module, "_check", None)
    store = SqliteStore(tmp_path / "data.db")
    await store.open()
    await store.close()


async def test_damage_that_is_met_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    content = bytearray(path.read_bytes())
    for page in range(30, len(content) // 4096):
        content[page * 4096 : page * 4096 + 12] = b"\xa5" * 12
    path.write_bytes(content)
    monkeypatch.setattr(file_module, "CHECK_SIZE_MAX", 0)
    store = SqliteStore(path)
    await store.open()
    journals = [store.journal(0, invocation(number).id) for number in range(300)]
    with pytest.raises(CorruptState, match=r"data\.db.*HF4106"):
        await asyncio.gather(*journals)
    await store.close()


async def test_a_row_that_cannot_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "data.db"
    await fill(path)
    tool = apsw.Connection(str(path))
    tool.execute("UPDATE invocation SET data = x'91' WHERE id = ?", (invocation(7).id,)).fetchall()
    tool.close()
    store = SqliteStore(path)
    await store.open()
    with pytest.raises(CorruptState, match=r"cannot be decoded: .*HF4113"):
        await store.with_status(0, Status.RUNNING, "", 1000)
    await store.close()


# -- migrations ------------------------------------------------------------------------------------


def test_migrations_are_numbered_without_a_gap() -> None:
    folder = Path(file_module.__file__).parent / "migration"
    names = sorted(path.name for path in folder.glob("*.sql"))
    assert names == [f"{number:04}.sql" for number in range(1, SCHEMA_VERSION + 1)]


async def test_a_migration_that_was_cut_off_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.db"
    with monkeypatch.context() as broken:
        broken.setattr(file_module, "APPLICATION_ID", "no number; SELECT")
        with pytest.raises(StorageError, match="HF4101"):
            await SqliteStore(path).open()
    await fill(path)
    tool = apsw.Connection(str(path))
    assert tool.execute("SELECT version FROM migration").fetchall() == [
        (version,) for version in range(1, SCHEMA_VERSION + 1)
    ]
    tool.close()


async def test_a_file_of_the_first_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "data.db"
    with monkeypatch.context() as old:
        old.setattr(file_module, "SCHEMA_VERSION", 1)
        store = SqliteStore(path, partition_count=3)
        await store.open()
        await store.acquire(0, "me", 1)
        await store.close()
    store = SqliteStore(path)
    await store.open()
    assert store.partition_count == 3
    epoch = await store.acquire(0, "me", 2)
    assert epoch == 2
    promise: Key = (Table.PROMISE, "signup", "k", "confirmed")
    await store.commit(batch(0, epoch, put={promise: PromiseRow(Value(b"1"))}))
    assert await store.load(0, [promise]) == {promise: PromiseRow(Value(b"1"))}
    await store.close()
