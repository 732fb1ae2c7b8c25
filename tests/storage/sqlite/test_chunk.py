"""Large values are kept once, and nobody can see it."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from holdfast.domain.errors import StorageError
from holdfast.domain.message import (
    Call,
    GetEagerState,
    Input,
    Output,
    SetState,
    Value,
    Void,
)
from holdfast.engine.decision import ClearState, DeleteJournal
from holdfast.engine.row import Lookup, StateRow, Table
from holdfast.storage.memory import MemoryStore
from holdfast.storage.scan import Scan, Source
from holdfast.storage.sqlite import SqliteStore
from holdfast.storage.sqlite.chunk import PIECE_BYTES_MIN, Cut, cut
from tests.storage.builder import batch, entry, invocation, invocation_id, run_completion

SMALL = b"x" * (PIECE_BYTES_MIN - 50)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(tmp_path / "data.db", 1)
    await made.open()
    yield made
    await made.close()


def ask(store: SqliteStore, sql: str) -> list[tuple[Any, ...]]:
    """Look into the file from outside."""
    connection = apsw.Connection(str(store.path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [tuple(row) for row in connection.execute(sql).fetchall()]
    finally:
        connection.close()


def check_counts(store: SqliteStore) -> int:
    """Count again who has which piece; return how many pieces there are."""
    uses: Counter[bytes] = Counter()
    for table in ("journal", "state", "content", "chunk"):
        for (chunks,) in ask(store, f"SELECT chunks FROM {table} WHERE chunks IS NOT NULL"):
            uses.update(hash_ for _, hash_ in struct.iter_unpack(">I16s", chunks))
    assert dict(ask(store, "SELECT hash, count FROM chunk_count")) == uses
    assert {row[0] for row in ask(store, "SELECT hash FROM chunk")} == uses.keys()
    return len(uses)


def prose(number: int, words: int = 300) -> str:
    return " ".join(str(Random(f"{number}/{n}").random()) for n in range(words))


def history(length: int, words: int = 300) -> bytes:
    """A list of messages, each of which is as long as an answer."""
    messages = [{"role": "user", "content": prose(n, words)} for n in range(length)]
    return json.dumps(messages, separators=(",", ":")).encode()


def parts(value: bytes) -> set[bytes]:
    return {part.hash for part in cut(value, value).parts}


def whole(value: Cut, pieces: dict[bytes, bytes]) -> bytes:
    found: list[bytes] = []
    end = 0
    for place, hash_ in struct.iter_unpack(">I16s", value.chunks or b""):
        found += (value.data[end:place], pieces[hash_])
        end = place
    return b"".join((*found, value.data[end:]))


# -- cutting ---------------------------------------------------------------------------------------


def test_small_values_stay_whole() -> None:
    assert cut(b"head" + SMALL, SMALL) == (b"head" + SMALL, None, ())


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 200_000,
        history(3),
        history(3)[:-1],
        b'{"items":' + history(50) + b"}",
        history(300, words=5),
        json.dumps([prose(1, 5000), prose(2)]).encode(),
        b'"' + b'\\"' * 3000,
    ],
)
def test_parts_and_the_rest_are_the_whole(value: bytes) -> None:
    made = cut(b"head" + value + b"tail", value)
    assert made.parts
    pieces = {part.hash: part.content for part in made.parts}
    assert whole(made, pieces) == b"head" + value + b"tail"
    assert all(len(content) >= PIECE_BYTES_MIN for content in pieces.values())
    assert len(made.data) + len(made.chunks or b"") < 8_000


@pytest.mark.parametrize(("words", "length"), [(300, 40), (5, 2000)])
def test_what_is_appended_to_a_list_adds_its_own_parts_only(words: int, length: int) -> None:
    shorter, longer = parts(history(length, words)), parts(history(length + 1, words))
    assert len(longer - shorter) == 1
    sections = [p for p in cut(*[history(length, words)] * 2).parts if p.is_section]
    assert len(sections) >= 4


def test_a_text_is_one_part_wherever_it_is_said() -> None:
    text = json.dumps(prose(3)).encode()
    (alone,) = parts(text)
    assert alone in parts(history(4))
    assert alone in parts(b'{"role":"user","content":' + text + b"}")


# -- storing ---------------------------------------------------------------------------------------


async def test_large_values_read_back(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    value = history(5)
    entries = [
        Input(Value(value), headers=(("a", "b"),)),
        GetEagerState("h", Value(value), key="get:h#0"),
        GetEagerState("h", Void()),
        SetState("h", Value(value), expires_at_ms=9),
        Call("s", "h", value, None, (), None, 1, 2),
        run_completion(3, value),
        Output(Value(value), site="x"),
    ]
    rows = [entry(1, index, each) for index, each in enumerate(entries)]
    state = StateRow(value, 5)
    key = (Table.STATE, "s", "k", "h")
    await store.commit(batch(0, epoch, invocation(1), put={key: state}, journal=rows))
    assert await store.journal(0, invocation_id(1)) == rows
    place = (Lookup.ENTRY, invocation_id(1), 3)
    assert await store.load(0, [key, place]) == {key: state, place: entries[3]}
    assert (await store.state(0, "s", "k", 0)).entries == {"h": state}
    scanned = [row async for page in store.scan(Scan(Source.JOURNAL)) for row in page]
    assert scanned == rows
    states = [row async for page in store.scan(Scan(Source.STATE)) for row in page]
    assert [each.row for each in states] == [state]  # type: ignore[union-attr]
    assert check_counts(store) == 5
    # Once, and compressed.
    assert ask(store, "SELECT sum(length(data)) FROM chunk")[0][0] < len(value) * 0.6
    assert ask(store, "SELECT max(length(data)) FROM journal")[0][0] < 200


async def test_pieces_go_with_their_last_row(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    key = (Table.STATE, "s", "k", "h")
    for number in (1, 2):
        change = batch(
            0,
            epoch,
            invocation(number),
            put={key: StateRow(history(number))},
            journal=[entry(number, 0, SetState("h", Value(history(number))))],
        )
        await store.commit(change)
        check_counts(store)
    await store.commit(batch(0, epoch, ranges=[ClearState("s", "k")], put={key: StateRow(SMALL)}))
    assert check_counts(store) == 2
    await store.commit(batch(0, epoch, ranges=[DeleteJournal(invocation_id(2))]))
    assert check_counts(store) == 1
    gone = (Table.INVOCATION, invocation_id(1))
    both = batch(0, epoch, ranges=[DeleteJournal(invocation_id(1))], put={gone: None})
    await store.commit(both)
    assert check_counts(store) == 0


async def test_a_part_that_is_missing(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    row = entry(1, 0, Input(Value(history(3))))
    await store.commit(batch(0, epoch, invocation(1), journal=[row]))
    await store.close()
    connection = apsw.Connection(str(store.path))
    connection.execute("DELETE FROM chunk WHERE rowid = 2")
    connection.close()
    await store.open()
    with pytest.raises(StorageError, match="HF41"):
        await store.journal(0, invocation_id(1))


async def test_a_refused_batch_counts_nothing(store: SqliteStore) -> None:
    epoch = await store.acquire(0, "me", 1)
    row = entry(1, 0, Input(Value(history(2))))
    await store.commit(batch(0, epoch, invocation(1), journal=[row]))
    with pytest.raises(StorageError, match="HF4112"):
        await store.commit(batch(0, epoch, journal=[entry(1, 1, Output(Value(history(3)))), row]))
    assert check_counts(store) == 2


@pytest.mark.parametrize("seed", range(4))
async def test_counts_are_right_whatever_is_written(store: SqliteStore, seed: int) -> None:
    random = Random(seed)
    memory = MemoryStore(1)
    epoch = await store.acquire(0, "me", 1)
    assert await memory.acquire(0, "me", 1) == epoch
    lengths = dict.fromkeys(range(4), 0)
    values = [b"small", *(history(n) for n in (1, 2, 20, 21)), b"y" * 40_000]
    for _ in range(120):
        put: dict[Any, Any] = {}
        ranges: list[Any] = []
        journal = []
        for _ in range(random.randint(1, 3)):
            key = (Table.STATE, "s", "k", random.choice("uv"))
            put[key] = random.choice([None, StateRow(random.choice(values), 9)])
        if random.random() < 0.2:
            ranges.append(ClearState("s", "k"))
        number = random.randrange(4)
        identity = (Table.INVOCATION, invocation_id(number))
        if lengths[number] and random.random() < 0.3:
            lengths[number] = 0
            ranges.append(DeleteJournal(invocation_id(number)))
            put[identity] = None
        else:
            put[identity] = invocation(number)
            for _ in range(random.randint(1, 2)):
                said = Output(Value(random.choice(values)))
                journal.append(entry(number, lengths[number], said))
                lengths[number] += 1
        change = batch(0, epoch, put=put, ranges=ranges, journal=journal)
        await memory.commit(change)
        await store.commit(change)
        check_counts(store)
        for each in range(4):
            wanted = await memory.journal(0, invocation_id(each))
            assert await store.journal(0, invocation_id(each)) == wanted
        assert await store.state(0, "s", "k", 0) == await memory.state(0, "s", "k", 0)
