"""A whole server on a SQLite file, and an endpoint that speaks bytes to it, in each way there is.

A test is written once and runs in several `Mode`s: versions of the protocol, both at once or the
request first, HTTP/2 and HTTP/1.1. So it waits by suspending: what it waited for is in the replay
of the next attempt, whatever the mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import scripted_endpoint
import scripted_http_1

from holdfast.domain.deployment import HttpVersion
from holdfast.domain.message import (
    AwaitTree,
    Combinator,
    End,
    Entry,
    Error,
    FromHandler,
    Outcome,
    Output,
    Signal,
    Start,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import Target
from holdfast.engine.decision import Batch
from holdfast.engine.row import InvocationRow, Key, Status, Table
from holdfast.protocol.restate.codec import Codec, CommandAck, FromServer, RunAck
from holdfast.protocol.restate.frame import FrameDecoder
from holdfast.server.clock import SystemClock
from holdfast.server.handle import Request
from holdfast.server.host import Host
from holdfast.server.registration import Registration
from holdfast.storage.sqlite import SqliteStore
from holdfast.transport.http.dialer import HttpDialer

Exchange: TypeAlias = scripted_endpoint.Exchange | scripted_http_1.Exchange
OK = Output(Value(b'"ok"'))
CANCEL = Signal(Void(), index=1)
PATIENCE_S = 10.0


class Mode(NamedTuple):
    """One way to speak."""

    version: int
    is_bidirectional: bool = True
    is_http_2: bool = True
    inactivity_ms: int | None = None

    @property
    def is_live(self) -> bool:
        """Whether notifications reach an attempt while it runs."""
        return self.is_bidirectional and self.inactivity_ms is None


_BIDIRECTIONAL = {f"version {v}": Mode(v) for v in (5, 6, 7)}
_OTHERS = {
    f"version {version}, {name}": Mode(version, *shape)
    for version in (5, 6, 7)
    for name, shape in {
        "request, then response": (False,),
        "HTTP/1.1": (False, False),
        "inactivity timeout 0": (True, True, 0),
    }.items()
}
_DAILY = ("version 5, HTTP/1.1", "version 6, inactivity timeout 0", "version 7, HTTP/1.1")
ALL_MODES = _BIDIRECTIONAL | _OTHERS
every_mode = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            mode,
            id=name,
            marks=[] if name in _BIDIRECTIONAL or name in _DAILY else [pytest.mark.nightly],
        )
        for name, mode in ALL_MODES.items()
    ],
)
"""Each version with both halves open, and, nightly, in all other ways."""
live_modes = pytest.mark.parametrize("mode", _BIDIRECTIONAL.values(), ids=_BIDIRECTIONAL)
"""Where notifications reach an attempt while it runs."""


def services(**options: Any) -> list[dict[str, Any]]:
    """Return a service, an object and a workflow, which fail and begin again at once."""
    options = {"retryPolicyInitialInterval": 1, "retryPolicyMaxInterval": 1, **options}
    return [
        {"name": "S", "ty": "SERVICE", "handlers": [{"name": "run"}], **options},
        {
            "name": "Box",
            "ty": "VIRTUAL_OBJECT",
            "handlers": [{"name": "put"}, {"name": "look", "ty": "SHARED"}],
            **options,
        },
        {
            "name": "Flow",
            "ty": "WORKFLOW",
            "handlers": [{"name": "run", "ty": "WORKFLOW"}, {"name": "look", "ty": "SHARED"}],
            **options,
        },
    ]


class Attempt:
    """The endpoint's end of one attempt."""

    def __init__(self, exchange: Exchange, codec: Codec) -> None:
        self.exchange = exchange
        self.codec = codec
        _, service, handler = exchange.fields[":path"].split("?")[0].rsplit("/", 2)
        self._target = (service, handler)

    def heard(self) -> tuple[Start | None, list[FromServer]]:
        """Return Start and what has followed it so far."""
        decoder = FrameDecoder()
        decoder.feed(bytes(self.exchange.received))
        first = decoder.next_frame()
        if first is None:
            return None, []
        rest = []
        while (frame := decoder.next_frame()) is not None:
            rest.append(self.codec.decode_from_server(frame))
        return self.codec.decode_start(first, *self._target), rest

    @property
    def start(self) -> Start:
        """What the attempt began with."""
        start, _ = self.heard()
        assert start is not None
        return start

    @property
    def journal(self) -> list[Entry]:
        """The entries that were replayed."""
        start, rest = self.heard()
        assert start is not None
        entries = [e for e in rest[: start.known_entries] if not isinstance(e, CommandAck | RunAck)]
        assert len(entries) == start.known_entries
        return entries

    @property
    def live(self) -> list[FromServer]:
        """What came behind the journal."""
        start, rest = self.heard()
        assert start is not None
        return rest[start.known_entries :]

    async def until_live(self, count: int) -> list[FromServer]:
        """Wait until so much has come behind the journal."""
        await self.exchange.until(lambda: len(self.live) >= count, PATIENCE_S)
        return self.live

    def encode(self, *messages: FromHandler) -> bytes:
        """Return what these messages are on the wire."""
        return b"".join(self.codec.encode(message) for message in messages)

    def say(self, *messages: FromHandler) -> None:
        """Send messages; the last one may end the attempt."""
        self.exchange.send(self.encode(*messages))
        if isinstance(messages[-1], Suspension | Error | End):
            self.exchange.end()

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.exchange.send(data)

    def finish(self, outcome: Outcome | None = None) -> None:
        """End the invocation."""
        self.say(OK if outcome is None else Output(outcome), End())

    def wait_for(self, *completions: int, signals: Sequence[int] = (), **fields: Any) -> None:
        """End the attempt until any of these or a cancellation has come."""
        self.say(Suspension(completions, (1, *signals), **fields))

    def wait_for_tree(self, tree: AwaitTree) -> None:
        """End the attempt until a cancellation has come or a tree is decided. Version 7."""
        whole = AwaitTree(Combinator.FIRST_COMPLETED, (), (1,), (), (tree,))
        self.say(Suspension(tree=whole))

    def break_off(self) -> None:
        """End the exchange in the middle."""
        if isinstance(self.exchange, scripted_http_1.Exchange):
            self.exchange.break_off()
        else:
            self.exchange.reset(2)

    async def until_given_up(self) -> None:
        """Wait until the server wants no more of this attempt, and end it."""
        exchange = self.exchange
        if isinstance(exchange, scripted_http_1.Exchange):
            await exchange.until(lambda: exchange.is_cut, PATIENCE_S)
        else:
            await exchange.until(lambda: exchange.reset_code is not None, PATIENCE_S)


