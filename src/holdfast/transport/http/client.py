"""The HTTP client: connections to one endpoint, the body of a request, and what failures mean.

Built on `pyqwest` (hyper below it). It never follows redirects, ignores proxies of the environment,
which cannot carry HTTP/2 without TLS, and does not unpack compressed responses.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from holdfast.domain.deployment import HttpVersion
from holdfast.transport.base import EndpointError

if TYPE_CHECKING:
    import pyqwest

_logger = logging.getLogger(__name__)

STREAMS_MAX = 100
"""Exchanges on one HTTP/2 connection. More open another: waiting ones must not block those that
what they wait for needs."""
EXCHANGES_MAX = 500
"""Exchanges in the life of one HTTP/2 connection. Some servers break theirs, with all that is open
on it, after a number of requests: hypercorn, which serves most Python handlers, after 1,000."""
SUSPICION_S = 60.0
"""How long a peer that has broken a connection is taken for one that does so."""
CONNECT_TIMEOUT_S = 10.0

_CHUNK_SIZE_BYTES = 64 * 1024


class Body:
    """The body of a request, written while it is being sent. An async iterator of chunks.

    The transport takes a chunk when the peer has room for it.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        """What waits to be sent."""
        self._chunks: deque[bytes] = deque()
        self._has_ended = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, data: bytes) -> None:
        """Send bytes. After `end` they are dropped."""
        if data and not self._has_ended:
            self._chunks.append(data)
            self.size_bytes += len(data)
            self._wake()

    def end(self) -> None:
        """Close this half of the exchange behind what was put. Idempotent."""
        self._has_ended = True
        self._wake()

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._has_ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
            self._waiter = None
        first = self._chunks.popleft()
        size = len(first)
        more: list[bytes] = []
        while self._chunks and size + len(self._chunks[0]) <= _CHUNK_SIZE_BYTES:
            more.append(self._chunks.popleft())
            size += len(more[-1])
        self.size_bytes -= size
        return b"".join((first, *more)) if more else first

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Failure(NamedTuple):
    """Why an exchange broke."""

    text: str
    is_unprocessed: bool
    """The peer says that it has not looked at the request: it may be sent again at once."""
    is_connected: bool
    """False: there was no connection in the first place."""
    is_http_1: bool = False
    """The connection ended as it does where only HTTP/1.1 is spoken."""
    is_break: bool = False
    """A connection ended, with all that was open on it."""

    @property
    def is_untrusted(self) -> bool:
        """The certificate of the peer was not accepted."""
        return "invalid peer certificate" in self.text

    @property
    def is_not_tls(self) -> bool:
        """The peer answered the first message of TLS with something else."""
        return "InvalidContentType" in self.text


def failure_of(error: Exception) -> Failure:
    """Say what an error of the client means."""
    import pyqwest

    text = _innermost(str(error)) or type(error).__name__
    if isinstance(error, pyqwest.StreamError):
        is_unprocessed = error.code is pyqwest.StreamErrorCode.REFUSED_STREAM
        return Failure(f"{text} ({error.code.name})", is_unprocessed, True)
    if isinstance(error, ConnectionError | TimeoutError):
        return Failure(text, False, False)
    if not isinstance(error, pyqwest.RemoteProtocolError | pyqwest.ReadError | pyqwest.WriteError):
        # Perhaps a bug of ours: the peer is told off for it, so the log must have the whole of it.
        _logger.warning("an HTTP exchange ended with an unexpected error", exc_info=error)
    # An HTTP/1.1 server answers the preface of HTTP/2 with an error that is no frame, and hangs up.
    is_http_1 = "channel closed" in text or "frame with invalid size" in text
    return Failure(text, False, True, is_http_1, is_break=True)


def _innermost(text: str) -> str:
    """Cut what the layers of the client say about each other, and the URL, which may be secret."""
    for start in ("client error (Connect): ", "client error (SendRequest): ", "): "):
        _, found, rest = text.partition(start)
        if found:
            return rest
    return text.removeprefix("Request failed: ").removeprefix("Error reading content: ")


