"""The rows of the engine's tables, and their keys.

A key is a tuple that begins with its table. Rows are immutable and encode to msgpack arrays, so
fields may be appended with defaults. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from holdfast.domain.message import Entry, StepFailures
from holdfast.domain.target import HandlerKind, HandlerManifest, ServiceKind, Target


class Table(IntEnum):
    """Tables of one partition; each row belongs to exactly one partition."""

    INVOCATION = 1
    """(table, invocation id) → InvocationRow"""
    LOCK = 2
    """(table, service, object key) → LockRow; absent while nobody uses the key"""
    INBOX = 3
    """(table, service, object key, sequence) → InboxRow"""
    TIMER = 4
    """(table, at_ms, invocation id, slot) → TimerRow"""
    STATE = 5
    """(table, service, object key, name) → StateRow"""
    OUTBOX = 6
    """(table, sequence) → OutboxRow"""
    DEDUP = 7
    """(table, sending partition) → DedupRow"""
    PARTITION = 8
    """(table,) → PartitionRow"""


class Lookup(IntEnum):
    """What can be asked of a partition besides rows by key. Answers are never cached."""

    HAS_NOTIFICATION = 101
    """(lookup, invocation id, note) → bool; for `note` see `note_of_*`"""
    CHILDREN = 102
    """(lookup, invocation id) → tuple of ids of the invocations it made"""
    ENTRY = 103
    """(lookup, invocation id, index) → Entry"""
    STATE_NAMES = 104
    """(lookup, service, object key) → tuple of names, sorted"""
    HANDLER = 105
    """(lookup, service, handler) → HandlerRow; answered by the catalog of deployments"""


Key = tuple[Table | Lookup | str | int, ...]


class _Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row."""


class Status(IntEnum):
    """Where an invocation is in its life."""

    SCHEDULED = 0
    """Waits for its start time."""
    PENDING = 1
    """Waits in the inbox of its object key."""
    RUNNING = 2
    """Has an attempt, or will have as soon as a handler can take it."""
    SUSPENDED = 3
    """Waits for one of `waiting`."""
    BACKING_OFF = 4
    """Failed; the next attempt starts at `retry_at_ms`."""
    PAUSED = 5
    """Failed for good or paused by a person; waits for a person."""
    COMPLETED = 6


class OriginKind(IntEnum):
    """Who made an invocation."""

    INGRESS = 0
    SERVICE = 1


class Origin(_Row, frozen=True):
    """Who made an invocation."""

    kind: OriginKind = OriginKind.INGRESS
    invocation_id: str | None = None
    target: str | None = None


class Sink(_Row, frozen=True):
    """An invocation that waits for the outcome of another one."""

    invocation_id: str
    completion_id: int
    kind: int
    """Wire type of the completion to deliver."""
    created_at_ms: int = 0
    """When the waiting invocation was made: one with a key may be gone and made again."""


class Waiting(_Row, frozen=True):
    """The await set of a suspended invocation: any member resumes it."""

    completions: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    named_signals: tuple[str, ...] = ()


class AttemptFailure(_Row, frozen=True):
    """Why the last attempt failed."""

    code: int
    message: str
    at_ms: int
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str | None = None
    related_command_type: int | None = None


class InvocationRow(msgspec.Struct, array_like=True, gc=False):
    """One invocation. Its size does not grow with its journal.

    The only mutable row: it changes with every record, so a draft copies it once and edits the copy
    (`Draft.edit`). Nobody else writes to one.
    """

    id: str
    target: Target
    service_kind: ServiceKind
    handler_kind: HandlerKind
    status: Status
    created_at_ms: int
    modified_at_ms: int
    origin: Origin = Origin()
    idempotency_key: str | None = None
    execute_at_ms: int = 0
    """Requested start; 0 means at once."""
    sinks: tuple[Sink, ...] = ()
    retention_ms: int = 0
    """How long the completed invocation is kept."""
    attempt: int = 0
    """Number of the current or last attempt, from 1."""
    attempt_base: int = 0
    """Journal length when that attempt began: what was in its replay."""
    journal_length: int = 0
    cancel_index: int = -1
    """Journal index of the last cancel signal."""
    deployment_id: str | None = None
    """Pinned when the handler's first entry is recorded."""
    open_runs: tuple[int, ...] = ()
    """Completion ids of steps whose result is not recorded yet."""
    timer_count: int = 0
    retry_count: int = 0
    """Failed attempts since the last start or resume by a person; drives the retry policy."""
    stale_retry_count: int = 0
    """Failed attempts since the last new command."""
    last_entry_at_ms: int = 0
    retry_at_ms: int = 0
    last_failure: AttemptFailure | None = None
    step_failures: tuple[StepFailures, ...] = ()
    waiting: Waiting | None = None
    output_index: int | None = None
    """Journal index of the entry that holds the outcome."""
    has_failed: bool = False
    """Whether the outcome is a failure."""
    completed_at_ms: int = 0
    expires_at_ms: int = 0
    """When a completed invocation may be removed; 0 while it lives."""
    inbox_sequence: int = 0
    """Its place while PENDING."""


class LockRow(_Row, frozen=True):
    """Who holds an object key, and the ends of its inbox."""

    holder: str | None
    head: int = 0
    """Lowest sequence that may be in the inbox."""
    tail: int = 0
    """Sequence that the next arrival gets."""


class InboxRow(_Row, frozen=True):
    """An invocation that waits for its object key."""

    invocation_id: str


class TimerRow(_Row, frozen=True):
    """Something to do at a time. All of it is in the key."""


class StateRow(_Row, frozen=True):
    """One state entry of an object."""

    value: bytes


class DedupRow(_Row, frozen=True):
    """How much of another partition's outbox this one has taken in."""

    sequence: int


class PartitionRow(_Row, frozen=True):
    """Counters of a partition."""

    outbox_next: int = 1


class HandlerRow(_Row, frozen=True):
    """What the catalog says about a handler, in the latest deployment of its service."""

    service_kind: ServiceKind
    manifest: HandlerManifest
    deployment_id: str


class JournalRow(msgspec.Struct, frozen=True, gc=False):
    """One entry of a journal."""

    invocation_id: str
    index: int
    at_ms: int
    entry: Entry


SLOT_START = "start"
SLOT_RETRY = "retry"


def slot_of_completion(completion_id: int) -> str:
    """Return the timer slot of a sleep."""
    return f"c{completion_id}"


def note_of_completion(completion_id: int) -> str:
    """Return the note under which a completion is found in its journal."""
    return f"c{completion_id}"


def note_of_signal(index: int | None, name: str | None) -> str:
    """Return the note under which a signal is found in its journal."""
    return f"s{index}" if index is not None else f"n{name}"
