"""The messages of one attempt's stream, and the journal entries among them.

The set is that of Restate's service protocol, version 7 (`docs/reference/protocol.md`): the same
names, the same type numbers, the same field meaning. A type number is the msgspec tag of its
struct, so a value encodes as `[type, field, …]`: fields may be appended with defaults, never moved.

    server → handler   Start, then the journal so far; later notifications as they are recorded
    handler → server   commands in program order, ProposeRunCompletion, then one of
                       Suspension, Error, End

Some fields are ours and never reach a peer that did not offer them: `key` (journal key, see
`holdfast.sdk.machine`), `site` (where in the handler's code), `at_ms` (when it was recorded), and
those that say so.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from holdfast.domain.detail import FailedStep, StepDetail
from holdfast.domain.retry import RetrySchedule

TIME_MS_MAX = 253_402_300_799_999
"""The end of the year 9999, as milliseconds since the epoch. Later times and longer durations are
taken for it, so that they can be stored, added and shown."""


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message. Immutable; equality is by value."""


# -- results ------------------------------------------------------------------------------------


class Void(_Message, frozen=True, tag=4):
    """Done, or: there is nothing."""


class Value(_Message, frozen=True, tag=5):
    """Success."""

    content: bytes = b""


class Failure(_Message, frozen=True, tag=6):
    """A terminal failure: final, never retried."""

    code: int
    """HTTP-like status; 500 unless the handler chose another."""
    message: str
    metadata: dict[str, str] | None = None


class ChildId(_Message, frozen=True, tag=16):
    """The id that the server gave to a called invocation."""

    invocation_id: str


class StateKeys(_Message, frozen=True, tag=17):
    """Names of all entries of an object's state, sorted."""

    keys: tuple[str, ...]


Outcome = Value | Failure
"""How an invocation, a step or a promise ends."""

Result = Void | Value | Failure | ChildId | StateKeys
"""What a notification carries."""


# -- control ------------------------------------------------------------------------------------


class StepFailures(_Message, frozen=True):
    """How often a step has failed since the invocation began."""

    completion_id: int
    count: int
    since_ms: int
    """Time of the first failure, milliseconds since the epoch."""


class Start(_Message, frozen=True, tag=0x0000):
    """Opens an attempt. Exactly `known_entries` journal entries follow, in recorded order."""

    invocation_id: str
    service: str
    handler: str
    key: str
    """Object key; empty for plain services."""
    known_entries: int
    state: dict[str, bytes]
    """Eager state. Complete unless `is_state_partial`."""
    is_state_partial: bool
    retry_count: int
    """Failed attempts since the last new command was recorded."""
    duration_ms: int
    """Time since the last entry was recorded."""
    random_seed: int
    attempt: int = 1
    created_at_ms: int = 0
    """Where the program's clock begins: when the invocation was made, or was due after that."""
    step_failures: tuple[StepFailures, ...] = ()
    state_expiries: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """When entries of `state` cease to exist, milliseconds since the epoch; most never do."""
    has_extensions: bool = True
    """Whether the server knows what is ours. Not over HTTP: see `holdfast.sdk.foreign`."""
    approval_key: bytes = b""
    """Signs the links of this invocation's approvals: see `holdfast.domain.approval_link`."""
    public_url: str = ""
    """Where people reach the server, without a slash at the end; empty: nowhere."""


class Combinator(IntEnum):
    """When a node of an `AwaitTree` is done."""

    UNKNOWN = 0
    """When anything in it arrives."""
    FIRST_COMPLETED = 1
    ALL_COMPLETED = 2
    FIRST_SUCCEEDED_OR_ALL_FAILED = 3
    ALL_SUCCEEDED_OR_FIRST_FAILED = 4


class AwaitTree(_Message, frozen=True):
    """What an attempt waits for, as its program combines it. From version 7 of the protocol on."""

    combinator: Combinator
    completions: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    named_signals: tuple[str, ...] = ()
    children: tuple[AwaitTree, ...] = ()


class Suspension(_Message, frozen=True, tag=0x0001):
    """The attempt ends because it waits. Any one of these resumes it."""

    completions: tuple[int, ...] = ()
    signals: tuple[int, ...] = ()
    named_signals: tuple[str, ...] = ()
    tree: AwaitTree | None = None
    """If set, its rule holds instead of *any one*; the lists have all its leaves."""


class DelayRule(IntEnum):
    """What `Error.next_retry_delay_ms` means to the policy of the handler."""

    UNCOUNTED = 0
    """The wait; the failure does not count: a step's own policy counts it."""
    CHOSEN = 1
    """The wait instead of the policy's; the failure counts."""
    LEAST = 2
    """The shortest wait, the policy's where that is longer; the failure counts."""


