from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from scripted_endpoint import Endpoint as ScriptedEndpoint
from scripted_endpoint import Exchange, listening

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.domain.target import HandlerKind, Manifest
from holdfast.protocol.restate.discovery import DiscoveryError
from holdfast.transport.base import EndpointError
from holdfast.transport.http import discovery
from holdfast.transport.http.dialer import HttpDialer

MANIFEST: dict[str, Any] = {
    "protocolMode": "BIDI_STREAM",
    "minProtocolVersion": 5,
    "maxProtocolVersion": 7,
    "services": [{"name": "Greeter", "ty": "SERVICE", "handlers": [{"name": "greet"}]}],
}
MEDIA_TYPE = "application/vnd.restate.endpointmanifest.v4+json"


class Serving:
    """An endpoint that answers every request alike."""

    def __init__(self, scripted: ScriptedEndpoint) -> None:
        self.uri = scripted.uri
        self.status = 200
        self.headers = [("content-type", MEDIA_TYPE), ("x-restate-server", "some-sdk/1.2.3")]
        self.body = json.dumps(MANIFEST).encode()
        self.seen: list[dict[str, str]] = []
        scripted.on_exchange = self._answer

    def _answer(self, exchange: Exchange) -> None:
        self.seen.append(exchange.fields)
        exchange.respond(self.status, self.headers)
        exchange.send(self.body)
        exchange.end()

    def serve(self, **changes: Any) -> None:
        self.body = json.dumps(MANIFEST | changes).encode()


@pytest.fixture
async def serving(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Serving]:
    monkeypatch.setattr(discovery, "TRY_DELAY_S", 0.001)
    async with listening() as scripted:
        yield Serving(scripted)


async def discover(uri: str, **options: Any) -> tuple[Endpoint, Manifest]:
    return await HttpDialer().discover(uri, options.get("headers", {}), options.get("http_version"))


async def refused(uri: str, **options: Any) -> HoldfastError:
    with pytest.raises(HoldfastError) as caught:
        await discover(uri, **options)
    return caught.value


async def test_an_endpoint_is_asked_with_all_versions_of_the_manifest(serving: Serving) -> None:
    endpoint, manifest = await discover(serving.uri)
    assert endpoint == Endpoint(
        uri=f"{serving.uri}/",
        http_version=HttpVersion.HTTP_2,
        is_bidirectional=True,
        protocol_version_min=5,
        protocol_version_max=7,
        sdk_version="some-sdk/1.2.3",
    )
    assert [service.name for service in manifest.services] == ["Greeter"]
    [seen] = serving.seen
    assert (seen[":method"], seen[":path"]) == ("GET", "/discover")
    assert seen["accept"] == (
        "application/vnd.restate.endpointmanifest.v1+json, "
        "application/vnd.restate.endpointmanifest.v2+json, "
        "application/vnd.restate.endpointmanifest.v3+json, "
        "application/vnd.restate.endpointmanifest.v4+json"
    )


async def test_base_path_query_and_headers_are_kept(serving: Serving) -> None:
    uri = f"{serving.uri}/base/?team=shop"
    endpoint, _ = await discover(uri, headers={"X-Tenant": "t"})
    assert endpoint.uri == uri
    assert endpoint.headers == {"x-tenant": "t"}
    assert serving.seen[0][":path"] == "/base/discover?team=shop"
    assert serving.seen[0]["x-tenant"] == "t"


async def test_a_workflow_handler_without_a_type_is_shared(serving: Serving) -> None:
    serving.serve(services=[{"name": "Wf", "ty": "WORKFLOW", "handlers": [{"name": "look"}]}])
    _, manifest = await discover(serving.uri)
    assert manifest.services[0].handlers[0].kind is HandlerKind.SHARED


