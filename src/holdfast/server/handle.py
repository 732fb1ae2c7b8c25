"""What the front doors may ask of a server. Ingress, admin and carriers know this and no more."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import NamedTuple, Protocol

from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import Outcome, Signal
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.setting import ServiceSettings
from holdfast.domain.target import ServiceManifest, Target
from holdfast.engine.decision import Answer
from holdfast.engine.row import HandlerRow, InvocationRow, JournalRow, StateEdit, StateRow
from holdfast.server.approval_port import Approvals
from holdfast.server.changes import Changes
from holdfast.server.detail import Details
from holdfast.server.registration import Change, Registered, Registration
from holdfast.server.stream_port import Streams
from holdfast.storage.base import InvocationFilter, StoredDeployment
from holdfast.storage.scan import Scan, Scanned
from holdfast.transport.base import HandlerPort


class Overloaded(HoldfastError):
    """A queue is full; nothing was stored. Try again later."""

    code = "HF1429"

    def __init__(self, target: Target) -> None:
        super().__init__(
            f"The inbox of {target} is full.",
            hint="Wait for its invocations to finish, or spread the work over more keys.",
        )


class Accepted(NamedTuple):
    """An invocation that is durable."""

    invocation_id: str
    is_new: bool
    """False: an earlier request with the same idempotency key made it."""
    execute_at_ms: int
    """Requested start; 0 means at once."""


class Finished(NamedTuple):
    """The outcome of an invocation."""

    invocation_id: str
    outcome: Outcome
    expires_at_ms: int
    """When a stored outcome will be forgotten; 0 when this is the first answer."""


class Request(NamedTuple):
    """What a client asks to be invoked; already checked against the handler's manifest."""

    target: Target
    handler: HandlerRow
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    idempotency_key: str | None = None
    execute_at_ms: int = 0
    retry: RetrySchedule | None = None
    """Instead of the handler's policy."""


class KnownAttempt(NamedTuple):
    """The last attempt of an invocation, as this process knows it."""

    deployment_id: str
    began_at_ms: int
    is_running: bool = True


DEPLOYMENT_KEEP = "keep"
"""Instead of a deployment id: the one that the invocation is pinned to."""
DEPLOYMENT_LATEST = "latest"
"""Instead of a deployment id: the latest that serves the handler."""


class Operations(Protocol):
    """What people do to invocations.

    Each answers NOT_FOUND for an unknown invocation and CONFLICT or ALREADY_COMPLETED, with the
    status, when that does not allow it. Asking twice is harmless: IGNORED says that it was done.
    """

    async def pause(self, invocation_id: str) -> Answer:
        """Start no more attempts, and end the one that runs."""
        ...

    async def resume(self, invocation_id: str, deployment: str = DEPLOYMENT_KEEP) -> Answer:
        """Start an attempt of a paused, suspended or failed one, with fresh retry counters.

        Args:
            deployment: Runs it from now on: an id, `latest` or `keep`.

        Raises:
            NotFoundError: HF1062, no such deployment; HF1001, HF1002 for `latest`: none serves it.
            UsageError: HF1252, the deployment does not serve the handler.
        """
        ...

    async def restart(
        self,
        invocation_id: str,
        from_index: int = 0,
        deployment: str = DEPLOYMENT_LATEST,
        idempotency_key: str | None = None,
    ) -> tuple[str, Answer]:
        """Make a new invocation of a completed one; return its id, and the answer.

        Answers GONE when the journal was purged, OUT_OF_RANGE for an entry that cannot be the last
        one, UNSUPPORTED for workflows, PREVIOUSLY_ACCEPTED when the new one exists.

        Args:
            from_index: Journal index of the last entry to keep; 0 keeps the input only.
            deployment: Runs the new one: an id, `latest` or `keep`.
            idempotency_key: With the same one the same new invocation is meant.

        Raises:
            NotFoundError: HF1062, no such deployment.
            UsageError: HF1252, the deployment does not serve the handler.
        """
        ...

    async def purge(self, invocation_id: str, *, is_journal_only: bool = False) -> Answer:
        """Forget a completed invocation, or its journal but for the outcome."""
        ...


