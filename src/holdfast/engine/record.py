"""The inputs of a partition. Stamped by its leader when they are applied, immutable.

Records that cross partitions travel as msgpack, so every one has a tag that is never reused.
"""

from __future__ import annotations

import msgspec

from holdfast.domain.message import Failure, FromHandler, Result, Signal
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.row import Origin, Sink, StateEdit


class _Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An input."""


class Invoke(_Record, frozen=True, tag=1):
    """Make an invocation, or find the one that this request made before."""

    invocation_id: str
    target: Target
    service_kind: ServiceKind
    handler_kind: HandlerKind
    parameter: bytes
    headers: tuple[tuple[str, str], ...] = ()
    origin: Origin = Origin()
    idempotency_key: str | None = None
    execute_at_ms: int = 0
    retention_ms: int = 0
    sink: Sink | None = None
    timeout_ms: int = 0
    """From when it may start to its end; 0 means no limit."""
    retry: RetrySchedule | None = None
    """Instead of the handler's policy."""


class HandlerSent(_Record, frozen=True, tag=2):
    """Messages of one attempt, in order.

    Dropped unless (epoch, attempt) is the current one, of the invocation that was made then.
    """

    invocation_id: str
    epoch: int
    attempt: int
    deployment_id: str
    messages: tuple[FromHandler, ...]
    created_at_ms: int | None = None
    """When the invocation was made: one with a key may be gone and made again. None: any."""
    protocol_version: int = 0
    """Of Restate's service protocol, that the attempt speaks; 0: it speaks ours."""


class AttemptLost(_Record, frozen=True, tag=3):
    """An attempt's stream ended without a terminal message, or broke the protocol."""

    invocation_id: str
    epoch: int
    attempt: int
    reason: str
    code: int = 500
    is_refused: bool = False
    """The other side answered and did not run the handler: wait, also before the second attempt."""
    retry_after_ms: int | None = None
    """The wait that the other side asked for."""
    is_counted: bool = True
    """Whether the handler counts it as an attempt of its own (`Start.retry_count`)."""
    created_at_ms: int | None = None
    """As in `HandlerSent`."""


class AttemptResumed(_Record, frozen=True, tag=4):
    """The attempt of an invocation that runs is void: another one takes its place.

    A new leader found it running, or a cancellation has come too late for the attempt to hear it.
    """

    invocation_id: str


class TimerFired(_Record, frozen=True, tag=5):
    """A timer is due. Harmless when its row is gone."""

    timer_at_ms: int
    invocation_id: str
    slot: str


class SignalSent(_Record, frozen=True, tag=6):
    """Deliver a signal: an awakeable's completion, a cancel, a named signal."""

    invocation_id: str
    signal: Signal
    parent_id: str = ""
    """Who called it and passes a cancellation on. A workflow, and what has an idempotency key,
    takes that from who has made it."""


class CompletionSent(_Record, frozen=True, tag=7):
    """Deliver the result of a command, from another invocation."""

    sink: Sink
    result: Result


class KillRequested(_Record, frozen=True, tag=8):
    """End an invocation now, and all that it called."""

    invocation_id: str
    parent_id: str = ""
    """Who called it, if that is why. A workflow, and what has an idempotency key, goes on unless
    this one has made it."""


class AttachRequested(_Record, frozen=True, tag=9):
    """Deliver the outcome of an invocation to `sink`, when it has one."""

    invocation_id: str
    sink: Sink
    is_waiting: bool
    """False: answer at once, with Void while it is still running."""


class Expired(_Record, frozen=True, tag=10):
    """The retention of a completed invocation may have passed."""

    invocation_id: str


class OutboxSent(_Record, frozen=True, tag=11):
    """Messages up to and including `sequence` for one partition are durable there."""

    to_partition: int
    sequences: tuple[int, ...]


Envelope = Invoke | SignalSent | CompletionSent | KillRequested | AttachRequested
"""Records that one partition may send to another."""


class Inbound(_Record, frozen=True, tag=12):
    """A message from another partition's outbox. Taken in once, however often it comes."""

    from_partition: int
    sequence: int
    message: Envelope
    after_sequence: int = 0
    """The message that was sent before it. It is not taken in unless that one was; 0: whatever was
    before is taken in."""


class PauseRequested(_Record, frozen=True, tag=20):
    """A person wants no more attempts of an invocation."""

    invocation_id: str


class ResumeRequested(_Record, frozen=True, tag=21):
    """A person wants an attempt now, with fresh retry counters."""

    invocation_id: str
    deployment_id: str | None = None
    """Runs it from now on; None: the one that it is pinned to."""


class RestartRequested(_Record, frozen=True, tag=22):
    """A person wants a completed invocation once more, or its journal from an entry on."""

    invocation_id: str
    new_invocation_id: str
    """Of the same partition. One that exists makes this a repeated request."""
    from_index: int = 0
    """Last entry to keep; 0 keeps the input only."""
    deployment_id: str | None = None
    """Runs the new one; None: the latest."""


class PurgeRequested(_Record, frozen=True, tag=23):
    """A person wants a completed invocation forgotten, or its journal but for the outcome."""

    invocation_id: str
    is_journal_only: bool = False


class StateEdited(_Record, frozen=True, tag=30):
    """An operator changes the state of an object key."""

    service: str
    key: str
    edit: StateEdit
    is_workflow: bool = False
    """Then the state goes with the main invocation of its key."""


class StateExpired(_Record, frozen=True, tag=31):
    """State entries may have expired."""

    service: str
    key: str
    names: tuple[str, ...]


class ApprovalDecided(_Record, frozen=True, tag=40):
    """A person has decided an approval. What it says fits the form: the shell has checked it."""

    invocation_id: str
    index: int
    """Signal index."""
    is_approved: bool
    value: bytes = b""
    """JSON; empty: none."""
    arguments: bytes = b""
    """JSON of all arguments; empty: as they were."""
    by: str = ""
    comment: str = ""


class OutboxRow(_Record, frozen=True):
    """A message to another partition, kept until that partition has taken it in."""

    to_partition: int
    message: Envelope


Record = (
    Invoke
    | HandlerSent
    | AttemptLost
    | AttemptResumed
    | TimerFired
    | SignalSent
    | CompletionSent
    | KillRequested
    | AttachRequested
    | Expired
    | OutboxSent
    | Inbound
    | PauseRequested
    | ResumeRequested
    | RestartRequested
    | PurgeRequested
    | StateEdited
    | StateExpired
    | ApprovalDecided
)

KILLED = Failure(409, "killed")
"""The outcome of a killed invocation."""
CANCELED = Failure(409, "canceled")
"""The outcome of an invocation that was cancelled before it began."""
INVOKED = Failure(409, "the workflow method was already invoked", {"error_code": "HF1070"})
"""The answer to a second call of a workflow's main handler."""
NOT_FOUND = Failure(404, "not found")
"""The answer to an attach to an unknown invocation."""