@pytest.mark.parametrize(
    ("changes", "restate_code", "status"),
    [
        ({"unheardOf": 1}, None, 500),
        ({"protocolMode": None}, "META0013", 500),
        ({"minProtocolVersion": 1, "maxProtocolVersion": 4}, "META0012", 500),
        ({"services": [{"name": "restateX", "ty": "SERVICE", "handlers": []}]}, "META0005", 400),
        ({"services": [{"name": "openapi", "ty": "SERVICE", "handlers": []}]}, "META0005", 400),
    ],
    ids=["unknown field", "no protocol mode", "versions 1 to 4", "reserved", "openapi"],
)
async def test_a_manifest_that_cannot_be_used(
    serving: Serving, changes: dict[str, Any], restate_code: str | None, status: int
) -> None:
    serving.serve(**changes)
    error = await refused(serving.uri)
    assert isinstance(error, DiscoveryError)
    assert (error.restate_code, error.status) == (restate_code, status)
    assert len(serving.seen) == 1


async def test_another_content_type(serving: Serving) -> None:
    serving.headers = [("content-type", "text/html")]
    serving.body = b"<html>secret</html>"
    error = await refused(serving.uri)
    assert isinstance(error, DiscoveryError)
    assert error.restate_code == "META0013"
    assert "secret" not in str(error)


@pytest.mark.parametrize(("status", "count"), [(404, 1), (401, 1), (302, 1), (500, 3), (503, 3)])
async def test_another_status(serving: Serving, status: int, count: int) -> None:
    serving.status = status
    serving.headers = [("location", "http://127.0.0.1:1/")]
    serving.body = b"secret"
    error = await refused(serving.uri)
    assert isinstance(error, EndpointError)
    assert (error.code, error.restate_code) == ("HF1341", "META0003")
    assert f"status {status}" in error.message
    assert "secret" not in str(error)
    assert len(serving.seen) == count


async def test_an_endpoint_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "TRY_DELAY_S", 0.001)
    error = await refused("http://127.0.0.1:1")
    assert isinstance(error, EndpointError)
    assert (error.code, error.restate_code) == ("HF1340", "META0003")
    assert "Connection refused" in error.message


async def test_an_endpoint_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "ANSWER_TIMEOUT_S", 0.05)
    async with listening() as scripted:
        error = await refused(scripted.uri)
    assert isinstance(error, EndpointError)
    assert (error.code, error.restate_code) == ("HF1350", "META0003")


async def test_an_endpoint_that_says_too_much(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "ANSWER_SIZE_BYTES_MAX", 1000)
    serving.body = bytes(1001)
    assert (await refused(serving.uri)).code == "HF1350"


# -- HTTP/1.1 --------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def http_1_server(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", requests
    finally:
        server.close()


async def test_http_1_is_spoken_where_it_is_asked_for() -> None:
    body = json.dumps(MANIFEST | {"protocolMode": "REQUEST_RESPONSE"}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
    async with http_1_server(head.encode() + body) as (uri, requests):
        endpoint, _ = await discover(uri, http_version=HttpVersion.HTTP_1_1)
    assert endpoint.http_version is HttpVersion.HTTP_1_1
    assert not endpoint.is_bidirectional
    assert requests[0].startswith(b"GET /discover HTTP/1.1\r\n")


async def test_an_http_1_server_asked_over_http_2() -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    async with http_1_server(answer) as (uri, requests):
        error = await refused(uri)
    assert isinstance(error, EndpointError)
    assert (error.code, error.restate_code) == ("HF1348", "META0014")
    assert "--use-http1.1" in error.hint
    assert len(requests) == 1


async def test_an_http_2_listener_asked_over_http_1(serving: Serving) -> None:
    error = await refused(serving.uri, http_version=HttpVersion.HTTP_1_1)
    assert isinstance(error, EndpointError)
    assert (error.code, error.restate_code) == ("HF1340", "META0003")
    assert serving.seen == []


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "224.0.0.1", "[::ffff:a9fe:1]"])
async def test_link_local_and_multicast_addresses_are_not_asked(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        await discover(f"http://{host}/latest")
    assert caught.value.code == "HF1281"
