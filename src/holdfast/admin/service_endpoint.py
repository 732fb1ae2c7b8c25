"""Services: listed, shown, described as OpenAPI, and their settings changed."""

from __future__ import annotations

import msgspec

from holdfast.admin.catalog_view import view_handler, view_service
from holdfast.admin.http import Request, decode_body, json_response
from holdfast.admin.openapi import view_openapi
from holdfast.admin.route import Endpoint
from holdfast.domain.duration import parse_duration_ms
from holdfast.domain.errors import NotFoundError
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import ServiceKind, ServiceManifest
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import Response
from holdfast.web.problem import Refusal, shown

DURATION_MS_MAX = 36_525 * 86_400_000
"""One hundred years."""


class _Change(msgspec.Struct):
    """Body of `PATCH /services/{service}`; None leaves a setting. Unknown members are ignored."""

    public: bool | None = None
    idempotency_retention: str | None = None
    workflow_completion_retention: str | None = None
    journal_retention: str | None = None
    inactivity_timeout: str | None = None
    abort_timeout: str | None = None


_decode_change = msgspec.json.Decoder(_Change).decode


class ServiceEndpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle, ingress_url: str) -> None:
        self._handle = handle
        self._ingress_url = ingress_url

    def routes(self) -> tuple[tuple[str, str, Endpoint], ...]:
        """Return method, path and answer of each route."""
        return (
            ("GET", "/services", self.services),
            ("GET", "/services/{service}", self.service),
            ("PATCH", "/services/{service}", self.change),
            ("GET", "/services/{service}/handlers", self.handlers),
            ("GET", "/services/{service}/handlers/{handler}", self.handler),
            ("GET", "/services/{service}/openapi", self.openapi),
        )

    async def services(self, request: Request) -> Response:
        """List services by name."""
        deployments = self._handle.deployments()
        services = [view_service(s, deployments) for s in self._handle.services()]
        return json_response({"services": services})

    async def service(self, request: Request) -> Response:
        """Show a service."""
        return json_response(self._view(request.params[0]))

    async def change(self, request: Request) -> Response:
        """Change settings of a service."""
        service = self._service(request.params[0])
        change = _read_change(request.body)
        if change.workflow_retention_ms is not None and service.kind is not ServiceKind.WORKFLOW:
            raise _bad_setting(f"{service.name} is no workflow and has no workflow retention")
        await self._handle.change_settings(service.name, change)
        return json_response(self._view(service.name))

    async def handlers(self, request: Request) -> Response:
        """List the handlers of a service."""
        service = self._service(request.params[0])
        handlers = [view_handler(handler, service) for handler in service.handlers]
        return json_response({"handlers": handlers})

    async def handler(self, request: Request) -> Response:
        """Show a handler."""
        name, wanted = request.params
        service = self._service(name)
        handler = next((each for each in service.handlers if each.name == wanted), None)
        if handler is None:
            # Raises, and names handlers that are spelled alike.
            handler = self._handle.resolve(name, wanted).manifest
        return json_response(view_handler(handler, service))

    async def openapi(self, request: Request) -> Response:
        """Describe the public handlers of a service as OpenAPI 3.1."""
        service = self._service(request.params[0])
        revision = self._view(service.name)["revision"]
        return json_response(view_openapi(service, str(revision), self._ingress_url))

    def _view(self, name: str) -> dict[str, object]:
        return view_service(self._service(name), self._handle.deployments())

    def _service(self, name: str) -> ServiceManifest:
        service = next((s for s in self._handle.services() if s.name == name), None)
        if service is None:
            # Raises, and names services that are spelled alike.
            self._handle.resolve(name, "")
            raise NotFoundError(f"There is no service {shown(name)}.", code="HF1001")
        return service


def _read_change(body: bytes) -> ServiceSettings:
    change = decode_body(body, _decode_change, _bad_setting)
    return ServiceSettings(
        is_private=None if change.public is None else not change.public,
        idempotency_retention_ms=_duration("idempotency_retention", change.idempotency_retention),
        workflow_retention_ms=_duration(
            "workflow_completion_retention", change.workflow_completion_retention
        ),
        journal_retention_ms=_duration("journal_retention", change.journal_retention),
        inactivity_timeout_ms=_duration("inactivity_timeout", change.inactivity_timeout),
        abort_timeout_ms=_duration("abort_timeout", change.abort_timeout),
    )


def _duration(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    duration_ms = parse_duration_ms(text)
    # A bare number has no unit here; elsewhere clients are known to send milliseconds.
    if duration_ms is None or (text.strip().isdigit() and duration_ms):
        raise _bad_setting(f"{name} is {shown(text)}, which is no duration")
    if duration_ms > DURATION_MS_MAX:
        raise _bad_setting(f"{name} is {shown(text)}, which is more than 100 years")
    return duration_ms


def _bad_setting(found: str) -> Refusal:
    return Refusal(
        400,
        "HF1290",
        f"The body does not describe settings of a service: {found}.",
        hint='Send JSON such as {"public": false, "journal_retention": "7d"}.',
    )