class ServerHandle(Protocol):
    """A running server.

    Methods raise `StorageUnavailable` when the partition has no leader here, and nothing else
    unless documented. A call that was answered is durable.
    """

    body_size_bytes_max: int

    @property
    def partition_count(self) -> int:
        """Return the number of partitions, of this store for ever."""
        ...

    def now_ms(self) -> int:
        """Return the server's time."""
        ...

    def resolve(self, service: str, handler: str) -> HandlerRow:
        """Find a handler in the latest deployment of its service.

        Raises:
            NotFoundError: HF1001 unknown service, HF1002 unknown handler; names near ones.
        """
        ...

    def services(self) -> Sequence[ServiceManifest]:
        """Return all services, by name."""
        ...

    def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        ...

    async def send(self, request: Request) -> Accepted:
        """Make an invocation and return once it is durable."""
        ...

    async def call(self, request: Request) -> Finished:
        """Make an invocation and wait for its outcome.

        Cancelling this wait does not cancel the invocation.
        """
        ...

    async def attach(self, invocation_id: str) -> Finished:
        """Wait for the outcome of an invocation.

        Raises:
            NotFoundError: HF1004, no such invocation.
        """
        ...

    async def output(self, invocation_id: str) -> Finished | None:
        """Return the outcome of an invocation, or None while it has none.

        Raises:
            NotFoundError: HF1004, no such invocation.
        """
        ...

    async def signal(self, invocation_id: str, signal: Signal) -> Answer:
        """Deliver a signal. Cancel is `Signal(Void(), index=SIGNAL_CANCEL)`."""
        ...

    async def kill(self, invocation_id: str) -> Answer:
        """End an invocation, and all that it called, with failure 409."""
        ...

    @property
    def changes(self) -> Changes:
        """Return who tells which invocations have changed."""
        ...

    @property
    def streams(self) -> Streams:
        """Return the streams that invocations write."""
        ...

    @property
    def details(self) -> Details:
        """Return the model calls and tool calls of steps."""
        ...

    @property
    def approvals(self) -> Approvals:
        """Return the inbox of approvals."""
        ...

    @property
    def operations(self) -> Operations:
        """Return what people may do to invocations besides."""
        ...

    async def invocation(self, invocation_id: str) -> InvocationRow | None:
        """Return an invocation."""
        ...

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations, newest first by (created_at_ms, id)."""
        ...

    def scan(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over stored rows of all partitions, in pages; see `Store.scan`."""
        ...

    def known_attempts(self) -> Mapping[str, KnownAttempt]:
        """Return the attempts that run now and some that failed last, by invocation id."""
        ...

    async def journal(self, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""
        ...

    async def state(self, service: str, key: str) -> dict[str, StateRow]:
        """Return the state of an object key, sorted by name, without what has expired."""
        ...

    async def state_keys(self, service: str, after: str, limit: int) -> list[str]:
        """Return the keys of a service that have state, sorted, greater than `after`."""
        ...

    async def edit_state(self, service: str, key: str, edit: StateEdit) -> Answer:
        """Change the state of an object key, when its turn has come.

        The reply is ACCEPTED; QUEUED, an exclusive invocation holds the key; STALE, the state has
        another version; OVERLOADED; or NOT_FOUND, it would write state of a workflow key that has
        no main invocation.
        """
        ...

    async def attach_worker(self, port: HandlerPort) -> str:
        """Take a worker: register its deployment durably, offer it attempts, return the id.

        Raises:
            UsageError: HF1301, the manifest cannot be served.
        """
        ...

    def detach_worker(self, port: HandlerPort) -> None:
        """Forget a worker. Its open attempts must already have been closed by the carrier."""
        ...

    async def register_endpoint(self, registration: Registration) -> Registered:
        """Ask an endpoint what it serves, and register that durably.

        One that is known by host, port and path is asked again only when that is forced.

        Raises:
            UsageError: HF1281 address, HF1282 headers, HF1286 nothing is dialled here, HF1301 a
                service changes its kind.
            EndpointError: It cannot be asked, or does not answer as endpoints do.
            DiscoveryError: What it says about itself cannot be used.
        """
        ...

    async def update_endpoint(self, deployment_id: str, change: Change) -> StoredDeployment:
        """Change address or headers of a registered endpoint, which keeps its id.

        Raises:
            NotFoundError: HF1062.
            ConflictError: HF1289, it is a worker.
            UsageError: HF1281 address, HF1282 headers.
            EndpointError: HF1285 other protocol versions; or see `register_endpoint`.
            DiscoveryError: See `register_endpoint`.
        """
        ...

    async def remove_deployment(self, deployment_id: str, *, is_forced: bool) -> None:
        """Remove a deployment.

        Raises:
            NotFoundError: HF1062.
            ConflictError: HF1284, it is in use, and the removal is not forced.
        """
        ...

    async def change_settings(self, service: str, change: ServiceSettings) -> None:
        """Set options of the latest revision of a service, durably; None leaves one as it is.

        They hold for what begins from now on. The next revision begins with what its code says.

        Raises:
            NotFoundError: HF1001.
        """
        ...

    async def open_invocation_count(self, deployment_id: str) -> int:
        """Return how many open invocations are pinned to a deployment. Reads all open ones."""
        ...

    def health(self) -> dict[str, object]:
        """Return facts for `GET /health`: durability, partitions led, open attempts."""
        ...
