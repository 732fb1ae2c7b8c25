"""What people do to invocations: the implementation of `handle.Operations`.

Deployments are chosen here, because only the catalog knows them; everything else is decided by the
engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256

from holdfast.domain.errors import NotFoundError, UsageError
from holdfast.domain.ids import parse_invocation_id, print_invocation_id, ulid
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.record import (
    PauseRequested,
    PurgeRequested,
    RestartRequested,
    ResumeRequested,
)
from holdfast.engine.row import InvocationRow, Status
from holdfast.server.catalog import Catalog
from holdfast.server.clock import Clock
from holdfast.server.handle import DEPLOYMENT_KEEP, DEPLOYMENT_LATEST
from holdfast.server.partition import Partition
from holdfast.storage.base import StoredDeployment


class HostOperations:
    """Operations on the invocations of one host.

    Args:
        partition_of: Leads to the partition of an invocation.
        read: Reads an invocation.
        catalog: Knows the deployments.
        clock: Makes new ids.
    """

    def __init__(
        self,
        partition_of: Callable[[str], Partition],
        read: Callable[[str], Awaitable[InvocationRow | None]],
        catalog: Catalog,
        clock: Clock,
    ) -> None:
        self._partition_of = partition_of
        self._read = read
        self._catalog = catalog
        self._clock = clock

    async def pause(self, invocation_id: str) -> Answer:
        """Start no more attempts, and end the one that runs."""
        return await self._partition_of(invocation_id).propose(PauseRequested(invocation_id))

    async def resume(self, invocation_id: str, deployment: str = DEPLOYMENT_KEEP) -> Answer:
        """Start an attempt now, with fresh retry counters."""
        deployment_id: str | None = None
        if deployment != DEPLOYMENT_KEEP:
            row = await self._read(invocation_id)
            if row is None:
                return Answer(Reply.NOT_FOUND)
            deployment_id = self._choose(row, deployment)
        record = ResumeRequested(invocation_id, deployment_id)
        return await self._partition_of(invocation_id).propose(record)

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: str = DEPLOYMENT_LATEST,
        idempotency_key: str | None = None,
    ) -> tuple[str, Answer]:
        """Make a new invocation of a completed one."""
        new_id = self._new_id(invocation_id, idempotency_key)
        # Without one it is pinned to the latest when its first entry is recorded.
        deployment_id: str | None = None
        if deployment != DEPLOYMENT_LATEST:
            row = await self._read(invocation_id)
            if row is not None and deployment != DEPLOYMENT_KEEP:
                deployment_id = self._choose(row, deployment)
            elif row is not None and row.deployment_id is not None:
                # It may have been removed since.
                deployment_id = self._choose(row, row.deployment_id)
        record = RestartRequested(invocation_id, new_id, from_index, deployment_id)
        return new_id, await self._partition_of(invocation_id).propose(record)

    async def purge(self, invocation_id: str, *, is_journal_only: bool = False) -> Answer:
        """Forget a completed invocation, or its journal but for the outcome."""
        record = PurgeRequested(invocation_id, is_journal_only)
        return await self._partition_of(invocation_id).propose(record)

    def _new_id(self, invocation_id: str, idempotency_key: str | None) -> str:
        """Return an id of the same partition key; the same one for the same idempotency key."""
        partition_key = parse_invocation_id(invocation_id)[:8]
        if idempotency_key is None:
            unique = ulid(self._clock.now_ms(), self._clock.entropy(10))
        else:
            unique = sha256(f"restart,{invocation_id},{idempotency_key}".encode()).digest()[:16]
        return print_invocation_id(partition_key + unique)

    def _choose(self, row: InvocationRow, deployment: str) -> str:
        """Return the id of the deployment that shall run an invocation.

        Raises:
            NotFoundError: HF1062, there is no such deployment.
            UsageError: HF1252, it does not serve the handler; HF1333, it does not speak the version
                of the protocol that the invocation is pinned to.
        """
        target = row.target
        if deployment == DEPLOYMENT_LATEST:
            deployment = self._catalog.resolve(target.service, target.handler).deployment_id
        found = next((d for d in self._catalog.deployments() if d.id == deployment), None)
        if found is None or found.id in self._catalog.leaving:
            raise NotFoundError(
                f"There is no deployment {deployment[:80]!r}.",
                code="HF1062",
                hint="GET /deployments lists them; or say latest, or keep.",
            )
        is_served = any(
            service.name == target.service
            and any(handler.name == target.handler for handler in service.handlers)
            for service in found.manifest.services
        )
        if not is_served:
            raise UsageError(
                f"Deployment {found.id} ({found.name}) does not serve {target.service}/"
                f"{target.handler}, so it cannot run {row.id}.",
                code="HF1252",
                hint="Choose one that does; GET /services names the latest of each service.",
            )
        _check_version(row, found)
        return found.id


def _check_version(row: InvocationRow, deployment: StoredDeployment) -> None:
    """Refuse a deployment that does not speak the version of an open invocation."""
    endpoint, version = deployment.endpoint, row.protocol_version
    if endpoint is None or not version or row.status is Status.COMPLETED:
        return
    low, high = endpoint.protocol_version_min, endpoint.protocol_version_max
    if not low <= version <= high:
        raise UsageError(
            f"Invocation {row.id} is pinned to version {version} of the service protocol,"
            f" deployment {deployment.id} ({deployment.name}) speaks {low} to {high}.",
            code="HF1333",
            hint="Choose a deployment that speaks it, or restart the invocation as a new one.",
        )
