"""The ingress as an ASGI application.

A request takes these steps, and is refused at the first that it fails: headers (host, sizes),
method, path, handler, body, durable acceptance. Nothing has begun before the last one.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping

from holdfast.domain.errors import HoldfastError
from holdfast.ingress.control import Control
from holdfast.ingress.guard import Guard
from holdfast.ingress.hangup import ClientGone, send_last_response
from holdfast.ingress.head import read_head
from holdfast.ingress.invoke import invoke
from holdfast.ingress.path import find, no_route, split_path
from holdfast.ingress.problem import IngressRefusal, error_response
from holdfast.ingress.signal import is_signal_route, send_signal
from holdfast.ingress.stream import EventStream, is_stream_route, open_stream
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import (
    ASGIApp,
    Receive,
    Response,
    Scope,
    Send,
    refuse_websocket,
    run_lifespan,
    send_response,
)
from holdfast.web.guard import LOOPBACK_HOSTS
from holdfast.web.mount import mounted
from holdfast.web.problem import method_refusal, unexpected_error

_logger = logging.getLogger(__name__)

_ALLOWED = "GET, POST, OPTIONS"


def create_ingress_app(
    handle: ServerHandle,
    *,
    allowed_hosts: Iterable[str] | None = LOOPBACK_HOSTS,
    routes: Mapping[str, ASGIApp] | None = None,
) -> ASGIApp:
    """Make the ingress.

    Args:
        handle: The server.
        allowed_hosts: Host names that requests may carry, without port; None allows all. See
            `holdfast.ingress.guard.hosts_allowed`.
        routes: Applications for paths under `/holdfast/`, each for its path and all below it. They
            see only requests of allowed hosts.
    """
    return _Ingress(handle, Guard(allowed_hosts), routes or {})


class _Ingress:
    """The application."""

    def __init__(self, handle: ServerHandle, guard: Guard, routes: Mapping[str, ASGIApp]) -> None:
        for path in routes:
            assert path.startswith("/holdfast/"), f"{path} would hide a service"
        self._handle = handle
        self._guard = guard
        self._routes = dict(routes)
        self._control = Control(handle)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
            return
        app = mounted(self._routes, scope["path"]) if self._routes else None
        try:
            if app is not None:
                self._guard.check_scope(scope)
                response = None
            elif scope["type"] == "websocket":
                raise no_route(scope["path"])
            else:
                response = await self._respond(scope, receive)
        except ClientGone:
            return
        except HoldfastError as error:
            await _send_error(scope, receive, send, error)
            return
        except Exception:
            # The last place where anyone sees it: the client gets no detail.
            _logger.exception("request failed", extra={"http_path": scope["path"]})
            response = error_response(unexpected_error())
        if isinstance(response, EventStream):
            with contextlib.suppress(ClientGone):
                await response.send_to(receive, send)
        elif response is not None:
            await send_response(send, response)
        elif app is not None:
            # Outside of the block above: what goes wrong in there may have begun to answer.
            await app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response | EventStream:
        head = read_head(scope, self._guard)
        method: str = scope["method"]
        if method == "OPTIONS":
            # No CORS headers: pages of other origins may not call, and this is how they learn it.
            return Response(200, [(b"allow", _ALLOWED.encode())], b"")
        segments = split_path(head.path)
        if segments and segments[0] == "restate":
            return await self._control.respond(method, segments[1:], head, receive)
        if is_signal_route(segments):
            return await send_signal(self._handle, method, segments, head, receive)
        if is_stream_route(segments):
            return await open_stream(self._handle, method, segments, head, receive)
        if method not in ("GET", "POST"):
            raise method_refusal(method, _ALLOWED)
        return await invoke(self._handle, find(self._handle, segments), head, receive)


async def _send_error(scope: Scope, receive: Receive, send: Send, error: HoldfastError) -> None:
    response = error_response(error)
    if scope["type"] == "websocket":
        await refuse_websocket(scope, send, response)
    elif isinstance(error, IngressRefusal) and error.is_body_unread:
        await send_last_response(receive, send, response)
    else:
        if any(name == b"expect" for name, _ in scope["headers"]):
            # The client may now skip its body or send it, and nobody could tell which.
            response.headers.append((b"connection", b"close"))
        await send_response(send, response)