class Error(_Message, frozen=True, tag=0x0002):
    """The attempt failed; the retry policy decides what comes next."""

    code: int
    """500 user code, 570 journal mismatch, 571 protocol violation seen by the handler."""
    message: str
    stacktrace: str = ""
    related_command_index: int | None = None
    related_command_name: str | None = None
    related_command_type: int | None = None
    next_retry_delay_ms: int | None = None
    behavior: int = 0
    """0 retry, 1 pause, 2 fail the invocation with this code and message."""
    related_completion_id: int | None = None
    """Completion id of the step that failed first."""
    failed_steps: tuple[int, ...] = ()
    """Completion ids of all steps that failed; counted in `Start.step_failures`."""
    delay_rule: DelayRule = DelayRule.UNCOUNTED
    """Ours."""
    failed_details: tuple[FailedStep, ...] = ()
    """What those of `failed_steps` were that said so. Ours."""


class End(_Message, frozen=True, tag=0x0003):
    """The attempt, and with it the invocation, is complete. Follows an Output."""


class ProposeRunCompletion(_Message, frozen=True, tag=0x0005):
    """A step's result, to be recorded as a completion and sent back."""

    completion_id: int
    result: Outcome
    detail: StepDetail | None = None
    """What the step was. Kept beside the journal, never sent back. Ours."""


class Emit(_Message, frozen=True, tag=0x7E01):
    """Chunks for a stream of the invocation. No journal entry. Ours.

    Chunks have numbers, from 0, within one *run* of a writer. Of a run of handler code, which
    replay repeats, the server takes those that it does not have. A later run of a writer replaces
    what the one before it wrote; one without chunks says that a run begins.
    """

    stream: str
    writer: str
    """Path of a branch of the handler, or journal key of a step."""
    run: int
    """0 for handler code, of which there is one; else the number of the attempt."""
    first_number: int
    chunks: tuple[bytes, ...]
    """Each is JSON."""


# -- commands: entries written by the handler ------------------------------------------------------


class Input(_Message, frozen=True, tag=0x0400):
    """Entry 0 of every journal."""

    value: Value
    headers: tuple[tuple[str, str], ...] = ()
    name: str = ""
    key: str = ""
    site: str = ""


class Output(_Message, frozen=True, tag=0x0401):
    """The result of the invocation. Several may be written; the last one counts."""

    result: Outcome
    name: str = ""
    key: str = ""
    site: str = ""


class GetLazyState(_Message, frozen=True, tag=0x0402):
    """Read one state entry from the server. Completes with Void or Value."""

    state_key: str
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class SetState(_Message, frozen=True, tag=0x0403):
    """Write one state entry; visible to others when recorded."""

    state_key: str
    value: Value
    name: str = ""
    key: str = ""
    site: str = ""
    expires_at_ms: int = 0
    """From then on the entry does not exist; 0: never. Ours."""


class ClearState(_Message, frozen=True, tag=0x0404):
    """Remove one state entry."""

    state_key: str
    name: str = ""
    key: str = ""
    site: str = ""


class ClearAllState(_Message, frozen=True, tag=0x0405):
    """Remove all state of the object."""

    name: str = ""
    key: str = ""
    site: str = ""


class GetLazyStateKeys(_Message, frozen=True, tag=0x0406):
    """List state names from the server. Completes with StateKeys."""

    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class GetEagerState(_Message, frozen=True, tag=0x0407):
    """A state read answered from `Start.state`; recorded so that replay reads the same."""

    state_key: str
    result: Void | Value
    name: str = ""
    key: str = ""
    site: str = ""


class GetEagerStateKeys(_Message, frozen=True, tag=0x0408):
    """A listing answered from `Start.state`."""

    keys: tuple[str, ...]
    name: str = ""
    key: str = ""
    site: str = ""


class GetPromise(_Message, frozen=True, tag=0x0409):
    """Wait for a promise of the workflow key. Completes with Value or Failure."""

    promise_name: str
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class PeekPromise(_Message, frozen=True, tag=0x040A):
    """Look at a promise of the workflow key. Completes with Void, Value or Failure at once."""

    promise_name: str
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class CompletePromise(_Message, frozen=True, tag=0x040B):
    """Complete a promise of the workflow key. Completes with Void, or Failure 409: it was."""

    promise_name: str
    result: Outcome
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class Sleep(_Message, frozen=True, tag=0x040C):
    """Durable timer. Completes with Void at `wake_up_at_ms` or, if that is past, at once."""

    wake_up_at_ms: int
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class Call(_Message, frozen=True, tag=0x040D):
    """Invoke a handler and wait. Completes with ChildId, and later with Value or Failure."""

    service: str
    handler: str
    parameter: bytes
    object_key: str | None
    headers: tuple[tuple[str, str], ...]
    idempotency_key: str | None
    invocation_id_completion_id: int
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""
    retry: RetrySchedule | None = None
    """Ours: instead of the policy of the called handler."""


class OneWayCall(_Message, frozen=True, tag=0x040E):
    """Invoke a handler, now or at a time, and go on. Completes with ChildId."""

    service: str
    handler: str
    parameter: bytes
    object_key: str | None
    headers: tuple[tuple[str, str], ...]
    idempotency_key: str | None
    invoke_at_ms: int
    """Milliseconds since the epoch; 0 means now."""
    invocation_id_completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""
    retry: RetrySchedule | None = None
    """As in `Call`."""


