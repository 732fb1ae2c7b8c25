"""What the admin API answers."""

from __future__ import annotations

from importlib.metadata import version

from holdfast.admin.batch import BatchEndpoints
from holdfast.admin.deployment_endpoint import DeploymentEndpoints
from holdfast.admin.detail_endpoint import DetailEndpoints
from holdfast.admin.detail_view import add_calls, tool_calls_of, view_totals
from holdfast.admin.entry_endpoint import EntryEndpoints
from holdfast.admin.export_view import view_recording
from holdfast.admin.http import Request, json_response
from holdfast.admin.invocation_view import view_invocation
from holdfast.admin.journal_view import view_journal
from holdfast.admin.openapi import view_admin_openapi
from holdfast.admin.operation import OperationEndpoints, unknown_invocation
from holdfast.admin.query import (
    parse_page,
    parse_payload_size_max,
    print_cursor,
)
from holdfast.admin.route import Router
from holdfast.admin.service_endpoint import ServiceEndpoints
from holdfast.admin.sql.endpoint import SqlEndpoint
from holdfast.admin.sql.limit import SqlLimits
from holdfast.admin.state_endpoint import StateEndpoints
from holdfast.admin.summary import summary
from holdfast.domain.recording import encode_recording
from holdfast.engine.row import InvocationRow
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import JSON_HEADER, Response
from holdfast.web.printed_id import checked_invocation_id

API_VERSION_MIN = 2
API_VERSION_MAX = 4
RESTATE_VERSION = "1.7.12"
"""The Restate server whose admin API this one is like: the one that tests compare it with.

Restate's tools choose by it what they ask for (ADR 0029).
"""


class Endpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle, ingress_url: str, sql_limits: SqlLimits) -> None:
        self._handle = handle
        self._ingress_url = ingress_url
        self._version = version("holdfast")
        self._deployments = DeploymentEndpoints(handle)
        self._services = ServiceEndpoints(handle, ingress_url)
        self._operations = OperationEndpoints(handle)
        self._batches = BatchEndpoints(handle)
        self._entries = EntryEndpoints(handle)
        self._states = StateEndpoints(handle)
        self._details = DetailEndpoints(handle)
        self._sql = SqlEndpoint(handle, sql_limits)

    def router(self) -> Router:
        """Return the routes."""
        router = Router()
        for method, path, endpoint in (
            ("GET", "/health", self.health),
            ("GET", "/version", self.version),
            ("GET", "/cluster-health", self.cluster_health),
            ("GET", "/openapi", self.openapi),
            *self._deployments.routes(),
            *self._services.routes(),
            ("DELETE", "/invocations/{id}", self._operations.end),
            ("PATCH", "/invocations/{id}/cancel", self._operations.cancel),
            ("PATCH", "/invocations/{id}/kill", self._operations.kill),
            ("PATCH", "/invocations/{id}/pause", self._operations.pause),
            ("PATCH", "/invocations/{id}/resume", self._operations.resume),
            ("PATCH", "/invocations/{id}/restart-as-new", self._operations.restart),
            ("PATCH", "/invocations/{id}/purge", self._operations.purge),
            ("PATCH", "/invocations/{id}/purge-journal", self._operations.purge_journal),
            ("POST", "/internal/invocations_batch_operations/{verb}", self._batches.id_batch),
            ("POST", "/holdfast/v1/invocations/batch/{verb}", self._batches.batch),
            ("GET", "/holdfast/v1/invocations", self.invocations),
            ("GET", "/holdfast/v1/invocations/{id}", self.invocation),
            ("GET", "/holdfast/v1/invocations/{id}/journal", self.journal),
            ("GET", "/holdfast/v1/invocations/{id}/export", self.export),
            *self._details.routes(),
            *self._entries.routes(),
            *self._states.routes(),
            ("POST", "/query", self._sql.query),
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
                "version": RESTATE_VERSION,
                "holdfast_version": self._version,
                "min_admin_api_version": API_VERSION_MIN,
                "max_admin_api_version": API_VERSION_MAX,
                "ingress_endpoint": self._ingress_url,
                "features": {},
            }
        )

    async def cluster_health(self, request: Request) -> Response:
        """Say which servers there are: this one."""
        members = {"members": [1]}
        return json_response({"cluster_name": "holdfast", "metadata_cluster_health": members})

    async def openapi(self, request: Request) -> Response:
        """Describe these routes as OpenAPI 3.1."""
        return json_response(view_admin_openapi(self.router(), self._version))

    # -- invocations ------------------------------------------------------------------------------

    async def invocations(self, request: Request) -> Response:
        """List invocations, newest first."""
        query, before, limit, is_short = parse_page(request.query)
        # One more than asked for tells whether there is a next page.
        rows = await self._handle.invocations(query, before, limit + 1)
        shown_rows = rows[:limit]
        following = print_cursor(shown_rows[-1]) if len(rows) > limit else None
        view = summary if is_short else view_invocation
        return json_response({"invocations": [view(row) for row in shown_rows], "next": following})

    async def invocation(self, request: Request) -> Response:
        """Show an invocation, and what its model calls add up to."""
        row = await self._invocation(request.params[0])
        details = await self._handle.details.of(row.id) if row.detail_count else ()
        return json_response(view_invocation(row) | {"model_calls": view_totals(details)})

    async def journal(self, request: Request) -> Response:
        """Show the journal of an invocation."""
        size_max = parse_payload_size_max(request.query)
        row = await self._invocation(request.params[0])
        details = await self._handle.details.of(row.id) if row.detail_count else ()
        tools = tool_calls_of(details)
        contents = await self._handle.details.contents(tools) if tools else []
        entries = view_journal(await self._handle.journal(row.id), size_max)
        add_calls(entries, details, contents, size_max)
        return json_response({"id": row.id, "entries": entries})

    async def export(self, request: Request) -> Response:
        """Show all that a replay of an invocation needs."""
        row = await self._invocation(request.params[0])
        recording = view_recording(row, await self._handle.journal(row.id))
        return Response(200, [JSON_HEADER], encode_recording(recording))

    async def _invocation(self, text: str) -> InvocationRow:
        invocation_id = checked_invocation_id(text)
        row = await self._handle.invocation(invocation_id)
        if row is None:
            raise unknown_invocation(invocation_id)
        return row
