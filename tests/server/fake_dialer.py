"""Endpoints that answer without a network, and ports to them that a test plays by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.message import Entry, Start
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.transport.base import AttemptStream
from tests.server.harness import ScriptedAttempt

A, B = "http://a:1/", "http://b:1/"


def manifest_of(*names: str, kind: ServiceKind = ServiceKind.SERVICE) -> Manifest:
    handler_kind = HandlerKind.PLAIN if kind is ServiceKind.SERVICE else HandlerKind.EXCLUSIVE
    return Manifest(
        services=tuple(
            ServiceManifest(
                name=name, kind=kind, handlers=(HandlerManifest(name="run", kind=handler_kind),)
            )
            for name in names
        )
    )


class FakePort:
    def __init__(self, name: str, endpoint: Endpoint, manifest: Manifest) -> None:
        self.deployment_name = name
        self.endpoint = endpoint
        self.manifest = manifest
        self.is_draining = False
        self.is_closed = False
        self.attempts: list[ScriptedAttempt] = []

    def update(self, endpoint: Endpoint, manifest: Manifest) -> None:
        self.endpoint, self.manifest = endpoint, manifest

    async def close(self) -> None:
        self.is_closed = True
        for attempt in self.attempts:
            attempt.stream.on_closed("the endpoint was removed")

    def open(
        self, start: Start, entries: Sequence[Entry], stream: AttemptStream
    ) -> ScriptedAttempt:
        attempt = ScriptedAttempt(start, entries, stream)
        self.attempts.append(attempt)
        return attempt


class FakeDialer:
    """Endpoints by address."""

    def __init__(self) -> None:
        self.served = {A: manifest_of("S"), B: manifest_of("S")}
        self.ports: dict[str, FakePort] = {}
        self.asked: list[tuple[str, dict[str, str], HttpVersion | None]] = []
        self.protocol_version_max = 6

    async def discover(
        self, uri: str, headers: dict[str, str], http_version: HttpVersion | None
    ) -> tuple[Endpoint, Manifest]:
        self.asked.append((uri, headers, http_version))
        await asyncio.sleep(0)
        endpoint = Endpoint(
            uri=uri,
            headers=headers,
            http_version=http_version or HttpVersion.HTTP_2,
            is_bidirectional=http_version is not HttpVersion.HTTP_1_1,
            protocol_version_min=5,
            protocol_version_max=self.protocol_version_max,
        )
        return endpoint, self.served[uri]

    def connect(self, name: str, endpoint: Endpoint, manifest: Manifest) -> FakePort:
        port = self.ports[endpoint.uri] = FakePort(name, endpoint, manifest)
        return port
