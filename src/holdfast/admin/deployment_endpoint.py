"""Deployments: listed, registered by address, changed, removed. Routes of Restate's admin API."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import msgspec

from holdfast.admin.catalog_view import view_deployment, view_service
from holdfast.admin.http import Request, decode_body, json_response
from holdfast.admin.route import Endpoint
from holdfast.domain.deployment import HttpVersion
from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.protocol.restate.discovery import DiscoveryError
from holdfast.server.handle import ServerHandle
from holdfast.server.registration import Change, Registration
from holdfast.storage.base import StoredDeployment
from holdfast.transport.base import EndpointError
from holdfast.web.asgi import Response
from holdfast.web.printed_id import checked_deployment_id
from holdfast.web.problem import Refusal, shown

_T = TypeVar("_T")


class _Register(msgspec.Struct):
    """Body of `POST /deployments`. Unknown members are ignored."""

    uri: str | None = None
    arn: str | None = None
    additional_headers: dict[str, str] | None = None
    metadata: dict[str, str] | None = None
    use_http_11: bool | None = None
    force: bool | None = None
    breaking: bool | None = None
    dry_run: bool | None = None


class _Update(msgspec.Struct):
    """Body of `PATCH /deployments/{id}`. Unknown members are ignored."""

    uri: str | None = None
    arn: str | None = None
    additional_headers: dict[str, str] | None = None
    use_http_11: bool | None = None
    overwrite: bool | None = None
    dry_run: bool | None = None


_decode_register = msgspec.json.Decoder(_Register).decode
_decode_update = msgspec.json.Decoder(_Update).decode


class _Refused(Refusal):
    """A refusal that has a name in Restate's documents, too."""

    def __init__(self, status: int, error: HoldfastError, restate_code: str | None) -> None:
        super().__init__(status, error.code, error.message, hint=error.hint)
        self.restate_code = restate_code


class DeploymentEndpoints:
    """The answers, each a method that a route leads to."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle

    def routes(self) -> tuple[tuple[str, str, Endpoint], ...]:
        """Return method, path and answer of each route."""
        return (
            ("GET", "/deployments", self.list),
            ("POST", "/deployments", self.register),
            ("GET", "/deployments/{id}", self.show),
            ("PATCH", "/deployments/{id}", self.update),
            ("PUT", "/deployments/{id}", self.update),
            ("DELETE", "/deployments/{id}", self.remove),
        )

    async def list(self, request: Request) -> Response:
        """List deployments, oldest first."""
        deployments = [view_deployment(d, is_full=False) for d in self._handle.deployments()]
        return json_response({"deployments": deployments})

    async def show(self, request: Request) -> Response:
        """Show a deployment with its services; `open=true` counts what is pinned to it."""
        deployment = self._find(request.params[0])
        view = view_deployment(deployment, is_full=True)
        if _is_set(request, "open"):
            count = await self._handle.open_invocation_count(deployment.id)
            view["open_invocations"] = count
            view["status"] = self._status(deployment, count)
        return json_response(view)

    async def register(self, request: Request) -> Response:
        """Register an endpoint."""
        body = decode_body(request.body, _decode_register, _bad_body)
        registration = Registration(
            uri=_uri(body.uri, body.arn),
            headers=body.additional_headers or {},
            metadata=body.metadata or {},
            http_version=HttpVersion.HTTP_1_1 if body.use_http_11 else None,
            is_forced=bool(body.force),
            is_breaking=bool(body.breaking),
            is_dry_run=bool(body.dry_run),
        )
        deployment, is_new = await _translated(self._handle.register_endpoint(registration))
        response = json_response(self._registered(deployment), 201 if is_new else 200)
        response.headers.append((b"location", f"/deployments/{deployment.id}".encode()))
        return response

    async def update(self, request: Request) -> Response:
        """Change a registered endpoint."""
        deployment_id = self._find(request.params[0]).id
        body = decode_body(request.body or b"{}", _decode_update, _bad_body)
        version = None
        if body.use_http_11 is not None:
            version = HttpVersion.HTTP_1_1 if body.use_http_11 else HttpVersion.HTTP_2
        change = Change(
            uri=_uri(body.uri, body.arn) if body.uri or body.arn else None,
            headers=body.additional_headers,
            http_version=version,
            is_overwriting=bool(body.overwrite),
            is_dry_run=bool(body.dry_run),
        )
        deployment = await _translated(self._handle.update_endpoint(deployment_id, change))
        return json_response(view_deployment(deployment, is_full=True))

    async def remove(self, request: Request) -> Response:
        """Remove a deployment; `force=true` also while it is in use."""
        deployment_id = self._find(request.params[0]).id
        await self._handle.remove_deployment(deployment_id, is_forced=_is_set(request, "force"))
        return Response(202, [], b"")

    def _registered(self, deployment: StoredDeployment) -> dict[str, object]:
        endpoint = deployment.endpoint
        assert endpoint is not None, "workers are not registered by address"
        view: dict[str, object] = {
            "id": deployment.id,
            "services": [view_service(s, [deployment]) for s in deployment.services()],
            "min_protocol_version": endpoint.protocol_version_min,
            "max_protocol_version": endpoint.protocol_version_max,
        }
        if endpoint.sdk_version:
            view["sdk_version"] = endpoint.sdk_version
        return view

    def _status(self, deployment: StoredDeployment, open_count: int) -> str:
        """Whether new invocations go there, old ones are still open there, or nothing is."""
        names = {service.name for service in deployment.manifest.services}
        latest: dict[str, str] = {}
        for each in self._handle.deployments():
            latest |= dict.fromkeys((s.name for s in each.manifest.services), each.id)
        if any(latest[name] == deployment.id for name in names):
            return "active"
        return "draining" if open_count else "drained"

    def _find(self, text: str) -> StoredDeployment:
        deployment_id = checked_deployment_id(text)
        for deployment in self._handle.deployments():
            if deployment.id == deployment_id:
                return deployment
        raise Refusal(
            404,
            "HF1062",
            f"There is no deployment {shown(deployment_id)}.",
            hint="GET /deployments lists them.",
        )


def _bad_body(why: str) -> Refusal:
    return Refusal(
        400,
        "HF1280",
        f"The body does not describe a deployment: {why}.",
        hint='Send JSON such as {"uri": "http://127.0.0.1:9080"}.',
    )


def _uri(uri: str | None, arn: str | None) -> str:
    if arn is not None or uri is None:
        found = "it names a Lambda function" if arn is not None else "it has no uri"
        raise Refusal(
            400,
            "HF1280",
            f"The body does not describe an endpoint that can be reached from here: {found}.",
            hint='Send JSON such as {"uri": "http://127.0.0.1:9080"}.',
        )
    return uri


def _is_set(request: Request, name: str) -> bool:
    values = [value for field, value in request.query if field == name]
    return bool(values) and values[-1].lower() in ("", "1", "true")


async def _translated(work: Awaitable[_T]) -> _T:
    """Answer with the statuses and codes that Restate's tools know."""
    try:
        return await work
    except (EndpointError, DiscoveryError) as error:
        raise _Refused(error.status, error, error.restate_code) from error
    except UsageError as error:
        if error.code == "HF1301":
            raise _Refused(409, error, "META0006") from error
        raise
