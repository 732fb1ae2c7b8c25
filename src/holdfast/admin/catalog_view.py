"""Deployments and services, in the shapes of Restate's admin API."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from holdfast.admin.duration import friendly
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.target import (
    HandlerKind,
    HandlerManifest,
    Manifest,
    ServiceKind,
    ServiceManifest,
)
from holdfast.storage.base import StoredDeployment
from holdfast.web.instant import iso_time

_SERVICE_KINDS = {
    ServiceKind.SERVICE: "Service",
    ServiceKind.VIRTUAL_OBJECT: "VirtualObject",
    ServiceKind.WORKFLOW: "Workflow",
}
_HANDLER_KINDS = {
    HandlerKind.EXCLUSIVE: "Exclusive",
    HandlerKind.SHARED: "Shared",
    HandlerKind.WORKFLOW: "Workflow",
}
_ON_MAX_ATTEMPTS = {OnMaxAttempts.PAUSE: "Pause", OnMaxAttempts.KILL: "Kill"}

_DEFAULT = HandlerManifest(name="", kind=HandlerKind.PLAIN)
_NOWHERE = StoredDeployment("", "", Manifest(services=()), 0, 0)


def view_deployment(deployment: StoredDeployment, *, is_full: bool) -> dict[str, object]:
    """Show a deployment; `is_full` shows its services whole instead of by name and revision."""
    services = deployment.manifest.services
    return {
        "id": deployment.id,
        "name": deployment.name,
        # Restate's tools want an address. A worker has none: it dials in.
        "uri": f"worker://holdfast/{quote(deployment.name, safe='')}",
        "protocol_type": "BidiStream",
        "http_version": "HTTP/1.1",
        "created_at": iso_time(deployment.created_at_ms),
        "min_protocol_version": 5,
        "max_protocol_version": 6,
        "services": [
            _view_service(service, deployment)
            if is_full
            else {"name": service.name, "revision": deployment.revision}
            for service in services
        ],
    }


def view_service(
    service: ServiceManifest, deployments: Sequence[StoredDeployment]
) -> dict[str, object]:
    """Show a service with the deployment that serves it: the latest that has it."""
    serving = _NOWHERE
    for deployment in deployments:
        if any(entry.name == service.name for entry in deployment.manifest.services):
            serving = deployment
    return _view_service(service, serving)


def _view_service(service: ServiceManifest, deployment: StoredDeployment) -> dict[str, object]:
    shown: dict[str, object] = {
        "name": service.name,
        "ty": _SERVICE_KINDS[service.kind],
        "handlers": [view_handler(handler) for handler in service.handlers],
        "deployment_id": deployment.id,
        "revision": deployment.revision,
        "public": not service.handlers or not all(h.is_private for h in service.handlers),
        "idempotency_retention": friendly(_DEFAULT.idempotency_retention_ms),
        "journal_retention": friendly(_DEFAULT.journal_retention_ms),
        "inactivity_timeout": friendly(_DEFAULT.inactivity_timeout_ms),
        "abort_timeout": friendly(_DEFAULT.abort_timeout_ms),
        "enable_lazy_state": _DEFAULT.is_state_lazy,
        "retry_policy": _view_retry(RetrySchedule()),
    }
    if service.kind is ServiceKind.WORKFLOW:
        shown["workflow_completion_retention"] = friendly(_DEFAULT.journal_retention_ms)
    if service.documentation:
        shown["documentation"] = service.documentation
    return shown


def view_handler(handler: HandlerManifest) -> dict[str, object]:
    """Show a handler; options that have their default are left out."""
    shown: dict[str, object] = {"name": handler.name}
    if handler.kind in _HANDLER_KINDS:
        shown["ty"] = _HANDLER_KINDS[handler.kind]
    shown["public"] = not handler.is_private
    shown["input_description"] = _describe(handler.input_content_type, handler.input_schema)
    shown["output_description"] = _describe(handler.output_content_type, handler.output_schema)
    if handler.input_schema is not None:
        shown["input_json_schema"] = handler.input_schema
    if handler.output_schema is not None:
        shown["output_json_schema"] = handler.output_schema
    if handler.documentation:
        shown["documentation"] = handler.documentation
    for name in (
        "idempotency_retention",
        "journal_retention",
        "inactivity_timeout",
        "abort_timeout",
    ):
        duration_ms: int = getattr(handler, f"{name}_ms")
        if duration_ms != getattr(_DEFAULT, f"{name}_ms"):
            shown[name] = friendly(duration_ms)
    if handler.is_state_lazy:
        shown["enable_lazy_state"] = True
    # Restate's tools need the member, and the maximum in it, also when the service decides.
    shown["retry_policy"] = (
        {"max_attempts": None} if handler.retry is None else _view_retry(handler.retry)
    )
    return shown


def _view_retry(retry: RetrySchedule) -> dict[str, object]:
    return {
        "initial_interval": friendly(retry.initial_interval_ms),
        "exponentiation_factor": retry.factor,
        "max_attempts": retry.max_attempts,
        "max_interval": friendly(retry.max_interval_ms),
        "on_max_attempts": _ON_MAX_ATTEMPTS[retry.on_max_attempts],
    }


def _describe(content_type: str, schema: dict[str, object] | None) -> str:
    if not content_type:
        return "none"
    if schema is None:
        return content_type
    return f"JSON {schema.get('title') or schema.get('type') or 'value'}"
