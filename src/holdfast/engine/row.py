"""The rows of the engine's tables, and their keys.

A key is a tuple that begins with its table. Rows are immutable and encode to msgpack arrays, so
fields may be appended with defaults. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import msgspec

from holdfast.domain.approval import ApprovalStatus
from holdfast.domain.detail import Call
from holdfast.domain.message import AwaitTree, Entry, Outcome, StepFailures
from holdfast.domain.retry import RetrySchedule
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
    PROMISE = 9
    """(table, workflow, key, name) → PromiseRow; absent while nobody asked for it"""
    ANNEX = 10
    """(table, invocation id, slot) → AnnexRow: what its InvocationRow has no room for"""
    APPROVAL = 15
    """(table, invocation id, signal index) → ApprovalRow; kept as long as the invocation"""
    DETAIL = 21
    """(table, invocation id, completion id, attempt) → DetailRow"""
    NODE = 22
    """(table, hash) → NodeRow: one message at its place in prompts"""
    BLOB = 23
    """(table, hash) → BlobRow: who uses a ContentRow"""
    CONTENT = 24
    """(table, hash) → ContentRow; never rewritten"""
    STREAM = 11
    """(table, invocation id, stream, id of the first chunk) → StreamRow; read by `Store.stream`,
    never by key"""


class Lookup(IntEnum):
    """What can be asked of a partition besides rows by key. Answers are never cached."""

    NOTIFICATION = 101
    """(lookup, invocation id, note) → journal index of the first, or None; see `note_of_*`"""
    CHILDREN = 102
    """(lookup, invocation id) → tuple of ids of the invocations it made"""
    ENTRY = 103
    """(lookup, invocation id, index) → Entry"""
    STATE_NAMES = 104
    """(lookup, service, object key, at_ms) → tuple of names that have not expired then, sorted"""
    HANDLER = 105
    """(lookup, service, handler) → HandlerRow; answered by the catalog of deployments"""
    PROMISE_NAMES = 106
    """(lookup, workflow, key) → tuple of names, sorted"""
    ANNEX_SINKS = 107
    """(lookup, invocation id) → tuple of the sinks in its annex, in order of slot"""
    APPROVALS = 115
    """(lookup, invocation id, 1: the open ones, 0: all) → tuple of signal indexes, sorted"""
    DETAILS = 121
    """(lookup, invocation id) → tuple of StoredDetail, by completion id and attempt"""
    CHAIN = 122
    """(lookup, hash of a node) → tuple of StoredNode: it and those before it in prompts, at most
    CHAIN_NODES_MAX, the nearest first"""
    PROMPT = 123
    """(lookup, hash of a node) → tuple of bytes: the messages of a prompt that ends with it"""


Key = tuple[Table | Lookup | str | int | bytes, ...]


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
    RESTART = 2
    """A person, who wants a completed one once more."""


class Origin(_Row, frozen=True):
    """Who made an invocation."""

    kind: OriginKind = OriginKind.INGRESS
    invocation_id: str | None = None
    """The one that called it, or the one that was restarted as it."""
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
    """The await set of a suspended invocation: any member resumes it, or what the tree says."""

    completions: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    named_signals: tuple[str, ...] = ()
    tree: AwaitTree | None = None
    """If set, it must be decided; without what has arrived. The lists have all its leaves."""


class AttemptFailure(_Row, frozen=True):
    """Why the last attempt failed."""

    code: int
    message: str
    at_ms: int
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str | None = None
    related_command_type: int | None = None


class Restarted(_Row, frozen=True):
    """What an invocation took over with the first entries of another one's journal.

    Its handler must see in those entries what it saw then: the same random numbers, the same time.
    """

    from_index: int
    """Index of the last entry that was asked for."""
    entry_count: int
    """How many entries were copied: those up to `from_index`, and completions that came later."""
    random_seed: int
    began_at_ms: int
    """When the first invocation of that journal was due."""


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
    """Who waits for the outcome; more are in the annex."""
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
    """Completion ids of steps whose result is not recorded yet; more are in the annex."""
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
    """While SUSPENDED: the await set; None when it is in the annex."""
    output_index: int | None = None
    """Journal index of the entry that holds the outcome."""
    has_failed: bool = False
    """Whether the outcome is a failure."""
    completed_at_ms: int = 0
    expires_at_ms: int = 0
    """When a completed invocation may be removed; 0 while it lives."""
    inbox_sequence: int = 0
    """Its place while PENDING."""
    timeout_ms: int = 0
    """From when it may start to its end; 0 means no limit."""
    retry: RetrySchedule | None = None
    """Instead of the handler's policy."""
    retry_since_ms: int = 0
    """Time of the first of the failures that `retry_count` counts."""
    has_awaited_promise: bool = False
    """Whether it may be among the sinks of promises of its workflow key."""
    restarted: Restarted | None = None
    """Set when its journal begins with entries of another invocation."""
    annex_run_count: int = 0
    """Open steps in the annex."""
    annex_sink_count: int = 0
    """Sinks in the annex."""
    named_signal_index: int = -1
    """Journal index of the last named signal."""
    is_waiting_in_annex: bool = False
    approval_count: int = 0
    """Approvals that it has asked for."""
    open_approval_count: int = 0
    """Those that are not decided."""
    stream_count: int = 0
    """Streams that have been written to."""
    detail_count: int = 0
    """Details that are kept of its steps."""
    protocol_version: int = 0
    """Of Restate's service protocol, pinned with the deployment; 0: not pinned, or ours is spoken,
    or it was pinned before versions were kept."""

    @property
    def due_at_ms(self) -> int:
        """From when it may start: where the clock of its program begins."""
        return max(self.created_at_ms, self.execute_at_ms)


