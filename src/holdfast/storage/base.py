"""The port between the server and a database.

An adapter keeps the tables of `holdfast.engine.row` for a fixed number of partitions. All methods
are called from one event loop. Reads see every commit whose future is done, and none that is not
durable yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from holdfast.domain.message import Entry
from holdfast.domain.target import Manifest
from holdfast.engine.decision import Batch, Row
from holdfast.engine.record import OutboxRow
from holdfast.engine.row import InvocationRow, JournalRow, Key, Status

Loaded = Row | Entry | bool | tuple[str, ...] | None
"""What `load` answers: a row, or the answer to a lookup; None when there is none."""


class Timer(NamedTuple):
    """A timer row, which is all key."""

    at_ms: int
    invocation_id: str
    slot: str


class StoredDeployment(NamedTuple):
    """A registered set of handlers."""

    id: str
    name: str
    manifest: Manifest
    created_at_ms: int
    revision: int


class InvocationFilter(NamedTuple):
    """Which invocations to list; None means any."""

    service: str | None = None
    handler: str | None = None
    key: str | None = None
    statuses: tuple[Status, ...] | None = None


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

    async def state(self, partition: int, service: str, key: str) -> dict[str, bytes]:
        """Return the whole state of an object key, sorted by name."""
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

    async def put_deployment(self, deployment: StoredDeployment) -> None:
        """Write a deployment durably."""
        ...

    async def deployments(self) -> Sequence[StoredDeployment]:
        """Return all deployments, oldest first."""
        ...

    def is_durable(self) -> bool:
        """Whether a commit survives the loss of power (fsync on), for health and UI."""
        ...
