"""An endpoint behind TLS, and the authorities that issue its certificates."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, cast

import hypercorn.asyncio
import hypercorn.config
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import holdfast as hf

_DAY = datetime.timedelta(days=1)
_LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Authority:
    """Issues certificates.

    Args:
        folder: Where its files go.
        name: Of the authority and of its file.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        begun = self._begun(self._name, self._key, _DAY).add_extension(constraints, critical=True)
        certificate = begun.sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(
        self,
        file: str,
        *,
        valid_for: datetime.timedelta = _DAY,
        name: x509.GeneralName = _LOOPBACK,
    ) -> Path:
        """Write a certificate, with its private key, to a file.

        Args:
            file: Name of the file.
            valid_for: From now; it began two days ago.
            name: Whom the certificate is for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, file)])
        names = x509.SubjectAlternativeName([name])
        begun = self._begun(subject, key, valid_for).add_extension(names, critical=False)
        certificate = begun.sign(self._key, hashes.SHA256())
        path = self._folder / file
        path.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return path

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, valid_for: datetime.timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return x509.CertificateBuilder(
            issuer_name=self._name,
            subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - 2 * _DAY,
            not_valid_after=now + valid_for,
        )


class TlsEndpoint:
    """A running endpoint with the handler `Greeter/greet`."""

    def __init__(self, certificate: Path, alpn: Sequence[str]) -> None:
        self.uri = ""
        self.seen: list[tuple[str, str, str]] = []
        """Of each request: scheme, HTTP version, path."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if alpn:
            self.offer(alpn)
        self._context.load_cert_chain(certificate)
        greeter = hf.Service("Greeter", retry=hf.RetryPolicy(initial_interval=0.01, factor=1))

        @greeter.handler
        async def greet(ctx: hf.Context, name: str) -> str:
            return await ctx.run("greet", lambda: f"Hello {name}!")

        self._served = hf.App(greeter).endpoint()

    def show(self, certificate: Path) -> None:
        """Show this certificate to connections from now on."""
        self._context.load_cert_chain(certificate)

    def offer(self, alpn: Sequence[str]) -> None:
        """Offer these protocols to connections from now on, best first."""
        self._context.set_alpn_protocols(list(alpn))

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"https://127.0.0.1:{listener.getsockname()[1]}"
        config = _Config()
        config.context = self._context
        # Taken over, and closed in the end.
        config.bind = [f"fd://{listener.detach()}"]
        config.accesslog = config.errorlog = None
        config.graceful_timeout = config.shutdown_timeout = 0.1
        stop = asyncio.Event()
        serve = cast("Any", hypercorn.asyncio).serve
        server = asyncio.ensure_future(serve(self._answer, config, shutdown_trigger=stop.wait))
        try:
            yield
        finally:
            await self._served.drain(0)
            stop.set()
            await server

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            self.seen.append((scope["scheme"], scope["http_version"], scope["path"]))
        await self._served(scope, receive, send)


class _Config(hypercorn.config.Config):
    """Takes the TLS context that it is given."""

    context: ssl.SSLContext

    @property
    def ssl_enabled(self) -> bool:
        return True

    def create_ssl_context(self) -> ssl.SSLContext:
        return self.context


@contextlib.asynccontextmanager
async def tls_endpoint(
    certificate: Path, alpn: Sequence[str] = ("h2", "http/1.1")
) -> AsyncGenerator[TlsEndpoint]:
    """Serve on a free port of loopback.

    Args:
        certificate: From `Authority.issue`.
        alpn: Protocols that the endpoint offers, best first; none leaves the extension out.
    """
    endpoint = TlsEndpoint(certificate, alpn)
    async with endpoint.serving():
        yield endpoint
