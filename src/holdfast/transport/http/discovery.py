"""Asking an endpoint what it serves, over the HTTP version that its attempts will use."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from holdfast.domain.address import DEFAULT_PORTS, check_headers, parse_uri, url_of
from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.errors import UsageError
from holdfast.domain.target import Manifest
from holdfast.protocol.restate.discovery import DISCOVERY_ACCEPT
from holdfast.protocol.restate.manifest import decode_manifest
from holdfast.protocol.restate.version import VERSION_MAX
from holdfast.transport.base import EndpointError, Sign
from holdfast.transport.http.client import Failure, Pool, failure_of, new_request

if TYPE_CHECKING:
    import pyqwest

ANSWER_TIMEOUT_S = 20.0
ANSWER_SIZE_BYTES_MAX = 16 * 1024 * 1024
TRIES = 3
TRY_DELAY_S = 0.2

_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class _Answer(NamedTuple):
    status: int
    content_type: str | None
    server: str
    http_version: HttpVersion
    body: bytes


async def discover(
    uri: str,
    headers: dict[str, str],
    http_version: HttpVersion | None,
    sign: Sign | None = None,
    version_max: int = VERSION_MAX,
) -> tuple[Endpoint, Manifest]:
    """Ask an endpoint what it serves; see `Dialer.discover`.

    Raises:
        UsageError: HF1281 address, HF1282 headers.
        EndpointError: HF1340 not reached, HF1341 status, HF1348 only HTTP/1.1, HF1350 too large
            or too slow.
        DiscoveryError: The manifest cannot be used.
    """
    uri, headers = parse_uri(uri), check_headers(headers)
    await _check_host(uri)
    is_tls = uri.startswith("https:")
    if http_version is None and not is_tls:
        http_version = HttpVersion.HTTP_2
    pool = Pool(http_version, is_tls=is_tls)
    try:
        answer = await _ask(pool, uri, headers, http_version, sign)
    finally:
        await pool.close()
    found = decode_manifest(answer.body, answer.content_type, version_max)
    endpoint = Endpoint(
        uri=uri,
        headers=headers,
        http_version=answer.http_version,
        is_bidirectional=found.is_bidirectional,
        protocol_version_min=found.protocol_version_min,
        protocol_version_max=found.protocol_version_max,
        sdk_version=answer.server[:200],
    )
    return endpoint, found.manifest


async def _ask(
    pool: Pool,
    uri: str,
    headers: dict[str, str],
    http_version: HttpVersion | None,
    sign: Sign | None,
) -> _Answer:
    """Get the answer; what may be over in a moment is tried again."""
    rest = TRIES
    while True:
        rest -= 1
        signed = headers if sign is None else {**headers, **dict(sign("/discover", None))}
        answer = await _try_in_time(pool, uri, signed)
        if isinstance(answer, Failure):
            is_http_1 = answer.is_http_1 and http_version is HttpVersion.HTTP_2
            if is_http_1 or not rest:
                raise _unreached(uri, answer, http_version)
        elif answer.status not in _AGAIN or not rest:
            break
        await asyncio.sleep(TRY_DELAY_S)
    if not 200 <= answer.status < 300:
        raise EndpointError(
            f"{uri} answered GET …/discover with status {answer.status}.",
            code="HF1341",
            restate_code="META0003",
            hint="It does not trust this server: give it the server's public key, which belongs to"
            " --identity-key."
            if answer.status == 401
            else "Is this the address of an SDK's endpoint, and its path complete?",
        )
    return answer


async def _try_in_time(pool: Pool, uri: str, headers: dict[str, str]) -> _Answer | Failure:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await _try(pool, uri, headers)
    except TimeoutError as error:
        raise EndpointError(
            f"{uri} did not answer its discovery within {ANSWER_TIMEOUT_S:.0f} s.",
            code="HF1350",
            restate_code="META0003",
            hint="Is this the address of an SDK's endpoint?",
        ) from error


async def _try(pool: Pool, uri: str, headers: dict[str, str]) -> _Answer | Failure:
    connection = pool.take()
    request = new_request("GET", url_of(uri, "discover"), {**headers, "accept": DISCOVERY_ACCEPT})
    try:
        response = await connection.transport.execute(request)
        async with response:
            body = await _read(uri, response)
            return _Answer(
                response.status,
                response.headers.get("content-type"),
                response.headers.get("x-restate-server") or "",
                _version_of(response),
                body,
            )
    except (EndpointError, TimeoutError):
        raise
    except Exception as error:
        return failure_of(error)
    finally:
        pool.release(connection)


async def _read(uri: str, response: pyqwest.Response) -> bytes:
    body = bytearray()
    async for chunk in response.content:
        body += chunk
        if len(body) > ANSWER_SIZE_BYTES_MAX:
            raise EndpointError(
                f"The manifest of {uri} is larger than {ANSWER_SIZE_BYTES_MAX} bytes.",
                code="HF1350",
                hint="Serve fewer services from one endpoint, or smaller JSON schemas.",
            )
    return bytes(body)


def _version_of(response: pyqwest.Response) -> HttpVersion:
    import pyqwest

    is_http_2 = response.http_version == pyqwest.HTTPVersion.HTTP2
    return HttpVersion.HTTP_2 if is_http_2 else HttpVersion.HTTP_1_1


def _unreached(uri: str, failure: Failure, http_version: HttpVersion | None) -> EndpointError:
    if failure.is_http_1 and http_version is HttpVersion.HTTP_2:
        return EndpointError(
            f"{uri} does not speak HTTP/2 without TLS, as far as one can tell: {failure.text}.",
            code="HF1348",
            restate_code="META0014",
            hint="Register it with use_http_11 (holdfast: --use-http1.1), or serve HTTP/2. If it"
            " speaks TLS, register it with https://.",
        )
    if failure.is_untrusted:
        hint = (
            "If its authority is your own, name the file with that certificate (PEM) in"
            " SSL_CERT_FILE where this server is started."
        )
    elif failure.is_not_tls:
        hint = "What listens there does not speak TLS: register it with http://."
    else:
        hint = (
            "Is it running, and can this server reach it? The address is looked up here, not"
            " where the command runs."
        )
    return EndpointError(
        f"{uri} cannot be reached: {failure.text}.",
        code="HF1340",
        restate_code="META0003",
        hint=hint,
    )


async def _check_host(uri: str) -> None:
    """Refuse addresses where no handlers are, but where a server must not be sent by others.

    Link-local addresses answer with the credentials of cloud machines, and multicast ones reach
    everybody. Loopback and private networks are where handlers usually live, and are taken.

    Raises:
        UsageError: HF1281.
    """
    parts = urlsplit(uri)
    host = parts.hostname or ""
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # Connecting will say it better.
        return
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        if ip.is_link_local or ip.is_multicast:
            raise UsageError(
                f"{host} is {ip}: this server does not register link-local or multicast addresses.",
                code="HF1281",
                hint="Handlers listen on loopback, in a private network, or publicly.",
            )
