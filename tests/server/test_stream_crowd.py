"""Many readers of one stream behind real sockets: everyone gets everything, and it is made once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.ingress.stream_format import RawFormat
from holdfast.sdk.sse import EventParser
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from holdfast.transport.inprocess import InProcessPort

TOKENS = 100
crowd = hf.Service("Crowd")


@crowd.handler
async def speak(ctx: hf.Context, big: int) -> int:
    await ctx.signal("go")

    async def model() -> int:
        for number in range(TOKENS):
            await hf.emit([number, time.monotonic_ns(), "x" * big])
            await asyncio.sleep(0.002)
        return TOKENS

    return await ctx.run("model", model)


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[Server]:
    config = ServerConfig(
        store=f"sqlite:{folder / 'h.db'}", ingress="127.0.0.1:0", admin="127.0.0.1:0"
    )
    async with Server(config) as server:
        await server.host.attach_worker(InProcessPort(hf.App(crowd)))
        yield server


class Reader:
    """One connection to a stream."""

    def __init__(self, server: Server, invocation_id: str) -> None:
        self._address = (server.ingress.host, server.ingress.port)
        self._path = f"/holdfast/v1/invocations/{invocation_id}/stream"
        self.numbers: list[int] = []
        self.hops_ms: list[float] = []
        self.opened = asyncio.Event()
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def read(self) -> None:
        # A small buffer, so that one who does not read is soon behind.
        reader, writer = await asyncio.open_connection(*self._address, limit=4096)
        writer.write(f"GET {self._path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        await reader.readuntil(b"retry: 1000")
        self.opened.set()
        parser, has_ended = EventParser(), False
        while not has_ended:
            await self.may_read.wait()
            piece = await reader.read(4096)
            assert piece, "the stream ended without its end"
            # Chunks of HTTP have a line of their own, which is no field of an event.
            for event in parser.feed(piece):
                has_ended |= event.kind == "end"
                if event.kind == "message":
                    number, said_ns, _ = json.loads(event.data)
                    self.numbers.append(number)
                    self.hops_ms.append((time.monotonic_ns() - said_ns) / 1e6)
        writer.close()
        await writer.wait_closed()


async def gather_crowd(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> list[Reader]:
    shows = 0
    show = RawFormat.show

    def counted(self: RawFormat, *rest: Any) -> Any:
        nonlocal shows
        shows += 1
        return show(self, *rest)

    monkeypatch.setattr(RawFormat, "show", counted)
    async with serving(folder) as server, hf.Client(server.ingress_url) as client:
        sent = await client.send(speak, 10)
        readers = [Reader(server, sent.invocation_id) for _ in range(count)]
        reading = [asyncio.ensure_future(reader.read()) for reader in readers]
        await asyncio.gather(*(reader.opened.wait() for reader in readers))
        await client.signal(sent.invocation_id, "go")
        await asyncio.gather(*reading)
        assert server.host.streams._feeds == {}
    for reader in readers:
        assert reader.numbers == list(range(TOKENS))
    # Not once for each reader: those who are behind others have pages of their own.
    assert shows < TOKENS * 5, shows
    return readers


async def test_a_hundred_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(60):
        readers = await gather_crowd(tmp_path, 100, monkeypatch)
    hops = [hop for reader in readers for hop in reader.hops_ms]
    print(f"100 readers: p50 {statistics.median(hops):.1f} ms")


@pytest.mark.nightly
async def test_a_thousand_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(280):
        readers = await gather_crowd(tmp_path, 1000, monkeypatch)
    hops = [hop for reader in readers for hop in reader.hops_ms]
    print(f"1000 readers: p50 {statistics.median(hops):.1f} ms")


async def test_the_hop_of_a_token(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, hf.Client(server.ingress_url) as client:
        sent = await client.send(speak, 10)
        reader = Reader(server, sent.invocation_id)
        reading = asyncio.ensure_future(reader.read())
        await reader.opened.wait()
        await client.signal(sent.invocation_id, "go")
        await asyncio.wait_for(reading, 60)
    middle_ms = statistics.median(reader.hops_ms)
    print(f"one reader: p50 {middle_ms:.2f} ms")
    # Far more than it takes; but not a tick of polling, nor a wait for the next heartbeat.
    assert middle_ms < 1000


async def test_one_who_does_not_read_holds_nobody_up_and_gets_it_all(tmp_path: Path) -> None:
    async with (
        asyncio.timeout(60),
        serving(tmp_path) as server,
        hf.Client(server.ingress_url) as client,
    ):
        sent = await client.send(speak, 50_000)
        slow, fast = (Reader(server, sent.invocation_id) for _ in range(2))
        reading = [asyncio.ensure_future(reader.read()) for reader in (slow, fast)]
        await asyncio.gather(slow.opened.wait(), fast.opened.wait())
        slow.may_read.clear()
        await client.signal(sent.invocation_id, "go")
        await reading[1]
        assert fast.numbers == list(range(TOKENS))
        (feed,) = server.host.streams._feeds[sent.invocation_id].values()
        assert feed._recent_size_bytes < 1_000_000
        assert feed._pages_size_bytes < 2_000_000
        assert len(slow.numbers) < TOKENS
        slow.may_read.set()
        await reading[0]
        assert slow.numbers == list(range(TOKENS))
