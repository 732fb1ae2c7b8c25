"""The ingress behind a real HTTP server, spoken to over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import uvicorn

from holdfast.domain.message import Failure, Value
from holdfast.domain.target import Target
from holdfast.ingress import wait
from holdfast.ingress.app import create_ingress_app
from holdfast.server.handle import Finished
from holdfast.web.asgi import ASGIApp
from tests.ingress.fake import BODY_SIZE_BYTES_MAX, INVOCATION_ID, FakeHandle


@contextlib.asynccontextmanager
async def listening(app: ASGIApp) -> AsyncGenerator[int]:
    """Serve an application on a free port of loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, http="httptools", log_level="critical", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.001)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@pytest.fixture
async def port(handle: FakeHandle) -> AsyncGenerator[int]:
    async with listening(create_ingress_app(handle)) as port:
        yield port


class Wire:
    """One connection, written to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(status.split()[1]), headers, body

    async def is_closed(self) -> bool:
        try:
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        except ConnectionError:
            return True


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    text = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    return "\r\n".join([*text, *lines, "", ""]).encode()


def error_code(body: bytes) -> Any:
    return json.loads(body)["error_code"]


async def test_calls_on_one_connection(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        for index in range(3):
            wire.write(head("/Greeter/greet", "content-length: 1") + b"%d" % index)
            status, headers, body = await wire.read_response()
            assert (status, body) == (200, b'"hi"')
            assert headers["x-restate-id"] == INVOCATION_ID
    assert [request.body for request in handle.requests] == [b"0", b"1", b"2"]


async def test_pipelined_calls(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write((head("/Greeter/greet", "content-length: 1") + b"1") * 5)
        for _ in range(5):
            assert (await wire.read_response())[0] == 200


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/Cart/a%2Fb%2F..%2Fc/add", "a/b/../c"),
        ("/Cart/gr%C3%BC%C3%9Fe%F0%9F%A6%8A/add", "grüße🦊"),
        ("/Cart/%2525/add", "%25"),
        ("/Cart/a+b%20c/add", "a+b c"),
        ("/Cart/%3F%23/add", "?#"),
        ("/Cart/restate/add", "restate"),
    ],
)
async def test_keys(port: int, handle: FakeHandle, path: str, key: str) -> None:
    async with connected(port) as wire:
        wire.write(head(path, "content-length: 2") + b"{}")
        assert (await wire.read_response())[0] == 200
    assert handle.requests[0].target == Target("Cart", "add", key)
    assert handle.requests[0].headers[0] == ("x-restate-ingress-path", path)


async def test_chunked_bodies(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "transfer-encoding: chunked"))
        for piece in (b'"', b"A" * 200_000, b'"'):
            wire.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await wire.writer.drain()
        wire.write(b"0\r\n\r\n")
        assert (await wire.read_response())[0] == 200
    assert handle.requests[0].body == b'"' + b"A" * 200_000 + b'"'


async def test_large_bodies_are_refused_at_once(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", f"content-length: {BODY_SIZE_BYTES_MAX + 1}"))
        status, headers, body = await wire.read_response()
        assert (status, error_code(body)) == (413, "HF1028")
        assert headers["connection"] == "close"
    assert handle.requests == []


async def test_an_upload_that_is_too_large_gets_its_answer(port: int, handle: FakeHandle) -> None:
    size = 8 * BODY_SIZE_BYTES_MAX
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", f"content-length: {size}") + b"1" * size)
        status, _, body = await wire.read_response()
        assert (status, error_code(body)) == (413, "HF1028")
        assert await wire.is_closed()
    assert handle.requests == []


async def test_endless_chunks_are_refused(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b"1" * 65_536 + b"\r\n"
        for _ in range(BODY_SIZE_BYTES_MAX // 65_536 + 2):
            wire.write(chunk)
        status, _, body = await wire.read_response()
        assert (status, error_code(body)) == (413, "HF1028")
    assert handle.requests == []


async def test_expected_bodies_are_asked_for_or_refused(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1", "expect: 100-continue"))
        assert (await wire.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        wire.write(b"1")
        assert (await wire.read_response())[0] == 200
    async with connected(port) as wire:
        wire.write(head("/Nobody/greet", "content-length: 1", "expect: 100-continue"))
        status, headers, _ = await wire.read_response()
        assert (status, headers["connection"]) == (404, "close")
        assert await wire.is_closed()


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("/Greeter/greet", "content-length: -1") + b"1",
        head("/Greeter/greet", "content-length: x") + b"1",
        head("/Greeter/greet", "content-length: 1", "content-length: 2") + b"1",
        head("/Greeter/greet", "content-length: 1", "transfer-encoding: chunked") + b"0\r\n\r\n",
        head("/Greeter/greet", "transfer-encoding: chunked") + b"zz\r\n1\r\n",
        b"nonsense\r\n\r\n",
        "POST /Cart/ö/add HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n".encode(),
    ],
    ids=["negative", "text", "twice", "smuggled", "bad chunk", "garbage", "raw UTF-8"],
)
async def test_broken_requests_are_closed(
    port: int, handle: FakeHandle, request_bytes: bytes
) -> None:
    async with connected(port) as wire:
        wire.write(request_bytes)
        status = await asyncio.wait_for(wire.reader.readuntil(b"\r\n"), 10)
        assert status == b"HTTP/1.1 400 Bad Request\r\n"
        await wire.reader.read()
    assert handle.requests == []


async def test_a_body_shorter_than_said_begins_nothing(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 10") + b"1")
        wire.writer.write_eof()
        assert await wire.is_closed()
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1") + b"1")
        assert (await wire.read_response())[0] == 200
    assert len(handle.requests) == 1


async def test_a_body_longer_than_said_is_the_next_request(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1") + b"1garbage\r\n\r\n")
        status = await asyncio.wait_for(wire.reader.readuntil(b"\r\n"), 10)
        assert status.split()[1] in (b"200", b"400")
    assert [request.body for request in handle.requests] in ([b"1"], [])


async def test_a_disconnect_ends_the_wait_and_not_the_invocation(
    port: int, handle: FakeHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wait, "_WATCH_AFTER_S", 0.0)
    handle.gate = asyncio.Event()
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1") + b"1")
        await asyncio.wait_for(handle.began.wait(), 10)
        assert handle.waiting_count == 1
    async with asyncio.timeout(10):
        while handle.waiting_count:
            await asyncio.sleep(0.001)
    assert len(handle.requests) == 1
    assert handle.killed == []
    assert handle.signals == []
    handle.gate.set()
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1") + b"2")
        assert (await wire.read_response())[0] == 200


@pytest.mark.parametrize("code", [100, 204, 304, 418, 599, 600, 999, 9999])
async def test_any_failure_reaches_the_client(port: int, handle: FakeHandle, code: int) -> None:
    handle.finished = Finished(INVOCATION_ID, Failure(code, "no"), 0)
    async with connected(port) as wire:
        for _ in range(2):
            wire.write(head("/Greeter/greet", "content-length: 1") + b"1")
            status, _, body = await wire.read_response()
            assert status == (code if code in (418, 599) else 500)
            assert json.loads(body)["code"] == code


async def test_large_results(port: int, handle: FakeHandle) -> None:
    handle.finished = Finished(INVOCATION_ID, Value(b"1" * 5_000_000), 0)
    async with connected(port) as wire:
        wire.write(head("/Greeter/greet", "content-length: 1") + b"1")
        assert (await wire.read_response())[2] == b"1" * 5_000_000


async def test_foreign_hosts(port: int, handle: FakeHandle) -> None:
    async with connected(port) as wire:
        wire.write(b"GET /Greeter/ping HTTP/1.1\r\nhost: rebound.example:8080\r\n\r\n")
        status, _, body = await wire.read_response()
        assert (status, error_code(body)) == (421, "HF1008")
    assert handle.requests == []
