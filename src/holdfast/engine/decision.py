"""What the engine decides: rows to write, actions to take, an answer for the proposer.

A `Batch` is the change of one commit. Its parts are applied in this order: range deletions, then
rows, then journal entries. So a row that is written after its range was deleted stays.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from holdfast.domain.message import Entry, Outcome, ToHandler
from holdfast.engine.record import Envelope, OutboxRow
from holdfast.engine.row import (
    AnnexRow,
    ApprovalRow,
    BlobRow,
    ContentRow,
    DedupRow,
    DetailRow,
    InboxRow,
    InvocationRow,
    JournalRow,
    Key,
    LockRow,
    NodeRow,
    PartitionRow,
    PromiseRow,
    StateRow,
    Status,
    StreamRow,
    TimerRow,
)

Row = (
    InvocationRow
    | LockRow
    | InboxRow
    | TimerRow
    | StateRow
    | OutboxRow
    | DedupRow
    | PartitionRow
    | PromiseRow
    | AnnexRow
    | DetailRow
    | NodeRow
    | BlobRow
    | ContentRow
    | ApprovalRow
    | StreamRow
)


class DeleteTimers(NamedTuple):
    """Delete all timers of an invocation."""

    invocation_id: str


class DeleteJournal(NamedTuple):
    """Delete all journal entries of an invocation."""

    invocation_id: str


class DeleteAnnex(NamedTuple):
    """Delete the whole annex of an invocation."""

    invocation_id: str


class DeleteStreams(NamedTuple):
    """Delete all streams of an invocation."""

    invocation_id: str


class DeleteLane(NamedTuple):
    """Delete what a lane of a stream holds."""

    invocation_id: str
    stream: str
    lane: int
    first_id: int
    """None of its rows comes before."""


class ClearState(NamedTuple):
    """Delete all state of an object key."""

    service: str
    key: str


Range = DeleteTimers | DeleteJournal | DeleteAnnex | DeleteStreams | DeleteLane | ClearState


class Batch(msgspec.Struct):
    """Everything that one commit changes in one partition."""

    partition: int
    epoch: int
    ranges: list[Range]
    rows: dict[Key, Row | None]
    """None deletes."""
    journal: list[JournalRow]


# -- actions: wishes for the shell, taken after the commit -----------------------------------------


class StartAttempt(msgspec.Struct, frozen=True, gc=False):
    """Run a handler."""

    row: InvocationRow
    """As it was decided; the first `row.journal_length` entries are the journal to replay."""
    entries: tuple[Entry, ...] | None = None
    """The whole journal of a new invocation of an unkeyed service. Such an attempt may start
    before its own commit: it builds on nothing that a crash could take back, and can always be
    repeated."""


class Forward(msgspec.Struct, frozen=True, gc=False):
    """Hand a recorded notification, or what else was stored for it, to the running attempt."""

    invocation_id: str
    attempt: int
    notification: ToHandler


class EndAttempt(msgspec.Struct, frozen=True, gc=False):
    """The attempt is over for the engine; close its stream."""

    invocation_id: str
    attempt: int
    is_abort: bool
    """Whether the handler does not know yet."""


class Respond(msgspec.Struct, frozen=True, gc=False):
    """An invocation has its outcome: tell whoever waits in this process."""

    invocation_id: str
    outcome: Outcome


class Publish(NamedTuple):
    """A row was appended to a stream: show it to readers."""

    invocation_id: str
    stream: str
    first_id: int
    row: StreamRow


class RegisterTimer(NamedTuple):
    """A timer row was written."""

    at_ms: int
    invocation_id: str
    slot: str


class SendOutbox(NamedTuple):
    """A message to another partition was written to the outbox."""

    sequence: int
    to_partition: int
    message: Envelope


Action = StartAttempt | Forward | EndAttempt | Respond | RegisterTimer | SendOutbox | Publish


class Reply(IntEnum):
    """The answer to a proposal."""

    ACCEPTED = 0
    """Done, or begun."""
    PREVIOUSLY_ACCEPTED = 1
    """The invocation existed."""
    NOT_FOUND = 2
    ALREADY_COMPLETED = 3
    IGNORED = 4
    """Stale or repeated; nothing changed."""
    OVERLOADED = 5
    """A queue is full; nothing was stored."""
    CONFLICT = 6
    """The invocation's status does not allow it."""
    GONE = 7
    """The journal that it needs was purged."""
    OUT_OF_RANGE = 8
    """The journal has no such entry, it cannot be the last one that is kept, or is too long."""
    UNSUPPORTED = 9
    """Never possible for an invocation of this kind."""
    QUEUED = 10
    """It is durable, and happens when its turn has come."""
    STALE = 11
    """It was meant for another version of what it changes; nothing changed."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A reply with the invocation's status before (for new ones, after) the record."""

    reply: Reply
    status: Status | None = None
