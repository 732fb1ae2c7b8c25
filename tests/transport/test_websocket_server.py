"""The server's side of the worker socket, against a client that says what a test wants."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import msgspec
import pytest
from carrier_harness import (
    ENTRIES,
    MANIFEST,
    PATIENCE_S,
    FakeRegistry,
    FakeServerStream,
    Listener,
    completion,
    run_command,
    start_of,
)
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from holdfast.domain.errors import StorageUnavailable, UsageError
from holdfast.domain.message import Input, Value
from holdfast.protocol import frame as wire
from holdfast.transport import websocket_server
from holdfast.transport.base import HandlerPort

pytestmark = pytest.mark.asyncio


def dial(listener: Listener, **options: object) -> connect:
    """Connect as a worker does."""
    url = listener.url.replace("http", "ws") + wire.PATH
    subprotocols = [Subprotocol(wire.SUBPROTOCOL)]
    return connect(url, subprotocols=subprotocols, proxy=None, **options)  # type: ignore[arg-type]


def hello(**changes: object) -> wire.Hello:
    """Return a Hello that a server takes."""
    good = wire.Hello(
        version=wire.SOCKET_VERSION,
        deployment_name="greeter",
        instance="w1",
        sdk="test/1",
        manifest=MANIFEST,
    )
    return msgspec.structs.replace(good, **changes)


async def read(socket: ClientConnection) -> list[wire.ToWorker]:
    """Return the frames of the next message."""
    async with asyncio.timeout(PATIENCE_S):
        return wire.decode_to_worker(await socket.recv(decode=False))


async def read_to_close(socket: ClientConnection) -> tuple[list[wire.ToWorker], int | None]:
    """Return all frames up to the end of the connection, and the code it closed with."""
    frames: list[wire.ToWorker] = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames += await read(socket)
    return frames, socket.close_code


@contextlib.asynccontextmanager
async def welcomed(
    registry: FakeRegistry, listener: Listener, **changes: object
) -> AsyncIterator[tuple[ClientConnection, HandlerPort]]:
    """Connect a worker that the server has taken."""
    count = len(registry.ports)
    async with dial(listener) as socket:
        await socket.send(wire.encode([hello(**changes)]))
        assert await read(socket) == [wire.Welcome(wire.SOCKET_VERSION, "dp_1greeter")]
        yield socket, await registry.port(count)


async def test_attempts_opened_while_registering_come_after_welcome() -> None:
    registry = FakeRegistry()
    stream = FakeServerStream()
    registry.on_attach = lambda port: port.open(start_of(), ENTRIES, stream)
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, _):
        assert await read(socket) == [wire.Open(1, start_of(), ENTRIES)]


async def test_frames_of_one_turn_travel_in_one_message() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        for _ in range(20):
            port.open(start_of(), ENTRIES, FakeServerStream()).send([completion(1)])
        frames = await read(socket)
        assert len(frames) == 40
        assert [frame.stream for frame in frames if isinstance(frame, wire.Open)] == [*range(1, 21)]


async def test_fragments_and_pings_among_whole_messages_keep_the_order() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        stream = FakeServerStream()
        port.open(start_of(), ENTRIES, stream)
        await read(socket)
        for number in range(1, 10):
            messages = wire.encode_messages([run_command(number)])
            data = wire.encode([wire.Messages(1, messages)])
            # As a proxy may send it.
            await socket.send([data[:7], data[7:]] if number in (4, 5, 8) else data)
            if number in (2, 6):
                await asyncio.wait_for(await socket.ping(), PATIENCE_S)
        await stream.until(lambda: len(stream.messages) == 9)
        assert stream.messages == [run_command(number) for number in range(1, 10)]


async def test_a_malformed_payload_fails_its_own_attempt_only() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        bad, good = FakeServerStream(), FakeServerStream()
        port.open(start_of("a"), ENTRIES, bad)
        port.open(start_of("b"), ENTRIES, good)
        await read(socket)
        broken = msgspec.Raw(msgspec.msgpack.encode([[0x0411, "not a number"]]))
        await socket.send(
            wire.encode(
                [
                    wire.Messages(1, broken),
                    wire.Messages(2, wire.encode_messages([])),
                    wire.Messages(2, wire.encode_messages([run_command(1)])),
                    wire.Messages(1, wire.encode_messages([run_command(2)])),
                    wire.Closed(1, "too late"),
                ]
            )
        )
        assert await read(socket) == [wire.Abort(1)]
        await good.until(lambda: bool(good.messages))
        assert good.calls == [(run_command(1),)]
        assert bad.messages == []
        assert len(bad.closed) == 1
        assert "HF2002" in str(bad.closed[0])
        assert registry.detached == []


async def test_a_server_that_fails_to_take_a_message_keeps_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeServerStream):
        def on_messages(self, messages: object) -> None:
            raise RuntimeError("bug")

    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        broken = Broken()
        port.open(start_of(), ENTRIES, broken)
        await read(socket)
        messages = wire.encode_messages([run_command(1)])
        await socket.send(wire.encode([wire.Messages(1, messages)]))
        assert await read(socket) == [wire.Abort(1)]
        assert broken.closed == ["the server failed to take a message; see its log"]
    assert "failed to take messages" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91\x91\xa7unknown",
        wire.encode([wire.Closed(7)]),
        wire.encode([wire.Closed(0)]),
        wire.encode([hello()]),
        "text",
    ],
    ids=["empty", "garbage", "unknown frame", "unopened stream", "zero", "second hello", "text"],
)
async def test_a_malformed_frame_ends_the_connection(data: bytes | str) -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        stream = FakeServerStream()
        port.open(start_of(), ENTRIES, stream)
        await read(socket)
        await socket.send(data)
        assert await read_to_close(socket) == ([], 1002)
        assert stream.closed == ["worker connection lost"]
        assert registry.detached == [port]


async def test_what_passed_an_abort_on_the_wire_is_ignored() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        port.open(start_of(), ENTRIES, FakeServerStream()).abort()
        assert await read(socket) == [wire.Open(1, start_of(), ENTRIES), wire.Abort(1)]
        nothing = wire.encode_messages([])
        await socket.send(wire.encode([wire.Closed(1), wire.Messages(1, nothing), wire.Draining()]))
        while not port.is_draining:
            await asyncio.sleep(0)
        assert registry.detached == []


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (wire.encode([wire.Draining()]), "Expected one Hello"),
        (wire.encode([]), "Expected one Hello"),
        (b"\xc1", "Malformed frames from a worker"),
    ],
)
async def test_hello_comes_first(first: bytes, says: str, caplog: pytest.LogCaptureFixture) -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, dial(listener) as socket:
        await socket.send(first)
        assert await read_to_close(socket) == ([], 1002)
    assert says in caplog.text
    assert registry.ports == []


async def test_a_silent_newcomer_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_server, "_HELLO_TIMEOUT_S", 0.01)
    async with Listener(FakeRegistry()) as listener, dial(listener) as socket:
        assert await read_to_close(socket) == ([], 1002)


async def test_another_version_is_refused() -> None:
    async with Listener(FakeRegistry()) as listener, dial(listener) as socket:
        await socket.send(wire.encode([hello(version=2)]))
        (refused,), code = await read_to_close(socket)
        assert isinstance(refused, wire.Refused)
        assert refused.code == "HF1303"
        assert "version 2" in refused.message
        assert "version 1" in refused.message
        assert code == 1008


async def test_a_manifest_that_cannot_be_served_is_refused_with_the_servers_words() -> None:
    registry = FakeRegistry()
    registry.failures.append(UsageError("Greeter has two greet", code="HF1301", hint="Rename one"))
    async with Listener(registry) as listener, dial(listener) as socket:
        await socket.send(wire.encode([hello()]))
        (refused,), _ = await read_to_close(socket)
        assert refused == wire.Refused("HF1301", "Greeter has two greet Rename one")
    assert registry.detached == []


async def test_a_store_that_is_away_for_a_moment_is_no_refusal() -> None:
    registry = FakeRegistry()
    registry.failures.append(StorageUnavailable("no leader"))
    async with Listener(registry) as listener, dial(listener) as socket:
        await socket.send(wire.encode([hello()]))
        assert await read_to_close(socket) == ([], 1013)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_the_token_is_checked_before_anything_is_read(headers: dict[str, str]) -> None:
    async with Listener(FakeRegistry(), token="secret") as listener:
        with pytest.raises(InvalidStatus) as caught:
            await dial(listener, additional_headers=headers)
        assert caught.value.response.status_code == 401
        assert "HF1302" in caught.value.response.body.decode()
        good = {"Authorization": "Bearer secret"}
        async with dial(listener, additional_headers=good) as socket:
            await socket.send(wire.encode([hello()]))
            assert isinstance((await read(socket))[0], wire.Welcome)


async def test_web_pages_are_kept_out() -> None:
    async with Listener(FakeRegistry()) as listener:
        with pytest.raises(InvalidStatus) as caught:
            await dial(listener, origin=Origin("http://127.0.0.1:9070"))
        assert caught.value.response.status_code == 403


async def test_another_subprotocol_is_refused() -> None:
    async with Listener(FakeRegistry()) as listener:
        url = listener.url.replace("http", "ws") + wire.PATH
        with pytest.raises(InvalidStatus) as caught:
            await connect(url, proxy=None)
        assert caught.value.response.status_code == 400


async def test_a_new_connection_of_an_instance_replaces_the_old_one_at_once() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (old, old_port):
        stream = FakeServerStream()
        old_port.open(start_of(), ENTRIES, stream)
        await read(old)
        async with welcomed(registry, listener) as (new, new_port):
            # Before Welcome was sent, and not when the old connection noticed.
            assert stream.closed == ["worker connection lost"]
            assert registry.detached == [old_port]
            (refused,), code = await read_to_close(old)
            assert isinstance(refused, wire.Refused)
            assert (refused.code, code) == ("HF1305", 1001)
            new_port.open(start_of("b"), ENTRIES, FakeServerStream())
            assert await read(new) == [wire.Open(1, start_of("b"), ENTRIES)]
            assert not new_port.is_draining


async def test_other_instances_and_deployments_stay() -> None:
    registry = FakeRegistry()
    async with (
        Listener(registry) as listener,
        welcomed(registry, listener, instance="w1"),
        welcomed(registry, listener, instance="w2"),
    ):
        assert registry.detached == []


async def test_a_worker_that_does_not_read_gets_no_more_attempts_and_then_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(websocket_server, "_OPEN_SIZE_BYTES_MAX", 1_000_000)
    monkeypatch.setattr(websocket_server, "_BACKLOG_SIZE_BYTES_MAX", 60_000_000)
    big = (Input(Value(bytes(500_000))),)
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        streams = [FakeServerStream() for _ in range(200)]
        socket.transport.pause_reading()
        handlers = [port.open(start_of(), big, stream) for stream in streams]
        handlers[-1].send([completion(1)])
        handlers[-2].abort()
        # Held attempts cost nothing, so the connection is still good, and goes on when it is read.
        socket.transport.resume_reading()
        frames: list[wire.ToWorker] = []
        while not any(isinstance(frame, wire.Notify) for frame in frames):
            frames += await read(socket)
        opened = [frame.stream for frame in frames if isinstance(frame, wire.Open)]
        assert opened == [*range(1, 199), 200]
        assert not any(isinstance(frame, wire.Abort) for frame in frames)
        # What belongs to an open attempt must be kept, up to the limit.
        socket.transport.pause_reading()
        blob = completion(1)
        blob = msgspec.structs.replace(blob, result=Value(bytes(10_000_000)))
        for _ in range(8):
            handlers[0].send([blob])
        assert streams[0].closed == []
        await streams[0].until(lambda: bool(streams[0].closed))
        assert registry.detached == [port]
        await asyncio.sleep(0)
        socket.transport.resume_reading()
    assert "does not read" in caplog.text


@pytest.mark.parametrize("how", ["open", "notify"])
async def test_what_does_not_fit_fails_its_attempt_only(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "FRAME_SIZE_BYTES_MAX", 10_000)
    big = Value(bytes(20_000))
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        stream = FakeServerStream()
        stream.is_busy = True
        if how == "open":
            port.open(start_of(), (Input(big),), stream)
        else:
            handler = port.open(start_of(), ENTRIES, stream)
            handler.send([msgspec.structs.replace(completion(1), result=big)])
        stream.is_busy = False
        await stream.until(lambda: bool(stream.closed))
        assert "do not fit into the worker socket" in str(stream.closed[0])
        port.open(start_of("b"), ENTRIES, FakeServerStream())
        frames: list[wire.ToWorker] = []
        while wire.Open(2, start_of("b"), ENTRIES) not in frames:
            frames += await read(socket)


async def test_plain_http_is_told_what_the_path_is_for() -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        return {}

    endpoint = websocket_server.create_worker_endpoint(FakeRegistry())
    await endpoint({"type": "http"}, receive, send)
    assert sent[0]["status"] == 426


async def test_the_end_of_the_tcp_connection_is_noticed_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="holdfast.transport.websocket_server")
    registry = FakeRegistry()
    async with Listener(registry) as listener, welcomed(registry, listener) as (socket, port):
        stream = FakeServerStream()
        port.open(start_of(), ENTRIES, stream)
        socket.transport.abort()
        await stream.until(lambda: bool(stream.closed))
        assert stream.closed == ["worker connection lost"]
        assert registry.detached == [port]
