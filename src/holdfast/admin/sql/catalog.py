"""The tables of deployments and services."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from holdfast.admin.catalog_view import view_deployment, view_service
from holdfast.admin.sql.column import Column, Kind, Reader, Table, Wanted
from holdfast.admin.sql.invocation import SERVICE_KINDS
from holdfast.domain.target import ServiceManifest
from holdfast.storage.base import StoredDeployment


class _Deployment(NamedTuple):
    deployment: StoredDeployment
    view: dict[str, Any]


class _Service(NamedTuple):
    service: ServiceManifest
    view: dict[str, Any]


async def _read_deployments(
    reader: Reader, wanted: Wanted
) -> AsyncGenerator[Sequence[_Deployment]]:
    yield [_Deployment(d, view_deployment(d, is_full=False)) for d in reader.handle.deployments()]


async def _read_services(reader: Reader, wanted: Wanted) -> AsyncGenerator[Sequence[_Service]]:
    deployments = reader.handle.deployments()
    yield [_Service(s, view_service(s, deployments)) for s in reader.handle.services()]


DEPLOYMENT = Table[_Deployment](
    "sys_deployment",
    "Deployments.",
    (
        Column("id", Kind.TEXT, "deployment id", lambda it: it.deployment.id),
        Column("ty", Kind.TEXT, "`http`", lambda it: "http"),
        Column("endpoint", Kind.TEXT, "its address", lambda it: it.view["uri"]),
        Column(
            "created_at",
            Kind.TIME,
            "when it was registered",
            lambda it: it.deployment.created_at_ms,
        ),
        Column(
            "min_service_protocol_version",
            Kind.U32,
            "oldest version of the service protocol that it speaks",
            lambda it: it.view["min_protocol_version"],
        ),
        Column(
            "max_service_protocol_version",
            Kind.U32,
            "newest one",
            lambda it: it.view["max_protocol_version"],
        ),
        Column(
            "services",
            Kind.TEXT_LIST,
            "names of what it serves",
            lambda it: [service["name"] for service in it.view["services"]],
        ),
    ),
    _read_deployments,
    {},
)
SERVICE = Table[_Service](
    "sys_service",
    "Services, as their latest deployment has them.",
    (
        Column("name", Kind.TEXT, "service", lambda it: it.service.name),
        Column("revision", Kind.U64, "how often it was registered", lambda it: it.view["revision"]),
        Column("public", Kind.BOOL, "whether the ingress serves it", lambda it: it.view["public"]),
        Column(
            "ty",
            Kind.TEXT,
            "`service`, `virtual_object` or `workflow`",
            lambda it: SERVICE_KINDS[it.service.kind],
        ),
        Column(
            "deployment_id",
            Kind.TEXT,
            "the deployment that serves it",
            lambda it: it.view["deployment_id"],
        ),
    ),
    _read_services,
    {},
)