class StreamHead(_Row, frozen=True):
    """The end of a stream, and what counts towards its limits."""

    next_id: int = 1
    next_lane: int = 1
    chunk_count: int = 0
    size_bytes: int = 0


class Lane(_Row, frozen=True):
    """What one run of one writer has written to one stream."""

    stream: str
    number: int
    """Unique in the stream."""
    first_id: int
    next_number: int = 0
    """Number of the chunk that is next in this run."""
    chunk_count: int = 0
    size_bytes: int = 0


class Writer(_Row, frozen=True):
    """The latest run of a writer, with one lane for each stream that it has written to."""

    run: int
    lanes: tuple[Lane, ...] = ()


class AnnexRow(_Row, frozen=True):
    """Something of an invocation that would make its own row grow without bound.

    The slot says which: see `slot_of_run`, `slot_of_sink`, `SLOT_WAITING`, `slot_of_stream`,
    `slot_of_writer`. An open step is all key.
    """

    sink: Sink | None = None
    waiting: Waiting | None = None
    head: StreamHead | None = None
    writer: Writer | None = None


class StreamRow(_Row, frozen=True):
    """Chunks of one lane, with ids one after another; or the note that a lane is lost."""

    lane: int
    chunks: tuple[bytes, ...] = ()
    """Each is JSON. None at all: the lane is lost, and its chunks are deleted."""
    lost_from_id: int = 0
    """Of a note: id of the first chunk that the lane had."""


class DetailRow(_Row, frozen=True):
    """What a try of a step was: a model call or a tool call. Its content is apart."""

    at_ms: int
    service: str
    call: Call
    """Without content."""
    head: bytes | None = None
    """Node of the last message; None: there are no messages."""
    message_count: int = 0
    answer: bytes | None = None
    """Blob; None: there is none."""
    omitted: str = ""
    """As in `StepDetail`."""
    is_failed: bool = False
    """Whether the step failed without a result, to be tried again."""
    is_copied: bool = False
    """Whether another invocation has made the call, of which this one is a restart."""


class StoredDetail(NamedTuple):
    """A detail with its key."""

    invocation_id: str
    completion_id: int
    attempt: int
    row: DetailRow


class NodeRow(_Row, frozen=True):
    """A message at its place in a prompt: all that came before it is the same."""

    parent: bytes
    """Node of the message before it; empty: it is the first."""
    blob: bytes
    count: int
    """Nodes that follow it, and details whose prompt it ends."""


class StoredNode(NamedTuple):
    """A node with its hash."""

    hash: bytes
    row: NodeRow


class BlobRow(_Row, frozen=True):
    """How often a message or an answer is used."""

    count: int
    """Nodes, and details whose answer it is."""
    size_bytes: int


class ContentRow(_Row, frozen=True):
    """A message or an answer."""

    data: bytes
    """JSON."""


