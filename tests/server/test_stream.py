"""What readers of a stream get, and what that costs: from memory, from the store, at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.domain.errors import NotFoundError, StorageUnavailable
from holdfast.domain.message import Value
from holdfast.server import stream as stream_module
from holdfast.server.handle import Finished
from holdfast.server.stream_port import Page, StreamSource

from .fake_stream import Store

INV = "inv_1"
DONE = Finished(INV, Value(b"1"), 0)


def texts(page: Any) -> str:
    assert isinstance(page, Page), page
    return b"".join(c for _, row in page.rows for c in row.chunks).decode().replace('"', "")


async def read_all(source: StreamSource, after: int = 0) -> str:
    """Read to the end, and return what is not replaced."""
    shown: list[tuple[int, str]] = []
    while not isinstance(page := await source.next(after, 5.0), Finished):
        assert page is not None
        for _, row in page.rows:
            shown += [(row.lane, chunk.decode().strip('"')) for chunk in row.chunks]
            if not row.chunks:
                shown = [(lane, text) for lane, text in shown if lane != row.lane]
        after = page.last_id
    return "".join(text for _, text in shown)


async def test_what_was_there_comes_from_the_store_and_the_rest_from_memory() -> None:
    store = Store()
    store.write("a")
    store.write("b")
    source = await store.feeds.open(INV, "default")
    page = await source.next(0, 1.0)
    assert texts(page) == "ab"
    reading = asyncio.ensure_future(source.next(2, 5.0))
    await asyncio.sleep(0)
    store.write("c", "d")
    assert texts(await reading) == "cd"
    reads = len(store.reads)
    store.write("e")
    assert texts(await source.next(4, 1.0)) == "e"
    assert len(store.reads) == reads
    store.end()
    assert await source.next(5, 1.0) == DONE
    source.close()


async def test_a_place_in_the_middle_of_a_row() -> None:
    store = Store()
    store.write("a", "b", "c")
    source = await store.feeds.open(INV, "default")
    assert texts(await source.next(1, 1.0)) == "bc"
    store.write("d", "e")
    assert texts(await source.next(4, 1.0)) == "e"
    source.close()


async def test_nothing_for_a_while() -> None:
    store = Store()
    source = await store.feeds.open(INV, "default")
    assert await source.next(0, 0.01) is None
    source.close()


async def test_one_that_has_ended_before() -> None:
    store = Store()
    store.write("a")
    store.outcome = DONE
    source = await store.feeds.open(INV, "default")
    assert await read_all(source) == "a"
    source.close()


async def test_what_is_published_while_the_store_is_read_is_not_missed() -> None:
    store = Store()
    store.answers = asyncio.Event()
    source = await store.feeds.open(INV, "default")
    reading = asyncio.ensure_future(source.next(0, 5.0))
    while not store.reads:
        await asyncio.sleep(0)
    store.write("a")
    store.write("b")
    store.answers.set()
    assert texts(await reading) == "ab"
    source.close()


async def test_an_end_while_the_store_is_read_comes_at_once_and_behind_the_chunks() -> None:
    store = Store()
    store.answers = asyncio.Event()
    source = await store.feeds.open(INV, "default")
    reading = asyncio.ensure_future(read_all(source))
    while not store.reads:
        await asyncio.sleep(0)
    store.write("a")
    store.end()
    store.answers.set()
    assert await asyncio.wait_for(reading, 1.0) == "a"
    source.close()


async def test_readers_at_one_place_share_what_is_read() -> None:
    store = Store()
    for text in "abcd":
        store.write(text)
    sources = [await store.feeds.open(INV, "default") for _ in range(50)]
    pages = await asyncio.gather(*(source.next(0, 1.0) for source in sources))
    assert store.reads == [0]
    assert all(page is pages[0] for page in pages)
    reading = [asyncio.ensure_future(source.next(4, 5.0)) for source in sources]
    await asyncio.sleep(0)
    store.write("e")
    # More than are woken in one turn of the loop.
    pages = await asyncio.gather(*reading)
    assert all(page is pages[0] for page in pages)
    for source in sources:
        source.close()


async def test_a_slow_reader_reads_from_the_store_and_costs_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_module, "_RECENT_SIZE_BYTES", 500)
    monkeypatch.setattr(stream_module, "_PAGES_SIZE_BYTES", 500)
    store = Store()
    fast = await store.feeds.open(INV, "default")
    slow = await store.feeds.open(INV, "default")
    assert await fast.next(0, 0.01) is None
    after = 0
    for number in range(200):
        store.write(f"{number} ")
        page = await fast.next(after, 1.0)
        assert isinstance(page, Page)
        after = page.last_id
    feed = store.feeds._feeds[INV]["default"]
    assert feed._recent_size_bytes <= 500
    assert sum(page.size_bytes for page in feed._pages.values()) <= 500
    store.end()
    assert await read_all(slow) == "".join(f"{number} " for number in range(200))
    fast.close()
    slow.close()


async def test_a_lost_lane_is_told_to_those_who_may_have_it() -> None:
    store = Store()
    store.write("a", lane=1)
    store.write("lost", "lost", lane=2)
    source = await store.feeds.open(INV, "default")
    seen = await source.next(0, 1.0)
    assert texts(seen) == "alostlost"
    store.write(lane=2, lost_from_id=2)
    store.write("new", lane=3)
    page = await source.next(3, 1.0)
    assert isinstance(page, Page)
    assert [(i, row.lane, len(row.chunks)) for i, row in page.rows] == [(4, 2, 0), (5, 3, 1)]
    store.end()
    assert await read_all(source, 5) == ""
    late = await store.feeds.open(INV, "default")
    assert await read_all(late) == "anew"
    source.close()
    late.close()


async def test_what_was_deleted_before_anybody_came_holds_nobody_up() -> None:
    store = Store()
    store.write("a", lane=1)
    source = await store.feeds.open(INV, "default")
    # The store is empty, as after a purge, and what was published last is not.
    store.write("b", lane=1)
    store.rows.clear()
    assert texts(await asyncio.wait_for(source.next(0, 1.0), 1.0)) == "b"
    source.close()


async def test_an_unknown_invocation_is_told_to_all_who_ask() -> None:
    store = Store()
    store.is_there = False
    results = await asyncio.gather(
        *(store.feeds.open(INV, "default") for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [NotFoundError] * 3
    assert store.feeds._feeds == {}


async def test_nothing_is_kept_when_all_have_left() -> None:
    store = Store()
    sources = [await store.feeds.open(INV, name) for name in ("default", "log", "log")]
    for source in sources:
        source.close()
        source.close()
    assert store.feeds._feeds == {}
    store.write("a")
    store.end()


async def test_a_reader_who_gives_up_waiting_leaves_nothing() -> None:
    store = Store()
    source = await store.feeds.open(INV, "default")
    reading = asyncio.ensure_future(source.next(0, 50.0))
    await asyncio.sleep(0.001)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not store.feeds._feeds[INV]["default"]._waiters
    source.close()


async def test_when_the_server_stops_readers_are_sent_away() -> None:
    store = Store()
    source = await store.feeds.open(INV, "default")
    reading = asyncio.ensure_future(source.next(0, 50.0))
    await asyncio.sleep(0.001)
    store.feeds.close()
    with pytest.raises(StorageUnavailable):
        await asyncio.wait_for(reading, 1.0)
    with pytest.raises(StorageUnavailable):
        await store.feeds.open(INV, "default")
    source.close()
    assert store.feeds._feeds == {}
