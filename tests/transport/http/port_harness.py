"""A port to an endpoint that a test plays by hand, and the server's end of its attempts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from scripted_endpoint import Endpoint as ScriptedEndpoint
from scripted_endpoint import Exchange, listening

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.ids import print_invocation_id
from holdfast.domain.message import (
    Entry,
    FromHandler,
    Input,
    Start,
    Value,
)
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.codec import Codec, FromServer
from holdfast.protocol.restate.frame import FrameDecoder
from holdfast.transport.base import HandlerStream, Refusal
from holdfast.transport.http.port import HttpPort

INVOCATION_ID = print_invocation_id(bytes(range(24)))
ENTRIES = (Input(Value(b'"in"')),)
CODEC = Codec(6, is_keyed=False)
OK = [("content-type", "application/vnd.restate.invocation.v6")]


class FakeStream:
    """The server's end of an attempt: remembers what it is told."""

    def __init__(self) -> None:
        self.messages: list[FromHandler] = []
        self.batches: list[list[FromHandler]] = []
        self.closed: list[str | None] = []
        self.refused: list[tuple[str, Refusal]] = []
        self.unrecorded: list[Callable[[], None]] = []
        self.protocol_version: int | None = None
        self.unheard_count = 0

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        self.messages.extend(messages)
        self.batches.append(list(messages))

    def on_messages_recorded(
        self, messages: Sequence[FromHandler], then: Callable[[], None]
    ) -> None:
        self.on_messages(messages)
        self.unrecorded.append(then)

    def on_closed(self, reason: str | None) -> None:
        self.closed.append(reason)

    def on_refused(self, reason: str, refusal: Refusal) -> None:
        self.refused.append((reason, refusal))

    def on_unheard(self) -> None:
        self.unheard_count += 1

    @property
    def is_over(self) -> bool:
        return bool(self.closed or self.refused)

    async def until(self, condition: Callable[[], object], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.001)

    async def reason(self) -> str | None:
        """Wait for the end, which comes once."""
        await self.until(lambda: self.is_over)
        assert len(self.closed) + len(self.refused) == 1
        return self.closed[0] if self.closed else self.refused[0][0]


class Joined:
    """A port, the endpoint behind it, and the attempts that a test opens."""

    def __init__(self, scripted: ScriptedEndpoint, port: HttpPort) -> None:
        self.scripted = scripted
        self.port = port

    async def open(
        self, entries: Sequence[Entry] = ENTRIES, **options: object
    ) -> tuple[FakeStream, HandlerStream, Exchange]:
        """Open an attempt and wait until the endpoint has its request."""
        stream = FakeStream()
        handler = self.port.open(start_of(len(entries), **options), entries, stream)
        return stream, handler, await self.scripted.exchange()

    async def opened(
        self, entries: Sequence[Entry] = ENTRIES, **options: object
    ) -> tuple[FakeStream, HandlerStream, Exchange]:
        """Open an attempt that the endpoint has begun to answer."""
        stream, handler, exchange = await self.open(entries, **options)
        exchange.respond(200, OK)
        return stream, handler, exchange


def start_of(known_entries: int = 1, **options: object) -> Start:
    fields: dict[str, object] = {
        "invocation_id": INVOCATION_ID,
        "service": "Greeter",
        "handler": "greet",
        "key": "",
        "known_entries": known_entries,
        "state": {},
        "is_state_partial": True,
        "retry_count": 0,
        "duration_ms": 0,
        "random_seed": 7,
    }
    return Start(**(fields | options))  # type: ignore[arg-type]


def endpoint_of(uri: str, **options: object) -> Endpoint:
    fields: dict[str, object] = {
        "uri": uri,
        "http_version": HttpVersion.HTTP_2,
        "is_bidirectional": True,
        "protocol_version_min": 5,
        "protocol_version_max": 6,
    }
    return Endpoint(**(fields | options))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def joined(path: str = "", **options: object) -> AsyncIterator[Joined]:
    async with listening() as scripted:
        endpoint = endpoint_of(scripted.uri + path, **options)
        port = HttpPort("scripted", endpoint, Manifest(services=()))
        try:
            yield Joined(scripted, port)
        finally:
            await port.close()


def replayed(exchange: Exchange) -> tuple[Start | None, list[FromServer]]:
    """Decode what an endpoint has received so far."""
    decoder = FrameDecoder()
    decoder.feed(bytes(exchange.received))
    first = decoder.next_frame()
    if first is None:
        return None, []
    start = CODEC.decode_start(first, "Greeter", "greet")
    rest = []
    while (frame := decoder.next_frame()) is not None:
        rest.append(CODEC.decode_from_server(frame))
    return start, rest
