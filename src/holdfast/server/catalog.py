"""Which handlers exist, and which deployment serves them."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Sequence

from msgspec.structs import replace

from holdfast.domain.errors import NotFoundError, UsageError
from holdfast.domain.ids import deployment_id_of
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import NO_SETTINGS, ServiceSettings
from holdfast.domain.target import HandlerManifest, Manifest, ServiceKind, ServiceManifest
from holdfast.engine.row import HandlerRow
from holdfast.storage.base import Store, StoredDeployment

_NAME_SHOWN_MAX = 100


class Catalog:
    """All deployments, in memory; the store is the truth.

    Args:
        is_state_lazy: No handler gets its state with its start.
        retry: For handlers that have no schedule of their own; None for the default.
    """

    def __init__(
        self, store: Store, *, is_state_lazy: bool = False, retry: RetrySchedule | None = None
    ) -> None:
        self._store = store
        self._is_state_lazy = is_state_lazy
        self._retry = retry
        self.lock = asyncio.Lock()
        """Held while a deployment is read, changed and written."""
        self.leaving: set[str] = set()
        """Deployments that are being removed: nothing more may be pinned to them."""
        self._deployments: dict[str, StoredDeployment] = {}
        self._services: dict[str, tuple[ServiceManifest, str]] = {}
        self._handlers: dict[tuple[str, str], HandlerRow] = {}

    async def load(self) -> None:
        """Read all deployments from the store."""
        for deployment in await self._store.deployments():
            self._deployments[deployment.id] = deployment
        self._index()

    async def register(self, name: str, manifest: Manifest, at_ms: int) -> str:
        """Register the handlers of a deployment durably and return its id.

        A deployment of a known name keeps its id; its services are replaced.

        Raises:
            UsageError: HF1301, a service exists with another kind; HF1288, a retry policy is not
                possible.
        """
        deployment_id = deployment_id_of(name)
        async with self.lock:
            self.check_kinds(repr(name), manifest)
            check_retries(repr(name), manifest)
            known_deployment = self._deployments.get(deployment_id)
            if known_deployment is not None and known_deployment.manifest == manifest:
                return deployment_id
            deployment = StoredDeployment(
                id=deployment_id,
                name=name,
                manifest=manifest,
                created_at_ms=at_ms,
                revision=1 if known_deployment is None else known_deployment.revision + 1,
            )
            await self.put(deployment)
        return deployment_id

    async def change_settings(self, service: str, change: ServiceSettings) -> None:
        """Set options of the latest revision of a service, durably; the next one begins anew.

        Raises:
            NotFoundError: HF1001.
        """
        async with self.lock:
            known = self._services.get(service)
            if known is None:
                raise self._no_service(service)
            deployment = self._deployments[known[1]]
            settings = deployment.settings or {}
            changed = settings.get(service, NO_SETTINGS).changed(change)
            if changed != settings.get(service, NO_SETTINGS):
                await self.replace(deployment._replace(settings={**settings, service: changed}))

    def check_kinds(self, name: str, manifest: Manifest) -> None:
        """Refuse services that exist with another kind.

        Args:
            name: Of the deployment, for the message.

        Raises:
            UsageError: HF1301.
        """
        for service in manifest.services:
            known = self._services.get(service.name)
            if known is not None and known[0].kind is not service.kind:
                raise UsageError(
                    f"Service {service.name} is registered as {ServiceKind(known[0].kind).name}, "
                    f"deployment {name} has it as {ServiceKind(service.kind).name}.",
                    code="HF1301",
                    hint="Give the service a new name: keys and state of the two do not mix.",
                )

    async def put(self, deployment: StoredDeployment) -> StoredDeployment:
        """Write a deployment durably and use it; it is now the latest of its services.

        Returns:
            What was written: its time is later than that of every other deployment.
        """
        latest_ms = max((d.created_at_ms for d in self._deployments.values()), default=0)
        # The latest registration of a service is the one that is used, also after a restart.
        at_ms = max(deployment.created_at_ms, latest_ms + 1)
        return await self.replace(deployment._replace(created_at_ms=at_ms))

    async def replace(self, deployment: StoredDeployment) -> StoredDeployment:
        """Write a deployment durably in place of the one with its id, with the time that it has."""
        await self._store.put_deployment(deployment)
        self._deployments[deployment.id] = deployment
        self._index()
        return deployment

    async def remove(self, deployment_id: str) -> None:
        """Delete a deployment durably; those before it serve its services again."""
        await self._store.delete_deployment(deployment_id)
        self._deployments.pop(deployment_id, None)
        self._index()

    def revision(self, service: str) -> int:
        """Return the revision of a service; 0 when there is none."""
        known = self._services.get(service)
        if known is None:
            return 0
        deployment = self._deployments[known[1]]
        return (deployment.revisions or {}).get(service, deployment.revision)

    def serves(self, deployment_id: str) -> bool:
        """Whether new invocations of some service go to a deployment."""
        return any(serving == deployment_id for _, serving in self._services.values())

    def _index(self) -> None:
        """Find the latest deployment of each service."""
        ordered = sorted(self._deployments.values(), key=lambda d: (d.created_at_ms, d.id))
        self._deployments = {deployment.id: deployment for deployment in ordered}
        self._services = {
            service.name: (service, deployment.id)
            for deployment in ordered
            for service in deployment.services()
        }
        self._handlers = {
            (service.name, handler.name): HandlerRow(
                service.kind, self._with_defaults(handler), deployment_id
            )
            for service, deployment_id in self._services.values()
            for handler in service.handlers
        }

    def _with_defaults(self, handler: HandlerManifest) -> HandlerManifest:
        """Return a handler as this server runs it."""
        if self._is_state_lazy and not handler.is_state_lazy:
            handler = replace(handler, is_state_lazy=True)
        if self._retry is not None and handler.retry is None:
            handler = replace(handler, retry=self._retry)
        return handler

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
            raise self._no_service(service)
        names = sorted(h.name for h in known[0].handlers)
        raise NotFoundError(
            f"Service {service!r} has no handler {_shorten(handler)}.{_near(handler, names)}",
            code="HF1002",
            hint=f"Its handlers are: {', '.join(names)}.",
        )

    def _no_service(self, service: str) -> NotFoundError:
        return NotFoundError(
            f"There is no service {_shorten(service)}.{_near(service, self._services)}",
            code="HF1001",
            hint="Start its worker (holdfast worker MODULE:APP), then try again.",
        )

    def services(self) -> list[ServiceManifest]:
        """Return all services, by name, with what operators have set."""
        return [self._services[name][0] for name in sorted(self._services)]

    def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        return list(self._deployments.values())


def check_retries(name: str, manifest: Manifest) -> None:
    """Refuse retry policies that make no sense: what waits by one may wait for ever, or not at all.

    Args:
        name: Of the deployment, for the message.

    Raises:
        UsageError: HF1288.
    """
    for service in manifest.services:
        for handler in service.handlers:
            problem = None if handler.retry is None else handler.retry.problem()
            if problem is not None:
                raise UsageError(
                    f"The retry policy of {service.name}/{handler.name} in deployment {name} is"
                    f" not possible: {problem}.",
                    code="HF1288",
                    hint="Mend the policy of the handler, or of its service, and register again.",
                )


def _shorten(name: str) -> str:
    return repr(name if len(name) <= _NAME_SHOWN_MAX else f"{name[:_NAME_SHOWN_MAX]}…")


def _near(name: str, names: Sequence[str] | dict[str, tuple[ServiceManifest, str]]) -> str:
    if len(name) > _NAME_SHOWN_MAX:
        return ""
    close = difflib.get_close_matches(name, list(names), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""
