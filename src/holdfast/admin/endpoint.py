"""What the admin API answers."""

from __future__ import annotations

from importlib.metadata import version

from holdfast.admin.catalog_view import view_deployment, view_handler, view_service
from holdfast.admin.http import Request, json_response
from holdfast.admin.invocation_view import view_invocation
from holdfast.admin.journal_view import view_journal
from holdfast.admin.payload import view_payload
from holdfast.admin.query import (
    parse_page,
    parse_payload_size_max,
    print_cursor,
)
from holdfast.admin.route import Router
from holdfast.domain.errors import ConflictError, NotFoundError
from holdfast.domain.message import SIGNAL_CANCEL, Signal, Void
from holdfast.domain.target import ServiceKind, ServiceManifest
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.row import InvocationRow, Status
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, shown

API_VERSION_MIN = 2
API_VERSION_MAX = 4


class Endpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle, ingress_url: str) -> None:
        self._handle = handle
        self._ingress_url = ingress_url
        self._version = version("holdfast")

    def router(self) -> Router:
        """Return the routes."""
        router = Router()
        for method, path, endpoint in (
            ("GET", "/health", self.health),
            ("GET", "/version", self.version),
            ("GET", "/deployments", self.deployments),
            ("GET", "/deployments/{id}", self.deployment),
            ("GET", "/services", self.services),
            ("GET", "/services/{service}", self.service),
            ("GET", "/services/{service}/handlers", self.handlers),
            ("GET", "/services/{service}/handlers/{handler}", self.handler),
            ("PATCH", "/invocations/{id}/cancel", self.cancel),
            ("PATCH", "/invocations/{id}/kill", self.kill),
            ("GET", "/holdfast/v1/invocations", self.invocations),
            ("GET", "/holdfast/v1/invocations/{id}", self.invocation),
            ("GET", "/holdfast/v1/invocations/{id}/journal", self.journal),
            ("GET", "/holdfast/v1/state/{service}/{key}", self.state),
        ):
            router.add(method, path, endpoint)
        return router

    # -- server -----------------------------------------------------------------------------------

    async def health(self, request: Request) -> Response:
        """Say that the server is there, and how it does."""
        return json_response(self._handle.health())

    async def version(self, request: Request) -> Response:
        """Say which versions this server has, and where its ingress is."""
        return json_response(
            {
                "version": self._version,
                "min_admin_api_version": API_VERSION_MIN,
                "max_admin_api_version": API_VERSION_MAX,
                "ingress_endpoint": self._ingress_url,
                "features": {},
            }
        )

    # -- catalog ----------------------------------------------------------------------------------

    async def deployments(self, request: Request) -> Response:
        """List deployments, oldest first."""
        deployments = [view_deployment(d, is_full=False) for d in self._handle.deployments()]
        return json_response({"deployments": deployments})

    async def deployment(self, request: Request) -> Response:
        """Show a deployment with its services."""
        [deployment_id] = request.params
        for deployment in self._handle.deployments():
            if deployment.id == deployment_id:
                return json_response(view_deployment(deployment, is_full=True))
        raise Refusal(
            404,
            "HF1062",
            f"There is no deployment {shown(deployment_id)}.",
            hint="GET /deployments lists them.",
        )

    async def services(self, request: Request) -> Response:
        """List services by name."""
        deployments = self._handle.deployments()
        services = [view_service(s, deployments) for s in self._handle.services()]
        return json_response({"services": services})

    async def service(self, request: Request) -> Response:
        """Show a service."""
        [name] = request.params
        return json_response(view_service(self._service(name), self._handle.deployments()))

    async def handlers(self, request: Request) -> Response:
        """List the handlers of a service."""
        [name] = request.params
        handlers = [view_handler(handler) for handler in self._service(name).handlers]
        return json_response({"handlers": handlers})

    async def handler(self, request: Request) -> Response:
        """Show a handler."""
        service, handler = request.params
        return json_response(view_handler(self._handle.resolve(service, handler).manifest))

    def _service(self, name: str) -> ServiceManifest:
        service = self._find_service(name)
        if service is None:
            # Raises, and names services that are spelled alike.
            self._handle.resolve(name, "")
            raise NotFoundError(f"There is no service {shown(name)}.", code="HF1001")
        return service

    def _find_service(self, name: str) -> ServiceManifest | None:
        return next((s for s in self._handle.services() if s.name == name), None)

    # -- invocations ------------------------------------------------------------------------------

    async def cancel(self, request: Request) -> Response:
        """Cancel an invocation: at once when it has not begun, else its handler is told."""
        invocation_id = checked_invocation_id(request.params[0])
        cancel = Signal(Void(), index=SIGNAL_CANCEL)
        answer = await self._handle.signal(invocation_id, cancel)
        _check(answer, invocation_id, "cancel")
        is_done = answer.status in (Status.PENDING, Status.SCHEDULED)
        return Response(200 if is_done else 202, [], b"")

    async def kill(self, request: Request) -> Response:
        """Kill an invocation and all that it called."""
        invocation_id = checked_invocation_id(request.params[0])
        _check(await self._handle.kill(invocation_id), invocation_id, "kill")
        return Response(200, [], b"")

    async def invocations(self, request: Request) -> Response:
        """List invocations, newest first."""
        query, before, limit = parse_page(request.query)
        # One more than asked for tells whether there is a next page.
        rows = await self._handle.invocations(query, before, limit + 1)
        shown_rows = rows[:limit]
        following = print_cursor(shown_rows[-1]) if len(rows) > limit else None
        return json_response(
            {"invocations": [view_invocation(row) for row in shown_rows], "next": following}
        )

    async def invocation(self, request: Request) -> Response:
        """Show an invocation."""
        return json_response(view_invocation(await self._invocation(request.params[0])))

    async def journal(self, request: Request) -> Response:
        """Show the journal of an invocation."""
        size_max = parse_payload_size_max(request.query)
        row = await self._invocation(request.params[0])
        entries = view_journal(await self._handle.journal(row.id), size_max)
        return json_response({"id": row.id, "entries": entries})

    async def _invocation(self, text: str) -> InvocationRow:
        invocation_id = checked_invocation_id(text)
        row = await self._handle.invocation(invocation_id)
        if row is None:
            raise _unknown(invocation_id)
        return row

    # -- state ------------------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        """Show the state of an object key, by name."""
        name, key = request.params
        size_max = parse_payload_size_max(request.query)
        service = self._find_service(name)
        if service is not None and service.kind is ServiceKind.SERVICE:
            raise Refusal(
                400,
                "HF1011",
                f"{name} is a plain service and has no keys; found key {shown(key)}.",
                hint="Only objects and workflows have state.",
            )
        state = await self._handle.state(name, key)
        if service is None and not state:
            # State outlives the deployment that wrote it, so only now is the service unknown.
            self._service(name)
        entries = [
            {"name": entry, **view_payload(value, size_max)} for entry, value in state.items()
        ]
        return json_response({"service": name, "key": key, "entries": entries})


def _check(answer: Answer, invocation_id: str, deed: str) -> None:
    match answer.reply:
        case Reply.NOT_FOUND:
            raise _unknown(invocation_id)
        case Reply.ALREADY_COMPLETED:
            raise ConflictError(
                f"Invocation {invocation_id} has completed; there is nothing to {deed}.",
                hint="Its outcome can be read through the ingress, with output.",
            )
        case Reply.OVERLOADED:
            raise Refusal(
                429,
                "HF1429",
                f"The server cannot {deed} {invocation_id} now: a queue is full.",
                hint="Try again in a moment.",
            )
        case _:
            # Accepted, or asked for twice: either way it is on record.
            return


def _unknown(invocation_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no invocation {invocation_id}.",
        code="HF1004",
        hint="It was never made, or its retention has passed.",
    )
