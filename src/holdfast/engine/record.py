"""The inputs of a partition. Stamped by its leader when they are applied, immutable.

Records that cross partitions travel as msgpack, so every one has a tag that is never reused.
"""

from __future__ import annotations

import msgspec

from holdfast.domain.message import Failure, FromHandler, Result, Signal
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.row import Origin, Sink


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


class HandlerSent(_Record, frozen=True, tag=2):
    """Messages of one attempt, in order. Dropped unless (epoch, attempt) is the current one."""

    invocation_id: str
    epoch: int
    attempt: int
    deployment_id: str
    messages: tuple[FromHandler, ...]


class AttemptLost(_Record, frozen=True, tag=3):
    """An attempt's stream ended without a terminal message, or broke the protocol."""

    invocation_id: str
    epoch: int
    attempt: int
    reason: str
    code: int = 500


class AttemptResumed(_Record, frozen=True, tag=4):
    """A new leader found this invocation running: its attempts of older epochs are void."""

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


class CompletionSent(_Record, frozen=True, tag=7):
    """Deliver the result of a command, from another invocation."""

    sink: Sink
    result: Result


class KillRequested(_Record, frozen=True, tag=8):
    """End an invocation now, and all that it called."""

    invocation_id: str


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
)

KILLED = Failure(409, "killed")
"""The outcome of a killed invocation."""
CANCELED = Failure(409, "canceled")
"""The outcome of an invocation that was cancelled before it began."""
NOT_FOUND = Failure(404, "not found")
"""The answer to an attach to an unknown invocation."""