class Connection:
    """A transport that keeps one HTTP/2 connection, or a pool of HTTP/1.1 ones.

    Raises:
        EndpointError: HF1340, there is nothing to check certificates with.
    """

    def __init__(self, http_version: HttpVersion | None, *, is_tls: bool) -> None:
        import pyqwest

        version = {
            HttpVersion.HTTP_1_1: pyqwest.HTTPVersion.HTTP1,
            HttpVersion.HTTP_2: pyqwest.HTTPVersion.HTTP2,
            None: None,
        }[http_version]
        self.open_count = 0
        self.total_count = 0
        try:
            self.transport = pyqwest.HTTPTransport(
                # Those in SSL_CERT_FILE and SSL_CERT_DIR where one is set.
                tls_include_system_certs=is_tls,
                http_version=version,
                proxy=pyqwest.Proxy("http://127.0.0.1:9", no_proxy="*,0.0.0.0/0,::/0"),
                connect_timeout=CONNECT_TIMEOUT_S,
                pool_idle_timeout=300.0,
                use_system_dns=True,
                enable_gzip=False,
                enable_brotli=False,
                enable_zstd=False,
                follow_redirects=False,
                enable_otel=False,
            )
        except RuntimeError as error:
            if "certificate" not in str(error):
                raise
            # A container without certificates, or a variable that names no file.
            text = str(error).rpartition(": ")[2]
            raise EndpointError(
                f"This server has no certificates to check those of endpoints with: {text}.",
                code="HF1340",
                restate_code="META0003",
                hint="Name a file with certificates (PEM) in SSL_CERT_FILE, or install those of the"
                " system (Debian: ca-certificates).",
            ) from error


class Pool:
    """Connections to one endpoint.

    Args:
        http_version: None asks a TLS endpoint for the best that both know.
        is_tls: Whether the endpoint is asked for a certificate.
    """

    def __init__(self, http_version: HttpVersion | None, *, is_tls: bool) -> None:
        self._http_version = http_version
        self._is_tls = is_tls
        self._connections: list[Connection] = []
        self._broke_at_s = -math.inf

    @property
    def is_suspect(self) -> bool:
        """Whether the peer has broken a connection lately."""
        return asyncio.get_running_loop().time() - self._broke_at_s < SUSPICION_S

    def note_break(self) -> None:
        """Remember that the peer has broken a connection."""
        self._broke_at_s = asyncio.get_running_loop().time()

    def take(self) -> Connection:
        """Return a connection with room for one more exchange; give it back with `release`.

        Raises:
            EndpointError: See `Connection`.
        """
        is_shared = self._http_version is HttpVersion.HTTP_2
        for connection in self._connections:
            if not is_shared or connection.open_count < STREAMS_MAX:
                break
        else:
            connection = Connection(self._http_version, is_tls=self._is_tls)
            self._connections.append(connection)
        connection.open_count += 1
        connection.total_count += 1
        if is_shared and connection.total_count >= EXCHANGES_MAX:
            # What is open on it goes on; it ends with the last of them.
            self._connections.remove(connection)
        return connection

    def release(self, connection: Connection, *, is_stuck: bool = False) -> None:
        """Give a connection back; those that only a peak needed are dropped when they are empty.

        Args:
            connection: From `take`.
            is_stuck: Its peer reads nothing. A stream that waits for room cannot be reset, and its
                bytes take the room of others, so nothing new is opened there.
        """
        connection.open_count -= 1
        is_spare = connection.open_count == 0 and connection in self._connections[1:]
        if (is_spare or is_stuck) and connection in self._connections:
            self._connections.remove(connection)

    async def close(self) -> None:
        """Close all connections; exchanges on them break."""
        connections, self._connections = self._connections, []
        for connection in connections:
            await connection.transport.aclose()


def new_request(
    method: str, url: str, headers: dict[str, str], content: Body | bytes | None = None
) -> pyqwest.Request:
    """Return a request."""
    import pyqwest

    return pyqwest.Request(method, url, pyqwest.Headers(list(headers.items())), content)
