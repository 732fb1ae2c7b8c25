"""A scripted handler port, a scripted server stream, and the two carriers between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import uvicorn

from holdfast.domain.message import (
    Completion,
    End,
    Entry,
    FromHandler,
    Input,
    Notification,
    Run,
    Start,
    Value,
)
from holdfast.domain.target import HandlerKind, HandlerManifest, Manifest, ServiceKind
from holdfast.domain.target import ServiceManifest as Service
from holdfast.transport.base import HandlerPort, HandlerStream, ServerStream
from holdfast.transport.inprocess import InProcessPort
from holdfast.transport.websocket_server import UVICORN_OPTIONS, create_worker_endpoint
from holdfast.transport.websocket_worker import run_worker

PATIENCE_S = 10.0

MANIFEST = Manifest(
    services=(
        Service(
            name="Greeter",
            kind=ServiceKind.SERVICE,
            handlers=(HandlerManifest(name="greet", kind=HandlerKind.PLAIN),),
        ),
    )
)


def start_of(name: str = "a", known_entries: int = 1) -> Start:
    """Return a Start that can be told from others by `name`."""
    return Start(f"inv_1{name}", "Greeter", "greet", "", known_entries, {}, True, 0, 0, 7)


ENTRIES: tuple[Entry, ...] = (Input(Value(b"hello")),)


def run_command(number: int) -> Run:
    """Return the n-th message of a handler."""
    return Run(number, f"step {number}")


def completion(number: int) -> Completion:
    """Return the n-th notification to a handler."""
    return Completion(0x8011, number, Value(b"done"))


class _Watched:
    """Something that a test can wait on."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def change(self) -> None:
        self._changed.set()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()


class FakeServerStream(_Watched):
    """The server's end of an attempt: records what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[FromHandler, ...]] = []
        self.closed: list[str | None] = []
        self.is_busy = False
        """Set by a test while it calls the carrier: being called back now would be re-entrant."""

    @property
    def messages(self) -> list[FromHandler]:
        return [message for call in self.calls for message in call]

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        assert not self.is_busy, "called from inside its own call"
        assert not self.closed, "a message after the end"
        self.calls.append(tuple(messages))
        self.change()

    def on_closed(self, reason: str | None) -> None:
        assert not self.is_busy, "called from inside its own call"
        self.closed.append(reason)
        self.change()


class FakeAttempt(_Watched):
    """The handler's end of an attempt: records, and speaks when the test tells it to."""

    def __init__(self, start: Start, entries: Sequence[Entry], server: ServerStream) -> None:
        super().__init__()
        self.start = start
        self.entries = tuple(entries)
        self.server = server
        self.received: list[Notification] = []
        self.is_input_closed = False
        self.is_aborted = False

    def send(self, notifications: Sequence[Notification]) -> None:
        self.received.extend(notifications)
        self.change()

    def close_input(self) -> None:
        self.is_input_closed = True
        self.change()

    def abort(self) -> None:
        self.is_aborted = True
        self.change()

    def finish(self) -> None:
        self.server.on_messages((End(),))
        self.server.on_closed(None)


class FakePort(_Watched):
    """Handlers that do what a test says."""

    def __init__(self, name: str = "greeter") -> None:
        super().__init__()
        self.deployment_name = name
        self.manifest = MANIFEST
        self.is_draining = False
        self.attempts: list[FakeAttempt] = []
        self.on_open: Callable[[FakeAttempt], None] = lambda _: None

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        attempt = FakeAttempt(start, entries, stream)
        self.attempts.append(attempt)
        self.change()
        self.on_open(attempt)
        return attempt

    async def attempt(self, index: int = 0) -> FakeAttempt:
        await self.until(lambda: len(self.attempts) > index)
        return self.attempts[index]


class FakeRegistry(_Watched):
    """The server's side of worker connections."""

    def __init__(self) -> None:
        super().__init__()
        self.ports: list[HandlerPort] = []
        self.detached: list[HandlerPort] = []
        self.failures: list[Exception] = []
        """Raised by the next calls of `attach_worker`, one each."""
        self.on_attach: Callable[[HandlerPort], object] = lambda _: None

    async def attach_worker(self, port: HandlerPort) -> str:
        if self.failures:
            raise self.failures.pop(0)
        self.on_attach(port)
        await asyncio.sleep(0)
        self.ports.append(port)
        self.change()
        return f"dp_1{port.deployment_name}"

    def detach_worker(self, port: HandlerPort) -> None:
        self.detached.append(port)
        self.change()

    async def port(self, index: int = 0) -> HandlerPort:
        await self.until(lambda: len(self.ports) > index)
        return self.ports[index]


class Listener:
    """A uvicorn server that carries the worker socket."""

    def __init__(self, registry: FakeRegistry, *, token: str | None = None, port: int = 0) -> None:
        self.registry = registry
        options = cast("dict[str, Any]", dict(UVICORN_OPTIONS))
        self._server = uvicorn.Server(
            uvicorn.Config(
                cast("Any", create_worker_endpoint(registry, token=token)),
                host="127.0.0.1",
                port=port,
                lifespan="off",
                log_config=None,
                timeout_graceful_shutdown=1,
                **options,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listener:
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    @property
    def port(self) -> int:
        number: int = self._server.servers[0].sockets[0].getsockname()[1]
        return number

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Cut all connections, as a network does."""
        for connection in list(self._server.server_state.connections):
            cast("Any", connection).transport.abort()


class RunningWorker:
    """A worker and the means to stop it."""

    def __init__(
        self, handlers: FakePort, url: str, *, instance: str = "w1", grace_s: float = PATIENCE_S
    ) -> None:
        self.stop = asyncio.Event()
        self.ready: list[str] = []
        self.task = asyncio.create_task(
            run_worker(
                handlers,
                url,
                instance=instance,
                stop=self.stop,
                on_ready=self.ready.append,
                drain_grace_s=grace_s,
            )
        )

    async def __aenter__(self) -> RunningWorker:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(PATIENCE_S):
                await self.task


class Joined(Protocol):
    """A carrier between a port that the server calls and scripted handlers."""

    port: HandlerPort
    handlers: FakePort

    def lose(self) -> None:
        """Lose the connection."""
        ...


class _JoinedInProcess:
    def __init__(self) -> None:
        self.handlers = FakePort()
        self._port = InProcessPort(self.handlers)
        self.port: HandlerPort = self._port

    def lose(self) -> None:
        self._port.close()


class _JoinedBySocket:
    def __init__(self, handlers: FakePort, port: HandlerPort, listener: Listener) -> None:
        self.handlers = handlers
        self.port = port
        self._listener = listener

    def lose(self) -> None:
        self._listener.cut()


@contextlib.asynccontextmanager
async def in_process() -> AsyncIterator[Joined]:
    """Join by handing over objects."""
    yield _JoinedInProcess()


@contextlib.asynccontextmanager
async def by_socket() -> AsyncIterator[Joined]:
    """Join over a real WebSocket."""
    registry = FakeRegistry()
    handlers = FakePort()
    async with (
        Listener(registry) as listener,
        RunningWorker(handlers, listener.url, grace_s=0.0),
    ):
        yield _JoinedBySocket(handlers, await registry.port(), listener)


Join = Callable[[], AbstractAsyncContextManager[Joined]]
CARRIERS: list[Join] = [in_process, by_socket]
