"""What the front doors may ask of a server. Ingress, admin and carriers know this and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import Outcome, Signal
from holdfast.domain.target import ServiceManifest, Target
from holdfast.engine.decision import Answer
from holdfast.engine.row import HandlerRow, InvocationRow, JournalRow
from holdfast.storage.base import InvocationFilter, StoredDeployment
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

    async def invocation(self, invocation_id: str) -> InvocationRow | None:
        """Return an invocation."""
        ...

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations, newest first by (created_at_ms, id)."""
        ...

    async def journal(self, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""
        ...

    async def state(self, service: str, key: str) -> dict[str, bytes]:
        """Return the state of an object key, sorted by name."""
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

    def health(self) -> dict[str, object]:
        """Return facts for `GET /health`: durability, partitions led, open attempts."""
        ...
