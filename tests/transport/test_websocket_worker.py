"""The worker's side of the worker socket: coming, coming back, and leaving."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest
from carrier_harness import (
    ENTRIES,
    PATIENCE_S,
    FakePort,
    FakeRegistry,
    FakeServerStream,
    Listener,
    RunningWorker,
    completion,
    run_command,
    start_of,
)
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from holdfast.domain.errors import HoldfastError, StorageUnavailable, UsageError
from holdfast.domain.message import Input, Run, Value
from holdfast.protocol import frame as wire
from holdfast.transport.websocket_worker import run_worker, worker_url

pytestmark = pytest.mark.asyncio

LOGGER = "holdfast.transport.websocket_worker"


@contextlib.asynccontextmanager
async def scripted_server(
    talk: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    """Run a server that talks as a test wants, and return its URL."""
    subprotocols = [Subprotocol(wire.SUBPROTOCOL)]
    async with serve(talk, "127.0.0.1", 0, subprotocols=subprotocols) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


async def refused_by(url: str, token: str | None = None) -> HoldfastError:
    """Return the error that ends a worker."""
    with pytest.raises(HoldfastError) as caught:
        async with asyncio.timeout(PATIENCE_S):
            await run_worker(FakePort(), url, instance="w", token=token, stop=asyncio.Event())
    return caught.value


async def test_on_ready_tells_the_deployment() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, RunningWorker(FakePort(), listener.url) as worker:
        await registry.port()
        while not worker.ready:
            await asyncio.sleep(0)
        assert worker.ready == ["dp_1greeter"]


async def test_messages_of_one_turn_travel_together() -> None:
    received: list[list[wire.ToServer]] = []
    done = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(wire.encode([wire.Welcome(1, "dp")]))
        opens = [wire.Open(number, start_of(), ENTRIES) for number in (1, 2, 3)]
        await socket.send(wire.encode(opens))
        received.append(wire.decode_to_server(await socket.recv(decode=False)))
        done.set()
        await socket.wait_closed()

    handlers = FakePort()
    handlers.on_open = lambda attempt: attempt.finish()
    async with scripted_server(talk) as url, RunningWorker(handlers, url):
        async with asyncio.timeout(PATIENCE_S):
            await done.wait()
    kinds = [type(frame).__name__ for frame in received[0]]
    assert kinds == ["Messages", "Closed"] * 3


async def test_fragments_and_pings_among_whole_messages_keep_the_order() -> None:
    done = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(wire.encode([wire.Welcome(1, "dp")]))
        await socket.send(wire.encode([wire.Open(1, start_of(), ENTRIES)]))
        for number in range(1, 10):
            data = wire.encode([wire.Notify(1, (completion(number),))])
            # As a proxy may send it.
            await socket.send([data[:7], data[7:]] if number in (4, 5, 8) else data)
            if number in (2, 6):
                await asyncio.wait_for(await socket.ping(), PATIENCE_S)
        await done.wait()

    handlers = FakePort()
    async with scripted_server(talk) as url, RunningWorker(handlers, url):
        attempt = await handlers.attempt()
        await attempt.until(lambda: len(attempt.received) == 9)
        done.set()
    assert attempt.received == [completion(number) for number in range(1, 10)]


async def test_it_comes_back_after_the_server_was_away(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOGGER)
    registry, handlers = FakeRegistry(), FakePort()
    async with Listener(registry) as listener:
        number = listener.port
        worker = RunningWorker(handlers, listener.url)
        port = await registry.port()
        stream = FakeServerStream()
        port.open(start_of("a"), ENTRIES, stream)
        attempt = await handlers.attempt()
    await attempt.until(lambda: attempt.is_aborted)
    assert stream.closed == ["worker connection lost"]
    attempt.server.on_messages([run_command(1)])  # from another life: goes nowhere
    async with worker, Listener(registry, port=number):
        port = await registry.port(1)
        again = FakeServerStream()
        port.open(start_of("a"), ENTRIES, again)
        second = await handlers.attempt(1)
        second.finish()
        await again.until(lambda: bool(again.closed))
        assert again.closed == [None]
        levels = [r.levelname for r in caplog.records if r.name == LOGGER]
        assert levels == ["INFO", "WARNING", "INFO"], "one line per change, not per try"


async def test_it_waits_for_a_server_that_is_not_there_yet() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener:
        number = listener.port
    url = f"http://127.0.0.1:{number}"
    async with RunningWorker(FakePort(), url), Listener(registry, port=number):
        await registry.port()


async def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    registry = FakeRegistry()
    registry.failures.append(StorageUnavailable("no leader"))
    async with Listener(registry) as listener, RunningWorker(FakePort(), listener.url):
        await registry.port()


async def test_draining_finishes_what_is_open_and_takes_nothing_new() -> None:
    registry, handlers = FakeRegistry(), FakePort()
    async with Listener(registry) as listener, RunningWorker(handlers, listener.url) as worker:
        port = await registry.port()
        stream = FakeServerStream()
        handler = port.open(start_of(), ENTRIES, stream)
        attempt = await handlers.attempt()
        worker.stop.set()
        await attempt.until(lambda: attempt.is_input_closed)
        while not port.is_draining:
            await asyncio.sleep(0)
        handler.send([completion(1)])  # comes too late: it would lead to more steps
        attempt.server.on_messages([run_command(1)])
        assert not worker.task.done()
        attempt.finish()
        async with asyncio.timeout(PATIENCE_S):
            await worker.task
        await registry.until(lambda: registry.detached == [port])
        assert stream.messages[0] == run_command(1)
        assert stream.closed == [None]
        assert attempt.received == []
        assert not attempt.is_aborted


async def test_draining_has_an_end() -> None:
    registry, handlers = FakeRegistry(), FakePort()
    async with (
        Listener(registry) as listener,
        RunningWorker(handlers, listener.url, grace_s=0.01) as worker,
    ):
        port = await registry.port()
        stream = FakeServerStream()
        port.open(start_of(), ENTRIES, stream)
        attempt = await handlers.attempt()
        worker.stop.set()
        async with asyncio.timeout(PATIENCE_S):
            await worker.task
        assert attempt.is_aborted
        await stream.until(lambda: bool(stream.closed))
        assert stream.closed == ["worker connection lost"]


async def test_stopping_does_not_wait_for_a_server_that_is_away() -> None:
    async with Listener(FakeRegistry()) as listener:
        url = listener.url
    worker = RunningWorker(FakePort(), url)
    await asyncio.sleep(0)
    worker.stop.set()
    async with asyncio.timeout(PATIENCE_S):
        await worker.task


async def test_of_two_workers_of_one_name_the_older_one_ends() -> None:
    registry = FakeRegistry()
    async with Listener(registry) as listener, RunningWorker(FakePort(), listener.url) as older:
        await registry.port()
        async with RunningWorker(FakePort(), listener.url) as newer:
            with pytest.raises(UsageError) as caught:
                async with asyncio.timeout(PATIENCE_S):
                    await older.task
            assert caught.value.code == "HF1305"
            assert not newer.task.done()
            assert len(registry.ports) == 2


async def test_a_refusal_ends_the_worker_with_the_servers_words() -> None:
    registry = FakeRegistry()
    registry.failures.append(UsageError("Greeter has two greet", code="HF1301", hint="Rename one"))
    async with Listener(registry) as listener:
        error = await refused_by(listener.url)
    assert (error.code, error.message) == ("HF1301", "Greeter has two greet Rename one")


async def test_a_wrong_token_ends_the_worker() -> None:
    registry = FakeRegistry()
    async with Listener(registry, token="secret") as listener:
        error = await refused_by(listener.url, token="guess")
        assert error.code == "HF1302"
        assert "HOLDFAST_TOKEN" in error.hint
        stop = asyncio.Event()
        good = asyncio.create_task(
            run_worker(FakePort(), listener.url, instance="w", token="secret", stop=stop)
        )
        await registry.port()
        stop.set()
        await good


async def test_an_address_that_is_no_server_ends_the_worker() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\noops")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refused_by(f"http://127.0.0.1:{port}")
    assert error.code == "HF1304"
    assert "9070" in error.hint


@pytest.mark.parametrize(
    "frames",
    [
        [wire.Notify(1, ())],
        [wire.Welcome(1, "dp")],
        [wire.Open(1, start_of(), ENTRIES), wire.Open(1, start_of(), ENTRIES)],
    ],
    ids=["unopened stream", "second welcome", "opened twice"],
)
async def test_a_server_that_breaks_the_protocol_is_left_and_dialled_again(
    frames: list[wire.ToWorker], caplog: pytest.LogCaptureFixture
) -> None:
    visits = 0
    came_back = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        nonlocal visits
        visits += 1
        if visits == 2:
            came_back.set()
        await socket.recv()
        await socket.send(wire.encode([wire.Welcome(1, "dp")]))
        if visits == 1:
            await socket.send(wire.encode(frames))
        await socket.wait_closed()

    handlers = FakePort()
    async with scripted_server(talk) as url, RunningWorker(handlers, url):
        async with asyncio.timeout(PATIENCE_S):
            await came_back.wait()
        assert all(attempt.is_aborted for attempt in handlers.attempts)
    assert "will keep trying" in caplog.text


@pytest.mark.parametrize("how", ["too big", "not encodable"])
async def test_messages_that_cannot_travel_fail_their_attempt_only(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, handlers = FakeRegistry(), FakePort()
    async with Listener(registry) as listener, RunningWorker(handlers, listener.url):
        port = await registry.port()
        first, second = FakeServerStream(), FakeServerStream()
        port.open(start_of("a"), ENTRIES, first)
        port.open(start_of("b"), ENTRIES, second)
        other = await handlers.attempt(1)
        attempt = handlers.attempts[0]
        monkeypatch.setattr(wire, "FRAME_SIZE_BYTES_MAX", 10_000)
        if how == "too big":
            attempt.server.on_messages([Run(1, "x" * 20_000)])
        else:
            attempt.server.on_messages([Run(1 << 70)])
        assert not attempt.is_aborted, "not from inside its own call"
        await attempt.until(lambda: attempt.is_aborted)
        await first.until(lambda: bool(first.closed))
        assert "worker socket" in str(first.closed) or "cannot be encoded" in str(first.closed)
        other.finish()
        await second.until(lambda: bool(second.closed))
        assert second.closed == [None]


@pytest.mark.parametrize("then", ["nothing", "abort", "notify", "close input"])
async def test_an_attempt_that_is_too_big_to_open_leaves_the_others(
    then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "FRAME_SIZE_BYTES_MAX", 10_000)
    registry, handlers = FakeRegistry(), FakePort()
    async with Listener(registry) as listener, RunningWorker(handlers, listener.url):
        port = await registry.port()
        good, big = FakeServerStream(), FakeServerStream()
        port.open(start_of("a"), ENTRIES, good)
        attempt = await handlers.attempt()
        handler = port.open(start_of("b"), (Input(Value(bytes(20_000))),), big)
        match then:
            case "abort":
                handler.abort()
            case "notify":
                handler.send([completion(1)])
            case "close input":
                handler.close_input()
        if then != "abort":
            await big.until(lambda: bool(big.closed))
            assert "do not fit into the worker socket" in str(big.closed)
            handler.send([completion(2)])
        # What comes after it on the wire: an attempt that runs to its end, and then the first.
        last = FakeServerStream()
        port.open(start_of("c"), ENTRIES, last)
        (await handlers.attempt(1)).finish()
        await last.until(lambda: bool(last.closed))
        attempt.finish()
        await good.until(lambda: bool(good.closed))
        assert (good.closed, last.closed) == ([None], [None])
        assert len(big.closed) == (then != "abort")
        assert not attempt.is_aborted
        assert len(registry.ports) == 1
        assert registry.detached == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9070", "ws://127.0.0.1:9070/holdfast/v1/worker"),
        ("https://admin.example/", "wss://admin.example/holdfast/v1/worker"),
        ("https://admin.example/team/a", "wss://admin.example/team/a/holdfast/v1/worker"),
        ("ws://[::1]:9070/holdfast/v1/worker", "ws://[::1]:9070/holdfast/v1/worker"),
    ],
)
async def test_worker_url(url: str, expected: str) -> None:
    assert worker_url(url) == expected


@pytest.mark.parametrize("url", ["", "127.0.0.1:9070", "ftp://host", "http://", "http://[bad"])
async def test_worker_url_refuses(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        worker_url(url)
    assert caught.value.code == "HF1206"


async def test_hello_says_who_comes() -> None:
    heard: list[wire.ToServer] = []
    done = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        heard.extend(wire.decode_to_server(await socket.recv(decode=False)))
        done.set()
        await socket.wait_closed()

    async with (
        scripted_server(talk) as url,
        RunningWorker(FakePort("shop"), url, instance="box-1"),
        asyncio.timeout(PATIENCE_S),
    ):
        await done.wait()
    (hello,) = heard
    assert isinstance(hello, wire.Hello)
    assert (hello.deployment_name, hello.instance) == ("shop", "box-1")
    assert msgspec.to_builtins(hello.manifest)["services"][0]["name"] == "Greeter"
