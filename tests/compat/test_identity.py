"""Signed requests, and Restate's Python SDK that checks them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("restate", reason="restate-sdk is a development dependency")
pytest.importorskip("hypercorn", reason="hypercorn is a development dependency")
pyqwest = pytest.importorskip("pyqwest")

import restate  # noqa: E402
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from cryptography.hazmat.primitives.serialization import (  # noqa: E402
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from holdfast.protocol.identity import SCHEME_HEADER, TOKEN_HEADER, print_public_key  # noqa: E402
from holdfast.server.app import Server  # noqa: E402
from holdfast.server.config import ServerConfig  # noqa: E402
from tests.compat.python_sdk_app import counter, steps  # noqa: E402
from tests.compat.python_sdk_app import serving as serving_app  # noqa: E402


def make_key(path: Path) -> str:
    """Write a private key and return the public one as text."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return print_public_key(key.public_key().public_bytes_raw())


class Trusting:
    """An endpoint that trusts some keys, mounted below a prefix; notes what it is asked."""

    def __init__(self, *trusted: str) -> None:
        self.trusted = list(trusted)
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.schemes: list[bytes | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            assert (TOKEN_HEADER.encode() in headers) == (SCHEME_HEADER.encode() in headers)
            self.paths.append(scope["path"])
            self.schemes.append(headers.get(SCHEME_HEADER.encode()))

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        # Made anew for each request, so that a test can change who is trusted.
        app: Any = restate.app([steps, counter], identity_keys=self.trusted)
        await app(scope, receive, noting)


class Running:
    def __init__(self, server: Server, client: Any) -> None:
        self.server = server
        self._client = client

    async def ask(self, url: str, body: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"}
        async with asyncio.timeout(10):
            response = await self._client.execute("POST", url, headers, body)
        return response.status, bytes(response.content)

    async def register(self, uri: str, *, is_http_1: bool = False) -> tuple[int, bytes]:
        body = f'{{"uri": "{uri}", "use_http_11": {str(is_http_1).lower()}}}'
        return await self.ask(f"{self.server.admin_url}/deployments", body.encode())

    async def call(self, path: str, body: bytes) -> tuple[int, bytes]:
        return await self.ask(f"{self.server.ingress_url}/{path}", body)


@contextlib.asynccontextmanager
async def running(key: Path | None) -> AsyncIterator[Running]:
    config = ServerConfig(
        store="memory:",
        ingress="127.0.0.1:0",
        admin="127.0.0.1:0",
        identity_key_file=None if key is None else str(key),
    )
    transport = pyqwest.HTTPTransport(http_version=pyqwest.HTTPVersion.HTTP1, enable_otel=False)
    async with Server(config) as server, transport:
        yield Running(server, pyqwest.Client(transport))


@pytest.mark.parametrize("is_http_1", [False, True])
async def test_a_matching_key_is_accepted_also_behind_a_prefix(
    tmp_path: Path, is_http_1: bool
) -> None:
    public_key = make_key(tmp_path / "private.pem")
    endpoint = Trusting(public_key)
    async with running(tmp_path / "private.pem") as it, serving_app(app=endpoint) as uri:
        assert it.server.public_key == public_key
        status, body = await it.register(f"{uri}/behind/a/proxy?x=1", is_http_1=is_http_1)
        assert status == 201, body
        assert await it.call("Steps/greet", b'"Ada"') == (200, b'"Hello Ada"')
        # With a key, which is signed, too.
        assert (await it.call("Counter/k/add", b"1"))[0] == 200
    assert endpoint.paths == [
        "/behind/a/proxy/discover",
        "/behind/a/proxy/invoke/Steps/greet",
        "/behind/a/proxy/invoke/Counter/add",
    ]
    assert set(endpoint.schemes) == {b"v1"}


async def test_no_key_and_another_key_are_refused(tmp_path: Path) -> None:
    trusted = make_key(tmp_path / "trusted.pem")
    make_key(tmp_path / "other.pem")
    for key in (None, tmp_path / "other.pem"):
        endpoint = Trusting(trusted)
        async with running(key) as it, serving_app(app=endpoint) as uri:
            status, body = await it.register(uri)
            assert status == 500
            assert b'"restate_code":"META0003"' in body
            assert b"status 401" in body
            assert b"--identity-key" in body
        assert endpoint.statuses == [401]


async def test_an_attempt_that_is_refused_is_retried(tmp_path: Path) -> None:
    trusted = make_key(tmp_path / "trusted.pem")
    other = make_key(tmp_path / "other.pem")
    endpoint = Trusting(trusted)
    async with running(tmp_path / "trusted.pem") as it, serving_app(app=endpoint) as uri:
        assert (await it.register(uri))[0] == 201
        endpoint.trusted[:] = [other]
        call = asyncio.create_task(it.call("Steps/greet", b'"Ada"'))
        async with asyncio.timeout(10):
            while 401 not in endpoint.statuses:
                await asyncio.sleep(0.005)
        endpoint.trusted[:] = [other, trusted]
        assert await call == (200, b'"Hello Ada"')
    assert endpoint.statuses == [200, 401, 200]


async def test_without_a_key_nothing_is_signed() -> None:
    endpoint = Trusting()
    async with running(None) as it, serving_app(app=endpoint) as uri:
        assert it.server.public_key is None
        assert (await it.register(uri))[0] == 201
        assert await it.call("Steps/greet", b'"Ada"') == (200, b'"Hello Ada"')
    assert endpoint.schemes == [None, None]
