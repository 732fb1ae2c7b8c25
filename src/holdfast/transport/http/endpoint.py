"""Handlers as an HTTP endpoint: an ASGI application that servers dial.

    GET  …/discover                    what is served here
    POST …/invoke/SERVICE/HANDLER      one attempt
    GET  …/health                      for load balancers; never signed

What is in front of these parts of the path does not matter, so it can be mounted anywhere. Whether
requests and responses overlap follows from the HTTP version: with HTTP/2 they do, with HTTP/1.1 a
request is sent whole before its response is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from holdfast.domain.errors import HoldfastError, RemoteProtocolError
from holdfast.protocol.identity import IdentityError, Verifier
from holdfast.protocol.restate.codec import Codec
from holdfast.protocol.restate.discovery import choose_manifest_version, manifest_media_type
from holdfast.protocol.restate.manifest import encode_manifest
from holdfast.protocol.restate.version import parse_invocation_media_type
from holdfast.transport.base import HandlerPort
from holdfast.transport.http.handler_exchange import (
    HandlerExchange,
    JournalTooLarge,
    Receive,
    Request,
    Scope,
    Send,
    Target,
)

_logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
"""How long attempts may take to unwind once they are stopped."""

_BIDIRECTIONAL = ("2", "3")
"""HTTP versions, up to the dot."""
_STATUSES = {
    "HF1007": 405,
    "HF1331": 415,
    "HF1332": 415,
    "HF1370": 401,
    "HF1381": 413,
    "HF1382": 404,
    "HF1383": 404,
    "HF1384": 503,
}


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class Refused(HoldfastError):
    """A request that is not served."""


class HandlerEndpoint:
    """Serves the handlers of a port.

    Args:
        port: The handlers.
        identity_keys: Public keys of the servers that may send requests, `publickeyv1_…`; none:
            everybody may.
        clock: Milliseconds since the epoch.

    Raises:
        UsageError: HF1372, one of the keys is none.
    """

    def __init__(
        self, port: HandlerPort, identity_keys: Sequence[str], clock: Callable[[], int]
    ) -> None:
        self._port = port
        self._verifier = Verifier(identity_keys) if identity_keys else None
        self._clock = clock
        self._exchanges: set[HandlerExchange] = set()
        self._emptied = asyncio.Event()
        self._is_draining = False
        self._server = f"holdfast/{_version()}".encode()
        self._codecs: dict[int, Codec] = {}
        services = port.manifest.services
        self._targets = sorted(f"{s.name}/{h.name}" for s in services for h in s.handlers)

    @property
    def is_guarded(self) -> bool:
        """Whether only servers that are known may send requests."""
        return self._verifier is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection or request of an ASGI server."""
        match scope["type"]:
            case "http":
                await self._serve(scope, Request(receive), send)
            case "lifespan":
                await _lifespan(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1008})

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, and end what is open.

        Attempts that wait are suspended at once. Steps may finish within `grace_s`; then they are
        stopped, which does not count as a failure of theirs.
        """
        self._is_draining = True
        for exchange in list(self._exchanges):
            exchange.drain()
        await self._until_empty(grace_s)
        for exchange in list(self._exchanges):
            exchange.stop()
        await self._until_empty(STOP_TIMEOUT_S)

    async def _until_empty(self, seconds: float) -> None:
        if self._exchanges:
            self._emptied.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._emptied.wait()
            except TimeoutError:
                pass  # What is left is stopped, or left behind: see `drain`.

    # -- requests ---------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, request: Request, send: Send) -> None:
        try:
            answer = await self._answer(scope, request, send)
        except HoldfastError as error:
            answer = _refusal(error)
            _logger.info(
                "a request to the endpoint was refused",
                extra={"status": answer.status, "error_code": error.code},
            )
        except Exception:
            # A bug of ours. A response that has begun must end, or the server waits for the rest.
            _logger.exception("a request to the endpoint failed")
            # The client may be gone, and the first error is the one that counts.
            with contextlib.suppress(Exception):
                await request.read_to_end()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if answer is None or request.is_gone:
            return
        headers = [*self._headers(), (b"content-type", answer.content_type.encode())]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await request.read_to_end()
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, request: Request, send: Send) -> _Answer | None:
        """Return what to answer; None: it was answered.

        Raises:
            HoldfastError: The request is refused.
        """
        path: str = scope["path"]
        parts = path.split("/")
        if len(parts) >= 4 and parts[-3] == "invoke":
            _check_method(scope, "POST")
            headers = self._checked_headers(scope, path)
            await self._invoke(parts[-2], parts[-1], headers, request, send)
            return None
        match parts[-1]:
            case "discover":
                _check_method(scope, "GET")
                return self._discover(scope, self._checked_headers(scope, path))
            case "health":
                _check_method(scope, "GET")
                return _Answer(200, "application/json", b'{"status":"ok"}')
            case _:
                raise Refused(
                    f"There is nothing at {path[:200]!r}",
                    code="HF1383",
                    hint="An endpoint of handlers has discover, invoke/SERVICE/HANDLER and health.",
                )

    def _checked_headers(self, scope: Scope, path: str) -> dict[str, str]:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        if self._verifier is not None:
            self._verifier.check(headers, path, self._clock() // 1000)
        return headers

    def _discover(self, scope: Scope, headers: dict[str, str]) -> _Answer:
        version = choose_manifest_version(headers.get("accept"))
        is_bidirectional = str(scope["http_version"]).partition(".")[0] in _BIDIRECTIONAL
        body = encode_manifest(self._port.manifest, version, is_bidirectional=is_bidirectional)
        return _Answer(200, manifest_media_type(version), body)

    async def _invoke(
        self, service: str, handler: str, headers: dict[str, str], request: Request, send: Send
    ) -> None:
        version = parse_invocation_media_type(headers.get("content-type"))
        self._check_target(service, handler)
        if self._is_draining or self._port.is_draining:
            raise Refused("The endpoint is stopping", code="HF1384", hint="Try again.")
        codec = self._codecs.get(version)
        if codec is None:
            codec = self._codecs[version] = Codec(version, is_keyed=True)
        target = Target(service, handler, codec)
        exchange = HandlerExchange(self._port, target, request, send, self._headers())
        self._exchanges.add(exchange)
        try:
            await exchange.run()
        finally:
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._emptied.set()

    def _check_target(self, service: str, handler: str) -> None:
        if f"{service}/{handler}" not in self._targets:
            raise Refused(
                f"{service}/{handler} is not served here",
                code="HF1382",
                hint="There is: " + ", ".join(self._targets),
            )

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"x-restate-server", self._server)]


def _version() -> str:
    try:
        return importlib.metadata.version("holdfast")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _check_method(scope: Scope, allowed: str) -> None:
    if scope["method"] != allowed:
        raise Refused(
            f"Method {scope['method']} is not allowed here", code="HF1007", hint=f"Use {allowed}."
        )


def _refusal(error: HoldfastError) -> _Answer:
    is_theirs = isinstance(error, RemoteProtocolError | JournalTooLarge | IdentityError | Refused)
    status = _STATUSES.get(error.code, 400 if is_theirs else 500)
    body = {
        "code": status,
        "error_code": error.code,
        "message": error.message,
        "hint": error.hint,
    }
    return _Answer(status, "application/json", msgspec.json.encode(body))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
