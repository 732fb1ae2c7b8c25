"""The admin API as an ASGI application."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from holdfast.admin.endpoint import Endpoints
from holdfast.admin.guard import Guard
from holdfast.admin.http import Request, error_response, parse_query, respond
from holdfast.admin.route import split_path
from holdfast.admin.sql.limit import SQL_LIMITS, SqlLimits
from holdfast.domain.errors import HoldfastError
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import (
    ASGIApp,
    Receive,
    Response,
    Scope,
    Send,
    StreamedResponse,
    run_lifespan,
)
from holdfast.web.body import read_body
from holdfast.web.guard import LOOPBACK_HOSTS
from holdfast.web.mount import mounted
from holdfast.web.problem import Refusal, shown, unexpected_error

_logger = logging.getLogger(__name__)

_UI_PATH = "/ui"


def create_admin_app(
    handle: ServerHandle,
    *,
    ingress_url: str = "http://127.0.0.1:8080",
    routes: Mapping[str, ASGIApp] | None = None,
    allowed_hosts: Iterable[str] | None = LOOPBACK_HOSTS,
    allowed_origins: Iterable[str] = (),
    sql_limits: SqlLimits = SQL_LIMITS,
) -> ASGIApp:
    """Make the admin API.

    Args:
        handle: The server.
        ingress_url: Where clients find the ingress.
        routes: Applications, HTTP or WebSocket, each for its path and all below it. They see only
            what passes the checks of host and origin. One at `/ui` is also found from `/`.
        allowed_hosts: Host names that requests may carry, without port; None allows all.
        allowed_origins: Foreign origins whose pages may change things.
        sql_limits: Of queries.
    """
    return _Admin(
        Endpoints(handle, ingress_url, sql_limits),
        Guard(allowed_hosts, allowed_origins),
        routes or {},
        handle.body_size_bytes_max,
    )


class _Admin:
    """The application."""

    def __init__(
        self,
        endpoints: Endpoints,
        guard: Guard,
        routes: Mapping[str, ASGIApp],
        body_size_bytes_max: int,
    ) -> None:
        for path in routes:
            assert path.startswith("/"), f"{path} is no mount path"
            assert not path.endswith("/"), f"{path} is no mount path"
        self._guard = guard
        self._router = endpoints.router()
        self._routes = dict(routes)
        self._body_size_bytes_max = body_size_bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
            return
        path: str = scope["path"]
        is_redirect = _UI_PATH in self._routes and path in ("/", _UI_PATH)
        app = None if is_redirect else mounted(self._routes, path)
        try:
            self._guard.check(scope)
            response: Response | StreamedResponse | None
            if is_redirect:
                response = Response(308, [(b"location", b"/ui/")], b"")
            elif app is None:
                response = await self._respond(scope, receive)
            else:
                response = None
        except HoldfastError as error:
            response = error_response(error)
        except Exception:
            # The last place where anyone sees it: the client gets no detail.
            _logger.exception("request failed", extra={"http_path": path})
            response = error_response(unexpected_error())
        if response is not None:
            await respond(scope, send, response)
        elif app is not None:
            # Outside of the block above: what goes wrong in there may have begun to answer.
            await app(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive) -> Response | StreamedResponse:
        if scope["type"] == "websocket":
            raise Refusal(
                404,
                "HF1005",
                f"No WebSocket is served at {shown(scope['path'])}.",
                hint="Workers connect to /holdfast/v1/worker.",
            )
        method: str = scope["method"]
        segments = split_path(scope)
        if method == "OPTIONS":
            # No CORS headers: pages of other origins may not call, and this is how they learn it.
            return Response(200, [(b"allow", b"GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS")], b"")
        endpoint, params = self._router.find(method, segments)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        has_body = method not in ("GET", "HEAD")
        body = await read_body(receive, self._body_size_bytes_max) if has_body else b""
        return await endpoint(Request(params, parse_query(scope), headers, body))
