"""The port between the server and a database.

An adapter keeps the tables of `holdfast.engine.row` for a fixed number of partitions. All methods
are called from one event loop. Reads see every commit whose future is done, and none that is not
durable yet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import NamedTuple, Protocol

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.deployment import Endpoint
from holdfast.domain.message import Entry
from holdfast.domain.setting import NO_SETTINGS, ServiceSettings
from holdfast.domain.target import Manifest, ServiceManifest
from holdfast.engine.decision import Batch, Row
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import (
    ApprovalRow,
    InvocationRow,
    JournalRow,
    Key,
    Sink,
    StateRow,
    Status,
    StoredDetail,
    StoredNode,
    StreamRow,
)
from holdfast.storage.scan import Scan, Scanned

Loaded = (
    Row
    | Entry
    | int
    | tuple[str, ...]
    | tuple[int, ...]
    | tuple[bytes, ...]
    | tuple[Sink, ...]
    | tuple[StoredDetail, ...]
    | tuple[StoredNode, ...]
    | None
)
"""What `load` answers: a row, or the answer to a lookup; None when there is none."""


class Timer(NamedTuple):
    """A timer row, which is all key."""

    at_ms: int
    invocation_id: str
    slot: str


class StoredState(NamedTuple):
    """State of an object key."""

    entries: dict[str, StateRow]
    """By name, sorted."""
    is_complete: bool
    """Whether that is all of it."""


class StoredDeployment(NamedTuple):
    """A registered set of handlers."""

    id: str
    name: str
    manifest: Manifest
    created_at_ms: int
    """When it was registered last; of those that serve a service, the latest is used."""
    revision: int
    """How often its name was registered, or for an endpoint the greatest of `revisions`."""
    endpoint: Endpoint | None = None
    """Where it is reached; None for workers, which dial in."""
    revisions: dict[str, int] | None = None
    """By service of an endpoint: how often any endpoint was registered with it."""
    settings: dict[str, ServiceSettings] | None = None
    """By service: what operators have set."""

    def services(self) -> tuple[ServiceManifest, ...]:
        """Return the services with what operators have set."""
        if self.settings is None:
            return self.manifest.services
        return tuple(
            self.settings.get(service.name, NO_SETTINGS).applied(service)
            for service in self.manifest.services
        )


class InvocationFilter(NamedTuple):
    """Which invocations to list; None means any."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    statuses: tuple[Status, ...] | None = None


class ApprovalPlace(NamedTuple):
    """Where an approval is in the order of lists; times and the rest descend."""

    asked_at_ms: int
    invocation_id: str
    signal_index: int


class ApprovalFilter(NamedTuple):
    """Which approvals to list; None means any."""

    statuses: tuple[ApprovalStatus, ...] | None = None
    service: str | None = None
    assignee: str | None = None
    """One of those who may decide."""


class StoredApproval(NamedTuple):
    """An approval, with its key."""

    invocation_id: str
    signal_index: int
    """Of its awakeable."""
    row: ApprovalRow

    @property
    def place(self) -> ApprovalPlace:
        """Return where it is in the order of lists."""
        return ApprovalPlace(self.row.asked_at_ms, self.invocation_id, self.signal_index)