class LockRow(_Row, frozen=True):
    """Who holds an object key, and the ends of its inbox."""

    holder: str | None
    head: int = 0
    """Lowest sequence that may be in the inbox."""
    tail: int = 0
    """Sequence that the next arrival gets."""


class StateEdit(_Row, frozen=True):
    """A change of the state of an object key, made by an operator."""

    entries: tuple[tuple[str, bytes | None], ...] = ()
    """Values by name; None removes."""
    is_replacing: bool = False
    """Whether all other entries are removed."""
    version: str | None = None
    """Apply it only to the state with this version; see `on_state.state_version`."""


class InboxRow(_Row, frozen=True):
    """An invocation, or an edit of its state, that waits for an object key."""

    invocation_id: str
    """Empty for an edit."""
    edit: StateEdit | None = None


class TimerRow(_Row, frozen=True):
    """Something to do at a time. All of it is in the key."""


class StateRow(_Row, frozen=True):
    """One state entry of an object."""

    value: bytes
    expires_at_ms: int = 0
    """From then on it does not exist; 0: never."""

    def is_live(self, at_ms: int) -> bool:
        """Whether the entry exists at a time."""
        return not self.expires_at_ms or self.expires_at_ms > at_ms


class PromiseRow(_Row, frozen=True):
    """A durable promise of a workflow key: complete once it has an outcome, and then for good."""

    outcome: Outcome | None = None
    sinks: tuple[Sink, ...] = ()
    """Who waits for it; empty once it is complete."""
    expires_at_ms: int = 0
    """When it is removed if its key has no main invocation then; 0: the key had one."""


class ApprovalRow(_Row, frozen=True):
    """A question to a person. What it shows and wants is in the journal, at `entry_index`."""

    target: Target
    """Whose handler asks."""
    title: str
    asked_at_ms: int
    entry_index: int
    """Journal index of the AskApproval."""
    assignees: tuple[str, ...] = ()
    expires_at_ms: int = 0
    """0: never."""
    on_timeout: str = "reject"
    status: ApprovalStatus = ApprovalStatus.OPEN
    decided_at_ms: int = 0
    """When it got its final status."""
    decision_index: int | None = None
    """Journal index of the signal with the decision."""
    by: str = ""
    comment: str = ""


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


SLOT_WAITING = "waiting"


def slot_of_run(completion_id: int) -> str:
    """Return the annex slot of an open step."""
    return f"r{completion_id}"


def slot_of_sink(sink: Sink) -> str:
    """Return the annex slot of a sink: one for each invocation and command that waits."""
    return f"s{sink.invocation_id}/{sink.created_at_ms}/{sink.completion_id}"


def slot_of_stream(stream: str) -> str:
    """Return the annex slot of the head of a stream."""
    return f"e{stream}"


def slot_of_writer(writer: str) -> str:
    """Return the annex slot of a writer."""
    return f"w/{writer}"


SLOT_START = "start"
SLOT_RETRY = "retry"
SLOT_TIMEOUT = "timeout"
"""The invocation has run out of time: it is cancelled."""
SLOT_ABORT = "abort"
"""It was cancelled for that, and has not ended: it is killed."""


def slot_of_promises(workflow: str, key: str) -> str:
    """Return the timer slot, of the main invocation's id, for promises that nobody else removes."""
    return f"p{len(workflow)}/{workflow}/{key}"


def promises_of_slot(slot: str) -> tuple[str, str] | None:
    """Return workflow and key of a timer slot for promises; None: it is for something else."""
    if slot[0] != "p":
        return None
    size, _, names = slot[1:].partition("/")
    return names[: int(size)], names[int(size) + 1 :]


def slot_of_approval(index: int) -> str:
    """Return the timer slot of an approval's deadline."""
    return f"v{index}"


def approval_of_slot(slot: str) -> int | None:
    """Return the signal index of the approval whose deadline a timer is; None: something else."""
    return int(slot[1:]) if slot[0] == "v" else None


def slot_of_completion(completion_id: int) -> str:
    """Return the timer slot of a sleep."""
    return f"c{completion_id}"


def note_of_completion(completion_id: int) -> str:
    """Return the note under which a completion is found in its journal."""
    return f"c{completion_id}"


def note_of_signal(index: int | None, name: str | None) -> str:
    """Return the note under which a signal is found in its journal."""
    return f"s{index}" if index is not None else f"n{name}"
