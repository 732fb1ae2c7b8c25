"""Clients over HTTP/1.1 with keep-alive.

The synchronous one is the standard library's. The other is made of asyncio streams and `httptools`,
so that thousands of calls can wait at once.

A request that fails on a connection that was idle is repeated on a new one only if that is safe: a
GET, or one with an idempotency key.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any, NoReturn, cast
from urllib.parse import quote, urlsplit

import httptools
import msgspec

from holdfast.domain.errors import (
    ConflictError,
    HoldfastError,
    NotFoundError,
    TransportError,
    UsageError,
)
from holdfast.domain.message import Failure
from holdfast.domain.retry import RetrySchedule
from holdfast.sdk.client import ClientBase, SyncClientBase
from holdfast.sdk.exchange import Exchange, Reply, asking
from holdfast.sdk.sse import EventParser, SentEvent
from holdfast.sdk.stream_client import OPENED, Watch

_HTTP_OK = range(200, 300)
_HTTP_NOT_FOUND = 404
_HTTP_CONFLICT = 409
_HTTP_TOO_MANY = 429
_HTTP_NOT_READY = 470
_HTTP_SERVER_ERROR = 500

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")
_ODD = re.compile(r"[^!-~]")
"""What a request line cannot hold."""
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""Headers that say how a request travels."""

_IDLE_CONNECTIONS_MAX = 64
_READ_SIZE_BYTES = 65_536
_SILENCE_S = 60.0
"""A stream whose server is there says so four times as often."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a server listens."""

    url: str
    host: str
    port: int
    is_secure: bool
    path: str
    """Prefix of all routes, without a slash at its end."""

    @staticmethod
    def parse(url: str) -> _Origin:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or _ODD.search(parts.path):
            raise UsageError(
                f"{url!r} is no address of a server: expected http://host:port", code="HF0507"
            )
        is_secure = parts.scheme == "https"
        port = port or (443 if is_secure else 80)
        return _Origin(url, host, port, is_secure, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(slots=True)
class _Request:
    origin: _Origin
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    is_repeatable: bool


@dataclass(slots=True)
class _Response:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict[str, str])
    """By lower-case name."""
    body: bytes = b""