class Wire:
    """A server and the endpoint that serves its invocations."""

    def __init__(self, mode: Mode, path: Path, endpoint: Any, **options: Any) -> None:
        self.mode = mode
        self.codec = Codec(mode.version, is_keyed=False)
        self.endpoint = endpoint
        self.services = services(**options)
        self.versions = (mode.version, mode.version)
        self.dialer_options: dict[str, Any] = {}
        self._path = path
        self._waiting: dict[str, asyncio.Queue[Exchange]] = defaultdict(asyncio.Queue)
        self.host: Host
        self.store: SqliteStore
        endpoint.on_exchange = self._on_exchange

    async def open(self) -> None:
        """Start the server on its file."""
        self.store = SqliteStore(str(self._path), partition_count=1, durability="relaxed")
        await self.store.open()
        self.host = Host(
            self.store,
            SystemClock(),
            inactivity_timeout_ms=self.mode.inactivity_ms,
            dialer=HttpDialer(**self.dialer_options),
        )
        await self.host.start()

    async def close(self) -> None:
        """Stop the server."""
        await self.host.stop()
        await self.store.close()

    async def restart(self, *rows: InvocationRow) -> None:
        """Stop the server, change rows of invocations, and start another one on the same file."""
        await self.close()
        for row in rows:
            await self._overwrite(row)
        # Requests of the server that is gone.
        self._waiting.clear()
        await self.open()

    async def _overwrite(self, row: InvocationRow) -> None:
        store = SqliteStore(str(self._path), partition_count=1, durability="relaxed")
        await store.open()
        epoch = await store.acquire(0, "test", 0)
        key: Key = (Table.INVOCATION, row.id)
        await store.commit(Batch(0, epoch, [], {key: row}, []))
        await store.close()

    async def register(self, path: str = "", *, is_forced: bool = False) -> str:
        """Register the endpoint, under a path of it, and return the id of its deployment."""
        http_version = HttpVersion.HTTP_2 if self.mode.is_http_2 else HttpVersion.HTTP_1_1
        registration = Registration(
            self.endpoint.uri + path, {}, {}, http_version, is_forced=is_forced
        )
        return (await self.host.register_endpoint(registration)).deployment.id

    def _on_exchange(self, exchange: Exchange) -> None:
        invocation_id = exchange.fields.get("x-restate-invocation-id")
        if invocation_id is not None:
            self._waiting[invocation_id].put_nowait(exchange)
            return
        described = {
            "protocolMode": "BIDI_STREAM" if self.mode.is_bidirectional else "REQUEST_RESPONSE",
            "minProtocolVersion": self.versions[0],
            "maxProtocolVersion": self.versions[1],
            "services": self.services,
        }
        media_type = "application/vnd.restate.endpointmanifest.v4+json"
        exchange.respond(200, [("content-type", media_type)])
        exchange.send(json.dumps(described).encode())
        exchange.end()

    async def send(self, target: str = "S/run", body: bytes = b"1", **options: Any) -> str:
        """Invoke a handler and return the id."""
        service, *key, handler = target.split("/")
        found = self.host.resolve(service, handler)
        request = Request(Target(service, handler, key[0] if key else None), found, body, **options)
        return (await self.host.send(request)).invocation_id

    async def request(self, invocation_id: str) -> Exchange:
        """Wait for the next attempt of an invocation."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._waiting[invocation_id].get()

    async def attempt(self, invocation_id: str) -> Attempt:
        """Wait for the next attempt of an invocation, with its journal, and begin to answer."""
        exchange = await self.request(invocation_id)
        content_type = exchange.fields["content-type"]
        codec = Codec(int(content_type.rpartition(".v")[2]), is_keyed=False)
        exchange.respond(200, [("content-type", content_type)])
        attempt = Attempt(exchange, codec)

        def is_replayed() -> bool:
            start, rest = attempt.heard()
            return start is not None and len(rest) >= start.known_entries

        await exchange.until(is_replayed, PATIENCE_S)
        return attempt

    async def begun(self, target: str = "S/run", **options: Any) -> tuple[str, Attempt]:
        """Invoke a handler, and wait for its first attempt."""
        invocation_id = await self.send(target, **options)
        return invocation_id, await self.attempt(invocation_id)

    async def row(self, invocation_id: str, *statuses: Status) -> InvocationRow:
        """Wait until an invocation has one of these statuses."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                row = await self.host.invocation(invocation_id)
                if row is not None and (not statuses or row.status in statuses):
                    return row
                await asyncio.sleep(0.002)

    async def outcome(self, invocation_id: str) -> Outcome:
        """Wait for the end of an invocation."""
        async with asyncio.timeout(PATIENCE_S):
            return (await self.host.attach(invocation_id)).outcome

    async def stored(self, invocation_id: str, count: int) -> list[Entry]:
        """Wait until a journal has so many entries, and return it."""
        async with asyncio.timeout(PATIENCE_S):
            while len(journal := await self.host.journal(invocation_id)) < count:
                await asyncio.sleep(0.002)
        return [row.entry for row in journal]

    async def failed_with(self, invocation_id: str, code: str) -> InvocationRow:
        """Wait until the last failure of an invocation has a code."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                row = await self.host.invocation(invocation_id)
                failure = None if row is None else row.last_failure
                if row is not None and failure is not None and f"[{code}]" in failure.message:
                    return row
                await asyncio.sleep(0.002)

    async def check_that_it_lives(self) -> None:
        """Run another invocation to its end."""
        invocation_id, attempt = await self.begun()
        attempt.finish()
        assert await self.outcome(invocation_id) == OK.result


@contextlib.asynccontextmanager
async def wired(mode: Mode, folder: Path, **options: Any) -> AsyncIterator[Wire]:
    """Start a server whose handlers the test plays.

    Args:
        options: Of the services in the manifest.
    """
    listening = scripted_endpoint.listening if mode.is_http_2 else scripted_http_1.listening
    async with listening() as endpoint:
        wire = Wire(mode, folder / "wire.db", endpoint, **options)
        await wire.open()
        try:
            await wire.register()
            yield wire
        finally:
            await wire.close()
