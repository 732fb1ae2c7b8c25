"""Which handlers exist, and which deployment serves them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from holdfast.domain.errors import NotFoundError, UsageError
from holdfast.domain.ids import deployment_id_of
from holdfast.domain.target import Manifest, ServiceKind, ServiceManifest
from holdfast.engine.row import HandlerRow
from holdfast.storage.base import Store, StoredDeployment

_NAME_SHOWN_MAX = 100


class Catalog:
    """All deployments, in memory; the store is the truth."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._deployments: dict[str, StoredDeployment] = {}
        self._services: dict[str, tuple[ServiceManifest, str]] = {}
        self._handlers: dict[tuple[str, str], HandlerRow] = {}

    async def load(self) -> None:
        """Read all deployments from the store."""
        for deployment in await self._store.deployments():
            self._take(deployment)

    async def register(self, name: str, manifest: Manifest, at_ms: int) -> str:
        """Register the handlers of a deployment durably and return its id.

        A deployment of a known name keeps its id; its services are replaced.

        Raises:
            UsageError: HF1301, a service exists with another kind.
        """
        for service in manifest.services:
            known = self._services.get(service.name)
            if known is not None and known[0].kind is not service.kind:
                raise UsageError(
                    f"Service {service.name} is registered as {ServiceKind(known[0].kind).name}, "
                    f"deployment {name!r} has it as {ServiceKind(service.kind).name}.",
                    code="HF1301",
                    hint="Give the service a new name: keys and state of the two do not mix.",
                )
        deployment_id = deployment_id_of(name)
        known_deployment = self._deployments.get(deployment_id)
        if known_deployment is not None and known_deployment.manifest == manifest:
            return deployment_id
        deployment = StoredDeployment(
            id=deployment_id,
            name=name,
            manifest=manifest,
            # Renewed, because the latest registration of a service is the one that is used.
            created_at_ms=at_ms,
            revision=1 if known_deployment is None else known_deployment.revision + 1,
        )
        await self._store.put_deployment(deployment)
        self._take(deployment)
        return deployment_id

    def _take(self, deployment: StoredDeployment) -> None:
        self._deployments[deployment.id] = deployment
        for service in deployment.manifest.services:
            self._services[service.name] = (service, deployment.id)
            for handler in service.handlers:
                self._handlers[service.name, handler.name] = HandlerRow(
                    service.kind, handler, deployment.id
                )

    def find(self, service: str, handler: str) -> HandlerRow | None:
        """Return a handler in the latest deployment of its service."""
        return self._handlers.get((service, handler))

    def resolve(self, service: str, handler: str) -> HandlerRow:
        """Return a handler.

        Raises:
            NotFoundError: HF1001 unknown service, HF1002 unknown handler.
        """
        found = self._handlers.get((service, handler))
        if found is not None:
            return found
        known = self._services.get(service)
        if known is None:
            raise NotFoundError(
                f"There is no service {_shorten(service)}.{_near(service, self._services)}",
                code="HF1001",
                hint="Start its worker (holdfast worker MODULE:APP), then try again.",
            )
        names = sorted(h.name for h in known[0].handlers)
        raise NotFoundError(
            f"Service {service!r} has no handler {_shorten(handler)}.{_near(handler, names)}",
            code="HF1002",
            hint=f"Its handlers are: {', '.join(names)}.",
        )

    def services(self) -> list[ServiceManifest]:
        """Return all services, by name."""
        return [self._services[name][0] for name in sorted(self._services)]

    def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        return list(self._deployments.values())


def _shorten(name: str) -> str:
    return repr(name if len(name) <= _NAME_SHOWN_MAX else f"{name[:_NAME_SHOWN_MAX]}…")


def _near(name: str, names: Sequence[str] | dict[str, tuple[ServiceManifest, str]]) -> str:
    if len(name) > _NAME_SHOWN_MAX:
        return ""
    close = difflib.get_close_matches(name, list(names), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