class _Routes:
    """Exchanges as HTTP requests, and HTTP responses as replies."""

    def __init__(self, url: str, admin_url: str | None, token: str | None) -> None:
        self.ingress = _Origin.parse(url)
        self.admin = None if admin_url is None else _Origin.parse(admin_url)
        self._token = token

    def request(self, exchange: Exchange) -> _Request:
        origin = self._admin() if exchange.verb == "cancel" else self.ingress
        method, path = self._route(exchange)
        headers = {name.lower(): value for name, value in exchange.headers}
        if exchange.content:
            headers["content-type"] = exchange.content_type
        if exchange.idempotency_key is not None:
            headers["idempotency-key"] = exchange.idempotency_key
        if exchange.retry is not None:
            headers["holdfast-retry"] = _retry_header(exchange.retry)
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        for name, value in headers.items():
            _check_header(name, value)
        is_repeatable = method == "GET" or exchange.idempotency_key is not None
        return _Request(
            origin, method, origin.path + path, headers, exchange.content, is_repeatable
        )

    def reply(self, exchange: Exchange, response: _Response) -> Reply:
        invocation_id = response.headers.get("x-restate-id", "")
        if response.headers.get("x-restate-error-source") == "invocation":
            body = _json_of(response.body)
            code = body.get("code", response.status)
            metadata: Any = body.get("metadata")
            failure = Failure(
                code if isinstance(code, int) else response.status,
                str(body.get("message", "")),
                cast("dict[str, str]", metadata) if isinstance(metadata, dict) else None,
            )
            return Reply(result=failure, invocation_id=invocation_id)
        if response.status == _HTTP_NOT_READY and exchange.verb == "output":
            return Reply()
        if response.status not in _HTTP_OK:
            _raise_error(exchange, response)
        if exchange.verb == "send":
            body = _json_of(response.body)
            return Reply(
                invocation_id=str(body.get("invocationId", invocation_id)),
                is_new=body.get("status") != "PreviouslyAccepted",
            )
        return Reply(result=response.body, invocation_id=invocation_id)

    def stream_request(self, watch: Watch) -> _Request:
        """Return the request that reads a stream."""
        query = f"?stream={watch.stream}"
        request = self.request(watch.exchange or asking("attach", watch.invocation_id))
        prefix = request.origin.path
        if watch.exchange is not None:
            target = request.path.removeprefix(prefix)
            request.path = f"{prefix}/holdfast/v1/stream{target}{query}"
        else:
            invocation_id = quote(watch.invocation_id, safe="")
            request.path = f"{prefix}/holdfast/v1/invocations/{invocation_id}/stream{query}"
        if watch.last_id:
            request.headers["last-event-id"] = watch.last_id
        return request

    def _admin(self) -> _Origin:
        if self.admin is None:
            raise UsageError(
                "cancel goes to the admin API, and this client does not know where that is",
                code="HF0507",
                hint="Pass admin_url='http://127.0.0.1:9070' to the client.",
            )
        return self.admin

    def _route(self, exchange: Exchange) -> tuple[str, str]:
        match exchange.verb:
            case "call" | "send":
                names = [exchange.service, exchange.key, exchange.handler]
                path = "".join(f"/{quote(name, safe='')}" for name in names if name is not None)
                if exchange.verb == "call":
                    return "POST", path
                delay_ms = exchange.delay_ms
                if exchange.at_ms:
                    delay_ms = max(0, exchange.at_ms - time.time_ns() // 1_000_000)
                return "POST", f"{path}/send?delay={delay_ms}ms" if delay_ms else f"{path}/send"
            case "attach" | "output":
                return "GET", f"/restate/invocation/{quote(exchange.id, safe='')}/{exchange.verb}"
            case "cancel":
                return "PATCH", f"/invocations/{quote(exchange.id, safe='')}/cancel"
            case "resolve" | "reject":
                return "POST", f"/restate/awakeables/{quote(exchange.id, safe='')}/{exchange.verb}"
            case "signal" | "reject_signal":
                invocation_id, name = quote(exchange.id, safe=""), quote(exchange.name, safe="")
                path = f"/holdfast/v1/invocations/{invocation_id}/signals/{name}"
                return "POST", path if exchange.verb == "signal" else f"{path}/reject"


def _check_header(name: str, value: str) -> None:
    """Refuse what would not arrive as one header.

    Raises:
        UsageError: HF0507.
    """
    if _LINE_BREAK.search(name + value):
        problem = "has a line break in it"
    elif not _TOKEN.fullmatch(name) or name in _OF_THE_CONNECTION:
        problem = "cannot be set"
    elif max(value, default="") > "\xff":
        problem = "has characters that are not of Latin-1: encode them, for instance as a URL does"
    else:
        return
    raise UsageError(f"The header {name!r} {problem}", code="HF0507")


def _retry_header(retry: RetrySchedule) -> str:
    fields: dict[str, object] = {name: getattr(retry, name) for name in retry.__struct_fields__}
    fields["on_max_attempts"] = retry.on_max_attempts.name.lower()
    return msgspec.json.encode(fields).decode()


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except msgspec.DecodeError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _raise_error(exchange: Exchange, response: _Response) -> NoReturn:
    body = _json_of(response.body)
    text = body.get("message") or response.body[:500].decode("utf-8", "replace")
    what = exchange.id or "/".join(
        part for part in (exchange.service, exchange.key, exchange.handler) if part
    )
    kinds: dict[int, type[HoldfastError]] = {
        _HTTP_NOT_FOUND: NotFoundError,
        _HTTP_CONFLICT: ConflictError,
        _HTTP_TOO_MANY: TransportError,
    }
    is_servers = response.status >= _HTTP_SERVER_ERROR
    kind = kinds.get(response.status, TransportError if is_servers else UsageError)
    # The ingress has the HTTP status as `code`, and its own code beside it.
    code = body.get("error_code") or body.get("code")
    raise kind(
        f"{exchange.verb} {what} was refused: {text} (HTTP {response.status})",
        code=code if isinstance(code, str) and code.startswith("HF") else None,
        hint=str(body.get("hint", "")),
    )


def _unreachable(origin: _Origin, error: BaseException) -> TransportError:
    return TransportError(
        f"The connection to {origin.url} failed: {error or type(error).__name__}",
        hint="Is the server running at this address? The request may have been carried out; repeat "
        "it with an idempotency key.",
    )


# -- synchronous ----------------------------------------------------------------------------------


class SyncClient(SyncClientBase):
    """Calls handlers through a server's ingress. Safe to use from several threads.

    Args:
        url: Of the ingress.
        admin_url: Of the admin API; only `cancel` needs it.
        token: Sent as bearer token.
    """

    def __init__(self, url: str, *, admin_url: str | None = None, token: str | None = None) -> None:
        self._routes = _Routes(url, admin_url, token)
        self._idle: list[tuple[_Origin, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def __enter__(self) -> SyncClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _exchange(self, exchange: Exchange) -> Reply:
        request = self._routes.request(exchange)
        while True:
            connection, is_reused = self._connection(request.origin)
            try:
                response = self._perform(connection, request)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if is_reused and request.is_repeatable:
                    continue
                raise _unreachable(request.origin, error) from error
            except BaseException:
                connection.close()
                raise
            return self._routes.reply(exchange, response)

    def _perform(self, connection: http.client.HTTPConnection, request: _Request) -> _Response:
        connection.request(request.method, request.path, request.body, request.headers)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        response = _Response(answer.status, headers, answer.read())
        if answer.will_close or len(self._idle) >= _IDLE_CONNECTIONS_MAX:
            connection.close()
        else:
            with self._lock:
                self._idle.append((request.origin, connection))
        return response

    def _connection(self, origin: _Origin) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == origin:
                    return self._idle.pop(index)[1], True
        if origin.is_secure:
            return http.client.HTTPSConnection(origin.host, origin.port), False
        return http.client.HTTPConnection(origin.host, origin.port), False


# -- asynchronous ---------------------------------------------------------------------------------


class _Connection:
    """One connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._parser = httptools.HttpResponseParser(self)
        self._response = _Response()
        self._body: list[bytes] = []
        self._is_complete = False
        self._must_close = False

    @property
    def is_usable(self) -> bool:
        return not (self._must_close or self._reader.at_eof() or self._writer.is_closing())

    async def perform(self, request: _Request) -> _Response:
        """Send a request and return its whole answer."""
        response = await self.begin(request)
        while not self._is_complete:
            await self._feed()
        response.body = b"".join(self._body)
        return response

    async def begin(self, request: _Request) -> _Response:
        """Send a request and return its answer without the body."""
        lines = [f"{request.method} {request.path} HTTP/1.1", f"host: {request.origin.authority}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        if request.body or request.method != "GET":
            lines.append(f"content-length: {len(request.body)}")
        self._writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body)
        self._response, self._body, self._is_complete = _Response(), [], False
        while not self._response.status:
            await self._feed()
        return self._response

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Read the body as it comes."""
        while True:
            body, self._body = self._body, []
            if body:
                yield b"".join(body)
            elif self._is_complete:
                return
            else:
                async with asyncio.timeout(_SILENCE_S):
                    await self._feed()

    async def _feed(self) -> None:
        data = await self._reader.read(_READ_SIZE_BYTES)
        if not data:
            raise ConnectionError("the server closed it without an answer")
        self._parser.feed_data(data)

    def close(self) -> None:
        self._writer.close()

    # The parser calls these.

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        self._must_close = not self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._is_complete = True


class Client(ClientBase):
    """Calls handlers through a server's ingress.

    For one event loop. Use it as an async context manager, or call `close`.

    Args:
        url: Of the ingress.
        admin_url: Of the admin API; only `cancel` needs it.
        token: Sent as bearer token.
    """

    def __init__(self, url: str, *, admin_url: str | None = None, token: str | None = None) -> None:
        self._routes = _Routes(url, admin_url, token)
        self._idle: dict[_Origin, list[_Connection]] = {}

    async def close(self) -> None:
        """Close idle connections."""
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _events(self, watch: Watch) -> AsyncGenerator[SentEvent]:
        request = self._routes.stream_request(watch)
        connection: _Connection | None = None
        try:
            # Not one that is idle: it is ours until the stream ends.
            connection = await _connect(request.origin)
            response = await connection.begin(request)
            if response.status != HTTPStatus.OK:
                response.body = b"".join([piece async for piece in connection.pieces()])
                _raise_error(watch.exchange or asking("attach", watch.invocation_id), response)
            yield SentEvent("", OPENED, response.headers.get("x-restate-id", "").encode())
            parser = EventParser()
            async for piece in connection.pieces():
                for event in parser.feed(piece):
                    yield event
        except (OSError, TimeoutError, httptools.HttpParserError) as error:
            raise _unreachable(request.origin, error) from error
        finally:
            if connection is not None:
                connection.close()

    async def _exchange(self, exchange: Exchange) -> Reply:
        request = self._routes.request(exchange)
        while True:
            connection = self._idle_connection(request.origin)
            is_reused = connection is not None
            try:
                if connection is None:
                    connection = await _connect(request.origin)
                with _closed_on_error(connection):
                    response = await connection.perform(request)
            except (OSError, httptools.HttpParserError) as error:
                if is_reused and request.is_repeatable:
                    continue
                raise _unreachable(request.origin, error) from error
            idle = self._idle.setdefault(request.origin, [])
            if connection.is_usable and len(idle) < _IDLE_CONNECTIONS_MAX:
                idle.append(connection)
            else:
                connection.close()
            return self._routes.reply(exchange, response)

    def _idle_connection(self, origin: _Origin) -> _Connection | None:
        idle = self._idle.get(origin, [])
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return None


async def _connect(origin: _Origin) -> _Connection:
    context = ssl.create_default_context() if origin.is_secure else None
    return _Connection(*await asyncio.open_connection(origin.host, origin.port, ssl=context))


@contextlib.contextmanager
def _closed_on_error(connection: _Connection) -> Generator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise
