"""Reading streams with the client: chunks, results, lost connections, and what is not repeated."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.client import Chunk, Replaced
from holdfast.domain.message import Failure, Value
from holdfast.ingress.app import create_ingress_app
from holdfast.sdk import stream_client
from holdfast.sdk.sse import EventParser, SentEvent
from tests.ingress.fake import INVOCATION_ID, FakeHandle
from tests.ingress.test_uvicorn import listening
from tests.server.fake_stream import Store

talk = hf.Service("Talk")


@talk.handler
async def count(ctx: hf.Context, number: int) -> int:
    for each in range(number):
        await ctx.emit(each)
    ctx.stream("log").emit("counted")
    if number == 13:
        raise hf.TerminalError("not thirteen", code=418)
    return number


@talk.handler
async def nothing(ctx: hf.Context) -> None:
    ctx.emit("silence")


@talk.handler
async def raw(ctx: hf.Context) -> bytes:
    return b"\xff\x00"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "_RETRY_DELAY_S_MAX", 0.01)


# -- in process ------------------------------------------------------------------------------------


async def test_a_stream_and_its_result(tmp_path: Path) -> None:
    async with hf.embedded(hf.App(talk), store=f"sqlite:{tmp_path / 'a.db'}") as client:
        stream = client.stream(count, 3)
        assert [event async for event in stream] == [Chunk(n, f"{n + 1}-1") for n in range(3)]
        assert await stream.result() == 3
        again = client.read_stream(stream.invocation_id, last_id="2-1")
        assert [event async for event in again] == [Chunk(2, "3-1")]
        log = client.read_stream(stream.invocation_id, stream="log")
        assert [event async for event in log] == [Chunk("counted", "1-1")]


async def test_results_of_all_kinds_and_failures() -> None:
    async with hf.embedded(hf.App(talk), store="memory:") as client:
        assert await client.stream(nothing).result() is None
        assert await client.stream(raw).result() == b"\xff\x00"
        assert await client.stream("Talk/count", 2).result() == 2
        failed = client.stream(count, 13)
        assert len([event async for event in failed]) == 13
        with pytest.raises(hf.TerminalError, match="not thirteen") as why:
            await failed.result()
        assert why.value.code == 418


async def test_bad_requests_in_process() -> None:
    async with hf.embedded(hf.App(talk), store="memory:") as client:
        with pytest.raises(hf.UsageError) as refused:
            client.stream(count, 1, stream="a/b")
        assert refused.value.code == "HF0562"
        with pytest.raises(hf.UsageError) as bad:
            await client.read_stream("inv_x").result()
        assert bad.value.code == "HF1003"
        with pytest.raises(hf.NotFoundError):
            await client.read_stream(INVOCATION_ID).result()


async def test_one_who_leaves_early_leaves_nothing() -> None:
    async with hf.embedded(hf.App(talk), store="memory:") as client:
        stream = client.stream(count, 1000)
        assert await anext(stream) == Chunk(0, "1-1")
        await stream.aclose()
        assert client._handle.streams._feeds == {}  # type: ignore[attr-defined]
        with pytest.raises(hf.UsageError, match="closed before its end"):
            await stream.result()
        assert await client.attach(stream.invocation_id) == 1000


# -- over HTTP -------------------------------------------------------------------------------------


@pytest.fixture
def handle() -> FakeHandle:
    return FakeHandle()


@pytest.fixture
def store(handle: FakeHandle) -> Store:
    store = Store(INVOCATION_ID)
    handle.streams = store.feeds  # type: ignore[attr-defined]
    return store


@contextlib.asynccontextmanager
async def served(handle: FakeHandle) -> AsyncGenerator[hf.Client]:
    """A client of a server behind a socket."""
    async with (
        listening(create_ingress_app(handle)) as port,
        hf.Client(f"http://127.0.0.1:{port}") as client,
    ):
        yield client


async def test_it_goes_on_when_the_server_comes_back(handle: FakeHandle, store: Store) -> None:
    seen: list[Any] = []
    async with served(handle) as client, asyncio.timeout(20):
        stream = client.stream("Greeter/greet", {"a": 1}, idempotency_key="k")
        store.write("a", lane=1)
        store.write("lost", lane=2)
        seen += [await anext(stream), await anext(stream)]
        # The server stops, and another one has the same store.
        store.feeds.close()
        other = Store(INVOCATION_ID)
        other.rows = store.rows
        handle.streams = other.feeds  # type: ignore[attr-defined]
        other.write(lane=2, lost_from_id=2)
        other.write("new", lane=3)
        other.end(Value(b"5"))
        seen += [event async for event in stream]
        assert await stream.result() == 5
    assert seen == [
        Chunk("a", "1-1"),
        Chunk("lost", "2-2"),
        Replaced(2, "3-2"),
        Chunk("new", "4-3"),
    ]
    assert len(handle.requests) == 1
    assert stream.invocation_id == INVOCATION_ID


async def test_a_request_without_a_key_is_not_repeated(handle: FakeHandle) -> None:
    async with hf.Client("http://127.0.0.1:1") as client:
        with pytest.raises(hf.TransportError):
            await client.stream("Greeter/greet").result()


async def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_client, "PATIENCE_S", 0.05)
    async with hf.Client("http://127.0.0.1:1") as client, asyncio.timeout(10):
        with pytest.raises(hf.TransportError):
            await client.read_stream(INVOCATION_ID).result()


async def test_what_the_server_refuses_is_told(handle: FakeHandle, store: Store) -> None:
    async with served(handle) as client:
        with pytest.raises(hf.NotFoundError):
            await client.stream("Nobody/greet", 1).result()
        store.is_there = False
        with pytest.raises(hf.NotFoundError):
            await client.read_stream(INVOCATION_ID).result()


async def test_a_failure_over_http(handle: FakeHandle, store: Store) -> None:
    store.end(Failure(418, "no tea", {"why": "pot"}))
    async with served(handle) as client:
        with pytest.raises(hf.TerminalError) as why:
            await client.stream("Greeter/greet", 1).result()
        assert (why.value.code, why.value.metadata) == (418, {"why": "pot"})


# -- events ----------------------------------------------------------------------------------------


def test_events_are_read_whatever_the_pieces_are() -> None:
    text = (
        b"retry: 1000\n\n:\n\nid: 1-1\ndata: {}\n\n"
        b"id: 2-1\r\nevent: replace\r\ndata: a\r\ndata:b\r\n\r\ndata: last\r\r"
    )
    expected = [
        SentEvent("1-1", "message", b"{}"),
        SentEvent("2-1", "replace", b"a\nb"),
        SentEvent("", "message", b"last"),
    ]
    for size in range(1, len(text) + 1):
        parser = EventParser()
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        # A break at the very end shows only when something follows.
        found = [event for piece in (*pieces, b"\n") for event in parser.feed(piece)]
        assert found == expected, size