class Store(Protocol):
    """A database."""

    partition_count: int
    """Fixed when the store is made."""

    async def open(self) -> None:
        """Create or open the database.

        Raises:
            StorageError: Not writable, not ours, newer than this code, corrupt, or in use.
        """
        ...

    async def close(self) -> None:
        """Finish what is under way and release the database. Idempotent."""
        ...

    async def acquire(self, partition: int, owner: str, at_ms: int) -> int:
        """Become leader of a partition: raise its epoch durably and return it.

        From now on commits of older epochs are refused.
        """
        ...

    async def commit(self, batch: Batch) -> None:
        """Write a batch atomically and durably, if its epoch is still current.

        Commits that are under way at the same time share one transaction where the database can.
        Never cancel this call: the outcome would be unknown.

        A journal belongs to its invocation's row: an entry is refused unless that row exists once
        the rows of the batch are written, an entry is written once, and deleting the row deletes
        the journal.

        Raises:
            Fenced: A newer epoch holds the partition; nothing was written.
            CorruptState: HF4112, a journal entry exists already or has no invocation; nothing was
                written.
            StorageError: HF4111, the batch holds a value that cannot be stored; nothing was
                written. Any other code: the outcome of this commit is unknown.
        """
        ...

    async def load(self, partition: int, keys: Iterable[Key]) -> dict[Key, Loaded]:
        """Read rows by key and answer lookups (all but HANDLER). Every key gets an answer."""
        ...

    async def journal(self, partition: int, invocation_id: str) -> list[JournalRow]:
        """Return the journal of an invocation, in order."""
        ...

    async def stream(
        self, partition: int, invocation_id: str, name: str, after: int, size_bytes_max: int
    ) -> list[tuple[int, StreamRow]]:
        """Return (id of its first chunk, row) of rows of a stream, in order.

        The first may lie before `after`: it is the last one that may reach beyond. There are at
        least two rows, where there are, and then as many as fit into `size_bytes_max`.
        """
        ...

    async def state(
        self, partition: int, service: str, key: str, at_ms: int, size_bytes_max: int | None = None
    ) -> StoredState:
        """Return the state of an object key, sorted by name, without what has expired by `at_ms`.

        Args:
            size_bytes_max: Of names and rows together; what comes after is left out.
        """
        ...

    async def state_keys(
        self, partition: int, service: str, at_ms: int, after: str, limit: int
    ) -> list[str]:
        """Return the keys of a service that have state at `at_ms`, sorted, greater than `after`."""
        ...

    async def expired_state(
        self, partition: int, at_ms: int, limit: int
    ) -> list[tuple[str, str, str]]:
        """Return (service, key, name) of state entries that have expired, oldest first."""
        ...

    async def timers(self, partition: int, after: Timer | None, limit: int) -> list[Timer]:
        """Return the next timers in order of (at_ms, invocation id, slot), after one of them."""
        ...

    async def outbox(self, partition: int, after: int, limit: int) -> list[tuple[int, OutboxRow]]:
        """Return (sequence, row) of waiting messages, by sequence, greater than `after`."""
        ...

    async def with_status(
        self, partition: int, status: Status, after: str, limit: int
    ) -> list[InvocationRow]:
        """Return invocations in a status, by id, greater than `after`."""
        ...

    async def expired(self, partition: int, at_ms: int, limit: int) -> list[str]:
        """Return ids of completed invocations whose retention has passed, oldest first."""
        ...

    async def invocations(
        self, query: InvocationFilter, before: tuple[int, str] | None, limit: int
    ) -> list[InvocationRow]:
        """Return invocations of all partitions, newest first by (created_at_ms, id)."""
        ...

    async def approvals(
        self, query: ApprovalFilter, before: ApprovalPlace | None, limit: int
    ) -> list[StoredApproval]:
        """Return approvals of all partitions, newest first by (asked_at_ms, id, index)."""
        ...

    async def keep_secret(self, name: str, secret: bytes) -> bytes:
        """Write a secret durably unless there is one of this name; return the one that is there."""
        ...

    def scan(self, scan: Scan) -> AsyncGenerator[list[Scanned]]:
        """Iterate over rows of all partitions, in pages of at most `PAGE_ROWS`.

        It may read much, and does so aside: commits and other reads do not wait. Leaving early, or
        cancelling, ends it.

        Raises:
            StorageError: While it is iterated over.
        """
        ...

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Write a deployment durably."""
        ...

    async def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment durably. One that does not exist is no error."""
        ...

    async def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        ...

    def is_durable(self) -> bool:
        """Whether a commit survives the loss of power (fsync on), for health and UI."""
        ...
