"""Deployments and services, in the shapes of Restate's admin API."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from holdfast.admin.duration import friendly
from holdfast.admin.secret import masked
from holdfast.domain.retry import OnMaxAttempts, RetrySchedule
from holdfast.domain.setting import NO_SETTINGS
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
_DURATIONS = ("idempotency_retention", "journal_retention", "inactivity_timeout", "abort_timeout")
_NOWHERE = StoredDeployment("", "", Manifest(services=()), 0, 0)


def view_deployment(deployment: StoredDeployment, *, is_full: bool) -> dict[str, object]:
    """Show a deployment; `is_full` shows its services whole instead of by name and revision."""
    services = deployment.services()
    return {
        "id": deployment.id,
        "name": deployment.name,
        **_view_reach(deployment),
        "created_at": iso_time(deployment.created_at_ms),
        "services": [
            _view_service(service, deployment)
            if is_full
            else {"name": service.name, "revision": _revision(service, deployment)}
            for service in services
        ],
    }


def _view_reach(deployment: StoredDeployment) -> dict[str, object]:
    endpoint = deployment.endpoint
    if endpoint is None:
        return {
            # Restate's tools want an address. A worker has none: it dials in.
            "uri": f"worker://holdfast/{quote(deployment.name, safe='')}",
            "protocol_type": "BidiStream",
            "http_version": "HTTP/1.1",
            "min_protocol_version": 5,
            "max_protocol_version": 6,
        }
    shown: dict[str, object] = {
        "uri": endpoint.uri,
        "protocol_type": "BidiStream" if endpoint.is_bidirectional else "RequestResponse",
        "http_version": endpoint.http_version.value,
        "min_protocol_version": endpoint.protocol_version_min,
        "max_protocol_version": endpoint.protocol_version_max,
    }
    if endpoint.headers:
        shown["additional_headers"] = {
            name: masked(name, value) for name, value in endpoint.headers.items()
        }
    if endpoint.metadata:
        shown["metadata"] = endpoint.metadata
    if endpoint.sdk_version:
        shown["sdk_version"] = endpoint.sdk_version
    return shown


def _revision(service: ServiceManifest, deployment: StoredDeployment) -> int:
    return (deployment.revisions or {}).get(service.name, deployment.revision)


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
    settings = (deployment.settings or {}).get(service.name, NO_SETTINGS)
    is_private = settings.is_private
    if is_private is None:
        is_private = bool(service.handlers) and all(h.is_private for h in service.handlers)
    shown: dict[str, object] = {
        "name": service.name,
        "ty": _SERVICE_KINDS[service.kind],
        "handlers": [view_handler(handler, service) for handler in service.handlers],
        "deployment_id": deployment.id,
        "revision": _revision(service, deployment),
        "public": not is_private,
    }
    for name in _DURATIONS:
        set_ms: int | None = getattr(settings, f"{name}_ms")
        level_ms = _level_ms(service, f"{name}_ms")
        shown[name] = friendly(level_ms if set_ms is None else set_ms)
    shown["enable_lazy_state"] = _DEFAULT.is_state_lazy
    shown["retry_policy"] = _view_retry(RetrySchedule())
    for handler in service.handlers:
        if handler.kind is HandlerKind.WORKFLOW:
            shown["workflow_completion_retention"] = friendly(handler.workflow_retention_ms)
    if service.documentation:
        shown["documentation"] = service.documentation
    if service.metadata:
        shown["metadata"] = service.metadata
    return shown


def _level_ms(service: ServiceManifest, name: str) -> int:
    """Return what handlers of a service have that do not say it themselves."""
    for handler in service.handlers:
        if name not in handler.own_options:
            found: int = getattr(handler, name)
            return found
    default: int = getattr(_DEFAULT, name)
    return default


def view_handler(handler: HandlerManifest, service: ServiceManifest) -> dict[str, object]:
    """Show a handler; options that it has from its service are left out."""
    shown: dict[str, object] = {"name": handler.name}
    if handler.kind in _HANDLER_KINDS:
        shown["ty"] = _HANDLER_KINDS[handler.kind]
    shown["public"] = not handler.is_private
    shown["input_description"] = _describe(handler.input_content_type, handler.input_schema)
    output = _describe(handler.output_content_type, handler.output_schema)
    shown["output_description"] = f"optional {output}" if handler.is_empty_output_typed else output
    if handler.input_schema is not None:
        shown["input_json_schema"] = handler.input_schema
    if handler.output_schema is not None:
        shown["output_json_schema"] = handler.output_schema
    if handler.documentation:
        shown["documentation"] = handler.documentation
    if handler.metadata:
        shown["metadata"] = handler.metadata
    for name in _DURATIONS:
        duration_ms: int = getattr(handler, f"{name}_ms")
        # Manifests that were stored by older versions do not tell whose an option is.
        is_own = f"{name}_ms" in handler.own_options
        if is_own or duration_ms != _level_ms(service, f"{name}_ms"):
            shown[name] = friendly(duration_ms)
    if handler.is_state_lazy:
        shown["enable_lazy_state"] = True
    if handler.invocation_timeout_ms is not None:
        shown["invocation_timeout"] = friendly(handler.invocation_timeout_ms)
    if handler.concurrency is not None:
        shown["concurrency"] = handler.concurrency
        shown["is_concurrency_shared"] = handler.is_concurrency_shared
    # Restate's tools need the member, and the maximum in it, also when the service decides.
    shown["retry_policy"] = (
        {"max_attempts": None} if handler.retry is None else _view_retry(handler.retry)
    )
    return shown


def _view_retry(retry: RetrySchedule) -> dict[str, object]:
    shown: dict[str, object] = {
        "initial_interval": friendly(retry.initial_interval_ms),
        "exponentiation_factor": retry.factor,
        "max_attempts": retry.max_attempts,
        "max_interval": friendly(retry.max_interval_ms),
        "on_max_attempts": _ON_MAX_ATTEMPTS[retry.on_max_attempts],
    }
    if retry.max_duration_ms is not None:
        shown["max_duration"] = friendly(retry.max_duration_ms)
    return shown


def _describe(content_type: str, schema: dict[str, object] | None) -> str:
    if not content_type:
        return "none"
    title, kind = (schema or {}).get("title"), (schema or {}).get("type")
    if title:
        return f"JSON '{title}'"
    return f"JSON {kind}" if isinstance(kind, str) else content_type