class SendSignal(_Message, frozen=True, tag=0x0410):
    """Send a signal to another invocation, by index or by name."""

    target_invocation_id: str
    result: Void | Value | Failure
    index: int | None = None
    signal_name: str | None = None
    name: str = ""
    key: str = ""
    site: str = ""
    is_passed_on: bool = False
    """Meant for what this handler has called: not for a workflow that another one has made."""


class Run(_Message, frozen=True, tag=0x0411):
    """A step: a side effect that the handler executes and whose result is recorded."""

    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""


class NamedTarget(_Message, frozen=True):
    """How a handler of another SDK named an invocation whose id follows from it."""

    service: str
    object_key: str | None
    handler: str | None = None
    """None, and no idempotency key: the run of a workflow."""
    idempotency_key: str | None = None


class AttachInvocation(_Message, frozen=True, tag=0x0412):
    """Wait for the outcome of another invocation. Completes with Value or Failure."""

    target_invocation_id: str
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""
    named: NamedTarget | None = None
    """Kept, because such an SDK compares the record with what it sends."""


class GetInvocationOutput(_Message, frozen=True, tag=0x0413):
    """Ask for the outcome of another invocation. Completes with Void (still running) at once."""

    target_invocation_id: str
    completion_id: int
    name: str = ""
    key: str = ""
    site: str = ""
    named: NamedTarget | None = None
    """As in `AttachInvocation`."""


class CompleteAwakeable(_Message, frozen=True, tag=0x0414):
    """Complete an awakeable by its id."""

    awakeable_id: str
    result: Outcome
    name: str = ""
    key: str = ""
    site: str = ""


class AskApproval(_Message, frozen=True, tag=0x7E11):
    """Put an awakeable into the inbox of approvals. The decision comes as its signal. Ours."""

    index: int
    """Signal index of the awakeable."""
    title: str
    why: str = ""
    assignees: tuple[str, ...] = ()
    """Who may decide; none: whoever can."""
    payload: bytes = b""
    """JSON for people to look at."""
    form: bytes = b""
    """JSON schema of what is to be filled in."""
    arguments: bytes = b""
    """JSON object: what the handler goes on with when it is approved."""
    arguments_schema: bytes = b""
    """JSON schema of what the arguments may become; empty: they may not be changed."""
    expires_at_ms: int = 0
    """When it is decided by `on_timeout`; 0: never."""
    on_timeout: str = "reject"
    """One of `holdfast.domain.approval.ON_TIMEOUT`; the handler's side does it."""
    name: str = ""
    key: str = ""
    site: str = ""


class WithdrawApproval(_Message, frozen=True, tag=0x7E12):
    """Nobody waits for the decision of an approval any more. Ours."""

    index: int
    name: str = ""
    key: str = ""
    site: str = ""


Command = (
    Input
    | Output
    | GetLazyState
    | SetState
    | ClearState
    | ClearAllState
    | GetLazyStateKeys
    | GetEagerState
    | GetEagerStateKeys
    | GetPromise
    | PeekPromise
    | CompletePromise
    | Sleep
    | Call
    | OneWayCall
    | SendSignal
    | Run
    | AttachInvocation
    | GetInvocationOutput
    | CompleteAwakeable
    | AskApproval
    | WithdrawApproval
)


# -- notifications: entries delivered to the handler -----------------------------------------------


class Completion(_Message, frozen=True, tag=0x8000):
    """The result of a command."""

    kind: int
    """Wire type: that of the command plus 0x7C00; 0x800E for the id of a called invocation."""
    completion_id: int
    result: Result
    at_ms: int = 0


class Signal(_Message, frozen=True, tag=0xFBFF):
    """Something from outside, not tied to a command. Exactly one of `index` and `name` is set."""

    result: Void | Value | Failure
    index: int | None = None
    name: str | None = None
    at_ms: int = 0


Notification = Completion | Signal
Entry = Command | Notification
"""What a journal holds."""


class Emitted(_Message, frozen=True, tag=0x7E02):
    """Chunks that this attempt sent are stored. No journal entry. Ours."""

    chunk_count: int
    """Of one record, those included that were there before."""


ToHandler = Notification | Emitted
"""What an attempt may be sent once it has begun."""

FromHandler = Command | ProposeRunCompletion | Suspension | Error | End | Emit
"""What a handler may send."""

KIND_CHILD_ID = 0x800E
KIND_CALL = 0x800D
KIND_RUN = 0x8011

SIGNAL_CANCEL = 1
SIGNAL_INDEX_FIRST = 17
"""Indexes below are reserved by the protocol; awakeables use this one and up."""


def message_type(message: _Message) -> int:
    """Return the wire type number of a message; for a completion, that of its kind."""
    if type(message) is Completion:
        return message.kind
    tag = type(message).__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def completion_kind(command: Command) -> int:
    """Return the wire type of the notification that completes `command`."""
    return message_type(command) + 0x7C00
