"""Deployments that are registered by address: asked what they serve, stored, dialled, removed.

A registration is durable before any attempt goes to it. Open invocations stay with the deployment
that they are pinned to; new ones go to the latest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from msgspec.structs import replace

from holdfast.domain.address import check_headers, parse_uri
from holdfast.domain.deployment import Endpoint
from holdfast.domain.errors import ConflictError, NotFoundError, UsageError
from holdfast.domain.ids import print_deployment_id, ulid
from holdfast.domain.target import Manifest
from holdfast.engine.row import Status
from holdfast.server.catalog import Catalog, check_retries
from holdfast.server.clock import Clock
from holdfast.server.invoker import Invoker
from holdfast.server.registration import Change, Registered, Registration
from holdfast.storage.base import Store, StoredDeployment
from holdfast.transport.base import Dialer, EndpointError, EndpointPort

_PAGE_ROWS = 1_000


class Registrar:
    """Registers endpoints, and keeps a port to each.

    Args:
        dialer: None where nothing can be dialled; then registered ones wait, too.
        settle: Waits until all that was proposed to partitions is stored and acted on.
    """

    def __init__(
        self,
        catalog: Catalog,
        invoker: Invoker,
        store: Store,
        clock: Clock,
        dialer: Dialer | None,
        settle: Callable[[], Awaitable[None]],
    ) -> None:
        self._catalog = catalog
        self._invoker = invoker
        self._store = store
        self._clock = clock
        self._dialer = dialer
        self._settle = settle
        self._ports: dict[str, EndpointPort] = {}
        self._lock = catalog.lock
        """Held while what is registered changes; not while an endpoint is asked."""

    def start(self) -> None:
        """Offer the attempts of what was registered before."""
        for deployment in self._catalog.deployments():
            if deployment.endpoint is not None:
                self._connect(deployment, deployment.endpoint)

    async def close(self) -> None:
        """Close all connections."""
        ports = list(self._ports.values())
        self._ports.clear()
        await asyncio.gather(*(port.close() for port in ports))

    async def register(self, registration: Registration) -> Registered:
        """Register an endpoint, or find it registered. See `ServerHandle.register_endpoint`."""
        registration = registration._replace(
            uri=parse_uri(registration.uri), headers=check_headers(registration.headers)
        )
        known = self._at(registration.uri)
        if known is not None and not registration.is_forced:
            return Registered(known, False)
        endpoint, manifest = await self._dial().discover(
            registration.uri, registration.headers, registration.http_version
        )
        endpoint = _labelled(endpoint, registration.metadata)
        check_retries(endpoint.uri, manifest)
        async with self._lock:
            known = self._at(endpoint.uri)
            if not (registration.is_breaking or registration.is_forced):
                self._catalog.check_kinds(endpoint.uri, manifest)
            deployment = self._deployment(known, endpoint, manifest)
            if registration.is_dry_run:
                return Registered(deployment, known is None)
            deployment = await self._catalog.put(deployment)
            self._connect(deployment, endpoint)
        return Registered(deployment, known is None)

    async def update(self, deployment_id: str, change: Change) -> StoredDeployment:
        """Change a registered endpoint. See `ServerHandle.update_endpoint`."""
        deployment = self._find(deployment_id)
        endpoint = deployment.endpoint
        if endpoint is None:
            raise ConflictError(
                f"Deployment {deployment_id} is a worker, which dials in by itself.",
                code="HF1289",
                hint="Start the worker anew to change what it serves.",
            )
        if change._replace(is_dry_run=False) == Change():
            return deployment
        uri = endpoint.uri if change.uri is None else parse_uri(change.uri)
        headers = endpoint.headers if change.headers is None else check_headers(change.headers)
        is_moved = urlsplit(uri).scheme != urlsplit(endpoint.uri).scheme
        version = change.http_version or (None if is_moved else endpoint.http_version)
        found, manifest = await self._dial().discover(uri, headers, version)
        check_retries(found.uri, manifest)
        async with self._lock:
            deployment = self._find(deployment_id)
            _check_range(deployment_id, endpoint, found)
            changed = deployment._replace(
                name=found.uri,
                endpoint=_labelled(found, endpoint.metadata),
                manifest=manifest if change.is_overwriting else deployment.manifest,
            )
            if change.is_dry_run:
                return changed
            await self._catalog.replace(changed)
            self._connect(changed, found)
        return changed

    async def remove(self, deployment_id: str, *, is_forced: bool) -> None:
        """Remove a deployment. See `ServerHandle.remove_deployment`."""
        async with self._lock:
            self._find(deployment_id)
            self._catalog.leaving.add(deployment_id)
            try:
                if not is_forced:
                    await self._check_unused(deployment_id)
                await self._catalog.remove(deployment_id)
            finally:
                self._catalog.leaving.discard(deployment_id)
            port = self._ports.pop(deployment_id, None)
        if port is not None:
            # First, or what it loses is tried again on it.
            self._invoker.remove_port(port)
            await port.close()

    async def _check_unused(self, deployment_id: str) -> None:
        """Refuse to remove a deployment that something goes to, runs on or is pinned to.

        Invocations come to it by being new, by an attempt that is open on it and pins itself, or by
        an operator. None can from the first check on, so what is counted behind it is all there is;
        but one that wakes up and sleeps again meanwhile may hide from the count.
        """
        if self._catalog.serves(deployment_id):
            raise _in_use(deployment_id, "new invocations of its services go to it")
        before = self._invoker.use_of(deployment_id)
        # What its last attempts have said may not be stored yet.
        await self._settle()
        count = await self.open_invocation_count(deployment_id)
        await self._settle()
        if count:
            raise _in_use(deployment_id, f"{count} open invocations are pinned to it")
        after = self._invoker.use_of(deployment_id)
        if before[0] or before != after:
            raise _in_use(deployment_id, "attempts of open invocations run on it")

    async def open_invocation_count(self, deployment_id: str) -> int:
        """Return how many invocations that are not completed are pinned to a deployment.

        Reads all open invocations, in pages.
        """
        count = 0
        for partition in range(self._store.partition_count):
            for status in Status:
                if status is Status.COMPLETED:
                    continue
                after, is_page_full = "", True
                while is_page_full:
                    rows = await self._store.with_status(partition, status, after, _PAGE_ROWS)
                    count += sum(row.deployment_id == deployment_id for row in rows)
                    is_page_full = len(rows) == _PAGE_ROWS
                    after = rows[-1].id if rows else ""
                    # A page takes milliseconds, and others want their turn.
                    await asyncio.sleep(0)
        return count

    # -- parts ------------------------------------------------------------------------------------

    def _dial(self) -> Dialer:
        if self._dialer is None:
            raise UsageError(
                "This server does not dial out, so no endpoint can be registered.", code="HF1286"
            )
        return self._dialer

    def _connect(self, deployment: StoredDeployment, endpoint: Endpoint) -> None:
        port = self._ports.get(deployment.id)
        if port is not None:
            port.update(endpoint, deployment.manifest)
            self._invoker.route_again()
        elif self._dialer is not None:
            port = self._dialer.connect(deployment.name, endpoint, deployment.manifest)
            self._ports[deployment.id] = port
            self._invoker.add_port(deployment.id, port)

    def _find(self, deployment_id: str) -> StoredDeployment:
        for deployment in self._catalog.deployments():
            if deployment.id == deployment_id:
                return deployment
        raise NotFoundError(
            f"There is no deployment {deployment_id}.",
            code="HF1062",
            hint="GET /deployments lists them.",
        )

    def _at(self, uri: str) -> StoredDeployment | None:
        place = _place(uri)
        for deployment in self._catalog.deployments():
            if deployment.endpoint is not None and _place(deployment.endpoint.uri) == place:
                return deployment
        return None

    def _deployment(
        self, known: StoredDeployment | None, endpoint: Endpoint, manifest: Manifest
    ) -> StoredDeployment:
        at_ms = self._clock.now_ms()
        revisions = {s.name: self._catalog.revision(s.name) + 1 for s in manifest.services}
        new_id = print_deployment_id(ulid(at_ms, self._clock.entropy(10)))
        return StoredDeployment(
            id=new_id if known is None else known.id,
            name=endpoint.uri,
            manifest=manifest,
            created_at_ms=at_ms,
            revision=max(revisions.values(), default=1),
            endpoint=endpoint,
            revisions=revisions,
        )


def _in_use(deployment_id: str, used: str) -> ConflictError:
    return ConflictError(
        f"Deployment {deployment_id} is in use: {used}.",
        code="HF1284",
        hint="Register a newer deployment of its services and wait until the open ones"
        " have ended. With force=true it goes at once, and they wait for ever.",
    )


def _labelled(endpoint: Endpoint, metadata: dict[str, str]) -> Endpoint:
    return replace(endpoint, metadata=metadata)


def _place(uri: str) -> Sequence[str]:
    """Return what makes two addresses the same endpoint: host, port and path."""
    parts = urlsplit(uri)
    return parts.netloc.lower(), parts.path.rstrip("/")


def _check_range(deployment_id: str, known: Endpoint, found: Endpoint) -> None:
    """Open invocations keep the version that they began with, so it must stay possible."""
    ranges = [(e.protocol_version_min, e.protocol_version_max) for e in (known, found)]
    if ranges[0] != ranges[1]:
        raise EndpointError(
            f"Deployment {deployment_id} speaks versions {ranges[0]} of the service protocol, the"
            f" endpoint now {ranges[1]}.",
            code="HF1285",
            restate_code="META0016",
            status=409,
            hint="Register the endpoint as a new deployment instead.",
        )
