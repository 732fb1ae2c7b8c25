"""The port to the handlers of one endpoint, and what makes such ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from holdfast.domain.deployment import Endpoint
from holdfast.domain.errors import LocalProtocolError
from holdfast.domain.message import Entry, Notification, Start
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.version import agree_on_version
from holdfast.transport.base import AttemptStream, HandlerStream, Sign
from holdfast.transport.http.client import Pool
from holdfast.transport.http.exchange import Exchange, Reach

_REMOVED = "the endpoint was removed"


class HttpPort:
    """Opens attempts at an endpoint (`EndpointPort`)."""

    def __init__(
        self, name: str, endpoint: Endpoint, manifest: Manifest, sign: Sign | None = None
    ) -> None:
        self.deployment_name = name
        self.manifest = manifest
        self.is_draining = False
        self._sign = sign
        self._reach = _reach(endpoint, sign)
        self._exchanges: set[Exchange] = set()

    def update(self, endpoint: Endpoint, manifest: Manifest) -> None:
        """See `EndpointPort`."""
        self.manifest = manifest
        if endpoint != self._reach.endpoint:
            self._reach = _reach(endpoint, self._sign)

    def open(self, start: Start, entries: Sequence[Entry], stream: AttemptStream) -> HandlerStream:
        """Begin an attempt: one HTTP exchange."""
        loop = asyncio.get_running_loop()
        # The server is inside a call of its own: what goes wrong here it hears in the next turn.
        if self.is_draining:
            loop.call_soon(stream.on_closed, _REMOVED)
            return _Unopened()
        try:
            exchange = Exchange(self._reach, start, entries, stream)
        except LocalProtocolError as error:
            loop.call_soon(stream.on_closed, f"{error.message} [{error.code}]")
            return _Unopened()
        self._exchanges.add(exchange)
        exchange.task = loop.create_task(exchange.run(), name=f"attempt of {start.invocation_id}")
        exchange.task.add_done_callback(lambda _: self._exchanges.discard(exchange))
        return exchange

    async def close(self) -> None:
        """See `EndpointPort`."""
        self.is_draining = True
        exchanges = list(self._exchanges)
        tasks = [exchange.task for exchange in exchanges if exchange.task is not None]
        for exchange in exchanges:
            exchange.cut(_REMOVED)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._reach.pool.close()


class _Unopened:
    """The handler's end of an attempt that could not be opened (`HandlerStream`)."""

    def send(self, notifications: Sequence[Notification]) -> None:
        """Do nothing."""

    def close_input(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing: the server drops what it hears of attempts that it has aborted."""


def _reach(endpoint: Endpoint, sign: Sign | None) -> Reach:
    low, high = endpoint.protocol_version_min, endpoint.protocol_version_max
    version = agree_on_version(low, high)
    assert version is not None, f"{endpoint.uri} was registered without a common version"
    is_ours = endpoint.sdk_version.startswith("holdfast/")
    pool = Pool(endpoint.http_version, is_tls=endpoint.uri.startswith("https:"))
    return Reach(endpoint, pool, Codec(version, is_keyed=is_ours), sign)
