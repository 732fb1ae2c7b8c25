"""Endpoints behind TLS: which HTTP version is agreed on, and which certificates are taken."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")

from cryptography import x509
from scripted_endpoint import listening
from tls_endpoint import Authority, TlsEndpoint, tls_endpoint

from holdfast.domain.deployment import HttpVersion
from holdfast.domain.message import Value
from holdfast.domain.target import Target
from holdfast.engine.row import AttemptFailure
from holdfast.server.clock import SystemClock
from holdfast.server.handle import Request
from holdfast.server.host import Host
from holdfast.server.registration import Registration
from holdfast.storage.memory import MemoryStore
from holdfast.transport.base import EndpointError
from holdfast.transport.http import discovery
from holdfast.transport.http.dialer import HttpDialer


class Certificates(NamedTuple):
    authority: Path
    """The one that is trusted."""
    good: Path
    foreign: Path
    expired: Path
    misnamed: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("tls")
    own = Authority(folder, "own")
    return Certificates(
        authority=own.file,
        good=own.issue("good.pem"),
        foreign=Authority(folder, "foreign").issue("unknown.pem"),
        expired=own.issue("expired.pem", valid_for=datetime.timedelta(hours=-1)),
        misnamed=own.issue("misnamed.pem", name=x509.DNSName("handlers.example")),
    )


@pytest.fixture(autouse=True)
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "TRY_DELAY_S", 0.001)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))


@contextlib.asynccontextmanager
async def started() -> AsyncGenerator[Host]:
    host = Host(MemoryStore(1), SystemClock(), dialer=HttpDialer())
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


async def register(
    host: Host, endpoint: TlsEndpoint, http_version: HttpVersion | None = None
) -> None:
    await host.register_endpoint(Registration(endpoint.uri, {}, {}, http_version))


async def send(host: Host) -> str:
    target = Target("Greeter", "greet", None)
    request = Request(target, host.resolve("Greeter", "greet"), b'"Ada"')
    return (await host.send(request)).invocation_id


async def greeting(host: Host, invocation_id: str) -> str:
    async with asyncio.timeout(5):
        outcome = (await host.attach(invocation_id)).outcome
    assert isinstance(outcome, Value)
    text: str = json.loads(outcome.content)
    return text


async def failure(host: Host, invocation_id: str) -> AttemptFailure:
    """Wait until an attempt has failed."""
    async with asyncio.timeout(5):
        while True:
            row = await host.invocation(invocation_id)
            if row is not None and row.last_failure is not None:
                return row.last_failure
            await asyncio.sleep(0.002)


async def refused(host: Host, uri: str) -> EndpointError:
    with pytest.raises(EndpointError) as caught:
        await host.register_endpoint(Registration(uri, {}, {}))
    assert host.deployments() == []
    return caught.value


# -- HTTP versions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpn", "asked", "spoken"),
    [
        (("h2", "http/1.1"), None, HttpVersion.HTTP_2),
        (("http/1.1", "h2"), None, HttpVersion.HTTP_1_1),
        (("http/1.1",), None, HttpVersion.HTTP_1_1),
        ((), None, HttpVersion.HTTP_1_1),
        (("h2", "http/1.1"), HttpVersion.HTTP_1_1, HttpVersion.HTTP_1_1),
    ],
    ids=["both", "1.1 preferred", "only 1.1", "no ALPN", "1.1 asked for"],
)
async def test_attempts_use_the_version_that_the_registration_agreed_on(
    alpn: tuple[str, ...],
    asked: HttpVersion | None,
    spoken: HttpVersion,
    certificates: Certificates,
) -> None:
    async with tls_endpoint(certificates.good, alpn) as endpoint, started() as host:
        await register(host, endpoint, asked)
        assert await greeting(host, await send(host)) == "Hello Ada!"
        [deployment] = host.deployments()
        assert deployment.endpoint is not None
        assert deployment.endpoint.http_version is spoken
        # Only HTTP/2 is sure to carry both directions at once.
        assert deployment.endpoint.is_bidirectional is (spoken is HttpVersion.HTTP_2)
    assert endpoint.seen[0][2] == "/discover"
    assert "/invoke/Greeter/greet" in [path for _, _, path in endpoint.seen]
    version = "2" if spoken is HttpVersion.HTTP_2 else "1.1"
    assert {seen[:2] for seen in endpoint.seen} == {("https", version)}


async def test_an_endpoint_that_changes_its_version_is_registered_again(
    certificates: Certificates,
) -> None:
    async with tls_endpoint(certificates.good) as endpoint, started() as host:
        await register(host, endpoint)
        endpoint.offer(["http/1.1"])
        endpoint.seen.clear()
        await host.register_endpoint(Registration(endpoint.uri, {}, {}, is_forced=True))
        assert await greeting(host, await send(host)) == "Hello Ada!"
        assert {version for _, version, _ in endpoint.seen} == {"1.1"}
        [deployment] = host.deployments()
        assert deployment.endpoint is not None
        assert deployment.endpoint.http_version is HttpVersion.HTTP_1_1


# -- certificates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [("foreign", "UnknownIssuer"), ("expired", "expired"), ("misnamed", "not valid for name")],
)
async def test_a_certificate_that_is_not_trusted_is_not_registered(
    kind: str, text: str, certificates: Certificates
) -> None:
    async with tls_endpoint(getattr(certificates, kind)) as endpoint, started() as host:
        error = await refused(host, endpoint.uri)
    assert (error.code, error.restate_code, error.status) == ("HF1340", "META0003", 500)
    assert error.message.startswith(f"{endpoint.uri}/ cannot be reached: invalid peer certificate")
    assert text in error.message
    assert "SSL_CERT_FILE" in error.hint
    assert endpoint.seen == []


async def test_attempts_wait_until_the_certificate_is_trusted_again(
    certificates: Certificates,
) -> None:
    async with tls_endpoint(certificates.good) as endpoint, started() as host:
        await register(host, endpoint)
        endpoint.show(certificates.foreign)
        invocation_id = await send(host)
        found = await failure(host, invocation_id)
        assert found.message == (
            "the endpoint cannot be reached: invalid peer certificate: UnknownIssuer [HF1340]"
        )
        # Nothing was sent to whom it was not for.
        assert [path for _, _, path in endpoint.seen] == ["/discover"]
        endpoint.show(certificates.good)
        assert await greeting(host, invocation_id) == "Hello Ada!"


async def test_authorities_in_a_folder(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Named as `openssl rehash` does.
    (tmp_path / "0a1b2c3d.0").write_bytes(certificates.authority.read_bytes())
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with tls_endpoint(certificates.good) as endpoint, started() as host:
        await register(host, endpoint)
        assert await greeting(host, await send(host)) == "Hello Ada!"


async def test_a_server_without_certificates_says_so(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with tls_endpoint(certificates.good) as endpoint, started() as host:
        with monkeypatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
            error = await refused(host, endpoint.uri)
            assert (error.code, error.restate_code) == ("HF1340", "META0003")
            assert error.message.startswith("This server has no certificates")
            assert "SSL_CERT_FILE" in error.hint
        await register(host, endpoint)
        with monkeypatch.context() as patch:
            patch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
            invocation_id = await send(host)
            found = await failure(host, invocation_id)
            assert found.message.startswith("This server has no certificates")
            assert found.message.endswith("[HF1340]")
        assert await greeting(host, invocation_id) == "Hello Ada!"


# -- the wrong scheme ------------------------------------------------------------------------------


async def test_https_where_no_tls_is_spoken() -> None:
    async with listening() as endpoint, started() as host:
        error = await refused(host, endpoint.uri.replace("http:", "https:"))
    assert error.code == "HF1340"
    assert "http://" in error.hint


async def test_http_where_tls_is_spoken(certificates: Certificates) -> None:
    async with tls_endpoint(certificates.good) as endpoint, started() as host:
        error = await refused(host, endpoint.uri.replace("https:", "http:"))
    assert error.code == "HF1348"
    assert "https://" in error.hint
