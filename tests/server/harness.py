"""A host over a memory store, with handlers that are scripted message by message."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from holdfast.domain.message import End, Entry, FromHandler, Notification, Output, Start, Value
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
    Target,
)
from holdfast.engine.decision import Batch
from holdfast.server.clock import SystemClock
from holdfast.server.handle import Request
from holdfast.server.host import Host
from holdfast.storage.memory import MemoryStore
from holdfast.transport.base import ServerStream


class ScriptedAttempt:
    """The handler's end of an attempt that a test plays by hand."""

    def __init__(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> None:
        self.start = start
        self.entries = list(entries)
        self.stream = stream
        self.notified: list[Notification] = []
        self.is_input_closed = False
        self.is_aborted = False

    def send(self, notifications: Sequence[Notification]) -> None:
        self.notified.extend(notifications)

    def close_input(self) -> None:
        self.is_input_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def say(self, *messages: FromHandler) -> None:
        self.stream.on_messages(messages)
        if isinstance(messages[-1], End):
            self.stream.on_closed(None)

    def finish(self, content: bytes = b"1") -> None:
        self.say(Output(Value(content)), End())


class ScriptedPort:
    """Handlers `Echo/run` (plain) and `Box/put` (exclusive)."""

    def __init__(self, *, retention_ms: int = 60_000) -> None:
        self.deployment_name = "scripted"
        self.is_draining = False
        self.attempts: list[ScriptedAttempt] = []
        self.on_open: Callable[[ScriptedAttempt], None] | None = None
        self.manifest = Manifest(
            services=(
                _service("Echo", ServiceKind.SERVICE, "run", HandlerKind.PLAIN, retention_ms),
                _service(
                    "Box", ServiceKind.VIRTUAL_OBJECT, "put", HandlerKind.EXCLUSIVE, retention_ms
                ),
            )
        )

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> ScriptedAttempt:
        attempt = ScriptedAttempt(start, entries, stream)
        self.attempts.append(attempt)
        if self.on_open is not None:
            asyncio.get_running_loop().call_soon(self.on_open, attempt)
        return attempt


def _service(
    name: str, kind: ServiceKind, handler: str, handler_kind: HandlerKind, retention_ms: int
) -> ServiceManifest:
    manifest = HandlerManifest(
        name=handler,
        kind=handler_kind,
        journal_retention_ms=retention_ms,
        idempotency_retention_ms=retention_ms,
    )
    return ServiceManifest(name=name, kind=kind, handlers=(manifest,))


class CountingStore(MemoryStore):
    """Counts commits, and can fail or delay them."""

    def __init__(self, partition_count: int = 1) -> None:
        super().__init__(partition_count=partition_count)
        self.batches: list[Batch] = []
        self.failure: Exception | None = None
        self.check: Callable[[Batch], None] = lambda _: None

    async def commit(self, batch: Batch) -> None:
        if self.failure is not None:
            raise self.failure
        self.check(batch)
        await asyncio.sleep(0)
        await super().commit(batch)
        self.batches.append(batch)


@contextlib.asynccontextmanager
async def hosting(
    store: MemoryStore, port: ScriptedPort | None = None, **options: object
) -> AsyncIterator[Host]:
    """Run a host over a store that may already hold something."""
    host = Host(store, SystemClock(), cleanup_interval_s=0.01, **options)  # type: ignore[arg-type]
    await host.start()
    if port is not None:
        await host.attach_worker(port)
    try:
        yield host
    finally:
        await host.stop()


def request(host: Host, key: str | None = None, **fields: object) -> Request:
    service, handler = ("Echo", "run") if key is None else ("Box", "put")
    target = Target(service, handler, key)
    return Request(target, host.resolve(service, handler), b"1", **fields)  # type: ignore[arg-type]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait for a condition; a test that waits longer has failed."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
