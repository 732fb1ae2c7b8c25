"""A server that a test plays by hand against an endpoint, and the handlers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from port_harness import CODEC, INVOCATION_ID, start_of

from holdfast.domain.message import Entry, FromHandler, Input, Notification, Start, Value
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.protocol.restate.codec import AwaitingOn
from holdfast.protocol.restate.frame import FrameDecoder
from holdfast.transport.base import ServerStream
from holdfast.transport.http.endpoint import HandlerEndpoint

__all__ = ["CODEC", "INVOCATION_ID", "start_of"]

NOW_MS = 1_700_000_000_000
PATH = "/invoke/Greeter/greet"
JOURNAL = CODEC.encode_start(start_of()) + CODEC.encode(Input(Value(b'"in"')))


class Attempt:
    """The handler's end of an attempt."""

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
        self.stream.on_closed("aborted")

    def say(self, *messages: FromHandler) -> None:
        self.stream.on_messages(messages)


class Port:
    """Handlers `Greeter/greet`."""

    deployment_name = "scripted"
    is_draining = False
    manifest = Manifest(
        services=(
            ServiceManifest(
                name="Greeter",
                kind=ServiceKind.SERVICE,
                handlers=(HandlerManifest(name="greet", kind=HandlerKind.PLAIN),),
            ),
        )
    )

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> Attempt:
        attempt = Attempt(start, entries, stream)
        self.attempts.append(attempt)
        return attempt


class Exchange:
    """One request to the endpoint, and its response."""

    def __init__(
        self,
        endpoint: HandlerEndpoint,
        method: str = "POST",
        path: str = PATH,
        headers: dict[str, str] | None = None,
        http_version: str = "2",
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.has_ended = False
        self.is_stuck = False
        """Whether the response is not read."""
        self.is_broken = False
        self._decoder = FrameDecoder()
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._free = asyncio.Event()
        sent = {"content-type": "application/vnd.restate.invocation.v6"} | (headers or {})
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "http_version": http_version,
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        self.task = asyncio.ensure_future(endpoint(scope, self._incoming.get, self._send))

    async def _send(self, message: Any) -> None:
        if self.is_broken:
            raise OSError("gone")
        if self.is_stuck:
            await self._free.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {n.decode(): v.decode() for n, v in message["headers"]}
        else:
            assert self.status
            self.body += message.get("body", b"")
            self.has_ended = not message.get("more_body", False)

    def write(self, data: bytes) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": True})

    def end(self, data: bytes = b"") -> None:
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": False})

    def hang_up(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    def read_on(self) -> None:
        self.is_stuck = False
        self._free.set()

    def messages(self) -> list[FromHandler | AwaitingOn]:
        """Return what has come since the last call."""
        self._decoder.feed(bytes(self.body))
        self.body.clear()
        found = []
        while (frame := self._decoder.next_frame()) is not None:
            found.append(CODEC.decode_from_handler(frame))
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0)

    async def over(self) -> None:
        async with asyncio.timeout(5):
            await self.task


class Served:
    """An endpoint and the port behind it."""

    def __init__(self, *identity_keys: str) -> None:
        self.port = Port()
        self.endpoint = HandlerEndpoint(self.port, identity_keys, lambda: NOW_MS)

    def ask(self, method: str, path: str, **options: Any) -> Exchange:
        exchange = Exchange(self.endpoint, method, path, **options)
        exchange.end()
        return exchange

    async def opened(self) -> tuple[Attempt, Exchange]:
        """Open an attempt whose request goes on."""
        exchange = Exchange(self.endpoint)
        exchange.write(JOURNAL)
        await exchange.until(lambda: exchange.status)
        return self.port.attempts[-1], exchange
