"""The port to the handlers of one endpoint, and what makes such ports."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from holdfast.domain.deployment import Endpoint
from holdfast.domain.errors import LocalProtocolError
from holdfast.domain.message import Entry, Start, ToHandler
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.version import (
    VERSION_MAX,
    VERSION_MAX_BEFORE_TREES,
    VERSION_MIN,
    agree_on_version,
)
from holdfast.transport.base import AttemptStream, HandlerStream, Refusal, Sign
from holdfast.transport.http.client import Pool
from holdfast.transport.http.exchange import Exchange, Reach

_REMOVED = "the endpoint was removed"


class HttpPort:
    """Opens attempts at an endpoint (`EndpointPort`).

    Args:
        name: Of its deployment.
        endpoint: Where it is, and what it speaks.
        manifest: What it serves.
        sign: Signs each request.
        version_max: Highest version of the protocol for invocations that are not pinned to one.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        manifest: Manifest,
        sign: Sign | None = None,
        version_max: int = VERSION_MAX,
    ) -> None:
        self.deployment_name = name
        self.manifest = manifest
        self.is_draining = False
        self._sign = sign
        self._reach = _reach(endpoint, sign)
        self._version_max = version_max
        self._codecs: dict[int, Codec] = {}
        self._exchanges: set[Exchange] = set()

    def update(self, endpoint: Endpoint, manifest: Manifest) -> None:
        """See `EndpointPort`."""
        self.manifest = manifest
        if endpoint != self._reach.endpoint:
            self._reach = _reach(endpoint, self._sign)
            self._codecs.clear()

    def open(self, start: Start, entries: Sequence[Entry], stream: AttemptStream) -> HandlerStream:
        """Begin an attempt: one HTTP exchange."""
        loop = asyncio.get_running_loop()
        # The server is inside a call of its own: what goes wrong here it hears in the next turn.
        if self.is_draining:
            loop.call_soon(stream.on_closed, _REMOVED)
            return _Unopened()
        version = self._version_for(stream.protocol_version)
        if version is None:
            reason = self._unspoken(stream.protocol_version)
            loop.call_soon(stream.on_refused, reason, Refusal(415, is_counted=False))
            return _Unopened()
        stream.protocol_version = version
        try:
            exchange = Exchange(self._reach, self._codec(version), start, entries, stream)
        except LocalProtocolError as error:
            loop.call_soon(stream.on_closed, f"{error.message} [{error.code}]")
            return _Unopened()
        self._exchanges.add(exchange)
        exchange.task = loop.create_task(exchange.run(), name=f"attempt of {start.invocation_id}")
        exchange.task.add_done_callback(lambda _: self._exchanges.discard(exchange))
        return exchange

    def _version_for(self, pinned: int | None) -> int | None:
        """Return the version for an attempt; None: the endpoint does not speak it.

        Args:
            pinned: See `AttemptStream.protocol_version`.
        """
        endpoint = self._reach.endpoint
        low, high = endpoint.protocol_version_min, endpoint.protocol_version_max
        if pinned is None:
            return agree_on_version(low, high, self._version_max)
        if pinned == 0:
            return agree_on_version(low, high, VERSION_MAX_BEFORE_TREES)
        return pinned if low <= pinned <= high else None

    def _unspoken(self, pinned: int | None) -> str:
        endpoint = self._reach.endpoint
        low, high = endpoint.protocol_version_min, endpoint.protocol_version_max
        wanted = f"version {pinned}" if pinned else f"one from {VERSION_MIN} to {self._version_max}"
        return f"the endpoint speaks versions {low} to {high}; the attempt needs {wanted} [HF1346]"

    def _codec(self, version: int) -> Codec:
        codec = self._codecs.get(version)
        if codec is None:
            is_ours = self._reach.endpoint.sdk_version.startswith("holdfast/")
            codec = self._codecs[version] = Codec(version, is_keyed=is_ours)
        return codec

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

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """Do nothing."""

    def close_input(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing: the server drops what it hears of attempts that it has aborted."""


def _reach(endpoint: Endpoint, sign: Sign | None) -> Reach:
    pool = Pool(endpoint.http_version, is_tls=endpoint.uri.startswith("https:"))
    return Reach(endpoint, pool, sign)
