"""What each command of a handler does, beyond being recorded.

State is written when the entry is recorded, in the same commit. Commands that complete at once get
their completion right behind them.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from holdfast.domain.identity import derived_id
from holdfast.domain.ids import IdError, parse_awakeable_id, parse_invocation_id
from holdfast.domain.message import (
    KIND_CALL,
    KIND_CHILD_ID,
    TIME_MS_MAX,
    AskApproval,
    AttachInvocation,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    FromHandler,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Outcome,
    Output,
    PeekPromise,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    StateKeys,
    Value,
    Void,
    WithdrawApproval,
    completion_kind,
)
from holdfast.domain.target import HandlerKind, ServiceKind, Target
from holdfast.engine.annex import open_run, open_run_count
from holdfast.engine.approval import withdraw_approval
from holdfast.engine.lifecycle import deliver, put_timer
from holdfast.engine.limit import (
    APPROVAL_BYTES_MAX,
    OPEN_APPROVALS_MAX,
    OPEN_RUNS_MAX,
    PROMISE_WAITERS_MAX,
    STATE_VALUE_BYTES_MAX,
)
from holdfast.engine.on_approval import ask_approval
from holdfast.engine.promise import (
    await_promise,
    complete_promise,
    is_crowded,
    peek_promise,
)
from holdfast.engine.record import AttachRequested, Invoke, SignalSent
from holdfast.engine.row import (
    HandlerRow,
    InvocationRow,
    Origin,
    OriginKind,
    Sink,
    StateRow,
    Table,
    slot_of_completion,
)
from holdfast.engine.view import Draft


class Violation(Exception):
    """A message cannot be applied; the attempt fails and is retried by policy."""

    def __init__(self, message: str, *, code: int = 571, is_final: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.is_final = is_final
        """Whether trying again cannot help: the invocation is paused."""


def on_command(
    draft: Draft, row: InvocationRow, command: Command, *, is_key_told: bool = True
) -> None:
    """Record a command and begin its effect.

    Args:
        is_key_told: Whether no key and an empty one differ. In Restate's protocol they do not, and
            a keyed service has an object of the empty key.

    Raises:
        Violation: Nothing of this command was applied.
    """
    match command:
        case Run():
            _on_run(draft, row, command)
        case Output():
            row.output_index = draft.append(row, command)
        case SetState() | ClearState() | ClearAllState():
            _on_state_write(draft, row, command)
        case GetEagerState() | GetEagerStateKeys() | GetLazyState() | GetLazyStateKeys():
            _on_state_read(draft, row, command)
        case GetPromise() | PeekPromise() | CompletePromise():
            _on_promise(draft, row, command)
        case Sleep():
            _on_sleep(draft, row, command)
        case Call() | OneWayCall():
            _on_call(draft, row, command, is_key_told=is_key_told)
        case SendSignal() | CompleteAwakeable():
            _on_signal(draft, row, command)
        case AttachInvocation() | GetInvocationOutput():
            _on_attach(draft, row, command)
        case AskApproval() | WithdrawApproval():
            _on_approval(draft, row, command)
        case Input():
            raise Violation("a handler may not send an input [HF2014]")


def _on_run(draft: Draft, row: InvocationRow, command: Run) -> None:
    if open_run_count(row) >= OPEN_RUNS_MAX:
        raise Violation(f"more than {OPEN_RUNS_MAX} steps are open at once [HF2015]", code=500)
    draft.append(row, command)
    open_run(draft, row, command.completion_id)


def _object_key(row: InvocationRow) -> str:
    if row.target.key is None:
        raise Violation(f"{row.target.service} has no key, so it has no state [HF2016]")
    return row.target.key


def _on_state_write(
    draft: Draft, row: InvocationRow, command: SetState | ClearState | ClearAllState
) -> None:
    service, key = row.target.service, _object_key(row)
    if row.handler_kind is HandlerKind.SHARED:
        raise Violation(f"shared handler {row.target} may read state, not write it [HF2017]")
    if isinstance(command, SetState) and len(command.value.content) > STATE_VALUE_BYTES_MAX:
        raise Violation(
            f"state entry {command.state_key!r} has {len(command.value.content)} bytes; the limit"
            f" is {STATE_VALUE_BYTES_MAX} [HF2035]",
            code=413,
        )
    draft.append(row, command)
    match command:
        case SetState(state_key=name, value=value, expires_at_ms=expires_at_ms):
            expires_at_ms = min(expires_at_ms, TIME_MS_MAX)
            draft.rows[Table.STATE, service, key, name] = StateRow(value.content, expires_at_ms)
        case ClearState(state_key=name):
            draft.rows[Table.STATE, service, key, name] = None
        case ClearAllState():
            draft.clear_state(service, key)


def require_states(draft: Draft, row: InvocationRow, messages: Iterable[FromHandler]) -> None:
    """Ask at once for all state that reads of these messages need, instead of one by one."""
    if row.target.key is not None:
        draft.require(
            [
                (Table.STATE, row.target.service, row.target.key, message.state_key)
                for message in messages
                if type(message) is GetLazyState
            ]
        )


def _on_state_read(
    draft: Draft,
    row: InvocationRow,
    command: GetEagerState | GetEagerStateKeys | GetLazyState | GetLazyStateKeys,
) -> None:
    service, key = row.target.service, _object_key(row)
    if isinstance(command, GetEagerState | GetEagerStateKeys):
        draft.append(row, command)
        return
    result: Void | Value | StateKeys
    if isinstance(command, GetLazyState):
        value = draft.state(service, key, command.state_key)
        result = Void() if value is None else Value(value)
    else:
        result = StateKeys(draft.state_names(service, key))
    draft.append(row, command)
    kind = completion_kind(command)
    deliver(draft, row, Completion(kind, command.completion_id, result, draft.at_ms))


def _on_promise(
    draft: Draft, row: InvocationRow, command: GetPromise | PeekPromise | CompletePromise
) -> None:
    if row.service_kind is not ServiceKind.WORKFLOW:
        raise Violation(f"{row.target.service} is no workflow, so it has no promises [HF2021]")
    kind, name = completion_kind(command), command.promise_name
    if isinstance(command, GetPromise) and is_crowded(draft, row, name):
        raise Violation(
            f"{PROMISE_WAITERS_MAX} invocations wait for promise {name!r} of"
            f" {row.target.service}/{row.target.key} [HF2025]",
            code=429,
        )
    draft.append(row, command)
    result: Void | Outcome | None
    match command:
        case GetPromise(completion_id=completion_id):
            sink = Sink(row.id, completion_id, kind, row.created_at_ms)
            result = await_promise(draft, row, name, sink)
        case PeekPromise():
            result = peek_promise(draft, row, name)
        case CompletePromise():
            result = complete_promise(draft, row, name, command.result)
    if result is not None:
        deliver(draft, row, Completion(kind, command.completion_id, result, draft.at_ms))


def _on_sleep(draft: Draft, row: InvocationRow, command: Sleep) -> None:
    draft.append(row, command)
    if command.wake_up_at_ms <= draft.at_ms:
        kind = completion_kind(command)
        deliver(draft, row, Completion(kind, command.completion_id, Void(), draft.at_ms))
    else:
        put_timer(draft, row, command.wake_up_at_ms, slot_of_completion(command.completion_id))


def _on_call(
    draft: Draft, row: InvocationRow, command: Call | OneWayCall, *, is_key_told: bool
) -> None:
    handler = _callee(draft, command, is_key_told=is_key_told)
    if command.object_key is None and handler.service_kind is not ServiceKind.SERVICE:
        command = replace(command, object_key="")
    target = Target(command.service, command.handler, command.object_key)
    manifest = handler.manifest
    if command.idempotency_key is not None and manifest.kind is HandlerKind.WORKFLOW:
        raise Violation(
            f"{target} runs once per key, so it takes no idempotency key [HF2024]", code=400
        )
    problem = None if command.retry is None else command.retry.problem()
    if problem is not None:
        raise Violation(
            f"the retry policy for {target} is not possible: {problem} [HF2037]", code=400
        )
    derived = derived_id(target, manifest.kind, command.idempotency_key)
    child_id = derived or draft.new_invocation_id(target.service, target.key)
    draft.append(row, command)
    sink = None
    if isinstance(command, Call):
        sink = Sink(row.id, command.completion_id, KIND_CALL, row.created_at_ms)
    notification_id = command.invocation_id_completion_id
    deliver(draft, row, Completion(KIND_CHILD_ID, notification_id, ChildId(child_id), draft.at_ms))
    invoke = Invoke(
        invocation_id=child_id,
        target=target,
        service_kind=handler.service_kind,
        handler_kind=manifest.kind,
        parameter=command.parameter,
        headers=command.headers,
        origin=Origin(OriginKind.SERVICE, row.id, str(row.target)),
        idempotency_key=command.idempotency_key,
        # Where it is executed nobody could refuse it any more.
        execute_at_ms=0 if isinstance(command, Call) else min(command.invoke_at_ms, TIME_MS_MAX),
        retention_ms=manifest.retention_ms(command.idempotency_key),
        sink=sink,
        timeout_ms=manifest.invocation_timeout_ms or 0,
        retry=command.retry,
    )
    draft.send(invoke, child_id)


def _callee(draft: Draft, command: Call | OneWayCall, *, is_key_told: bool) -> HandlerRow:
    service, key = command.service, command.object_key
    handler = draft.handler(service, command.handler)
    if handler is None:
        raise Violation(
            f"no deployment serves {service}/{command.handler}; the call is tried again"
            " until one does [HF2018]",
            code=404,
        )
    is_keyed = handler.service_kind is not ServiceKind.SERVICE
    if is_keyed and not key and is_key_told:
        raise Violation(f"{service} needs a key [HF2019]", code=400)
    if not is_keyed and key is not None:
        raise Violation(f"{service} takes no key, got {key!r} [HF2020]", code=400)
    return handler


def _on_signal(draft: Draft, row: InvocationRow, command: SendSignal | CompleteAwakeable) -> None:
    parent_id = ""
    try:
        if isinstance(command, CompleteAwakeable):
            target_id: str
            target_id, index = parse_awakeable_id(command.awakeable_id)
            signal = Signal(command.result, index)
        else:
            target_id = command.target_invocation_id
            parse_invocation_id(target_id)
            signal = Signal(command.result, command.index, command.signal_name)
            parent_id = row.id if command.is_passed_on else ""
    except IdError as error:
        raise Violation(f"{error} [HF1003]", code=400) from error
    draft.append(row, command)
    draft.send(SignalSent(target_id, signal, parent_id), target_id)


def _on_approval(draft: Draft, row: InvocationRow, command: AskApproval | WithdrawApproval) -> None:
    if isinstance(command, WithdrawApproval):
        draft.append(row, command)
        withdraw_approval(draft, row, command.index)
        return
    if row.open_approval_count >= OPEN_APPROVALS_MAX:
        raise Violation(
            f"{OPEN_APPROVALS_MAX} approvals of this invocation are open [HF1415]", code=429
        )
    size = sum(
        map(len, (command.payload, command.form, command.arguments, command.arguments_schema))
    )
    if size > APPROVAL_BYTES_MAX:
        raise Violation(
            f"approval {command.title!r} has {size} bytes of payload, form and arguments; the"
            f" limit is {APPROVAL_BYTES_MAX} [HF1415]",
            code=413,
        )
    ask_approval(draft, row, command, draft.append(row, command))


def _on_attach(
    draft: Draft, row: InvocationRow, command: AttachInvocation | GetInvocationOutput
) -> None:
    target_id = command.target_invocation_id
    try:
        parse_invocation_id(target_id)
    except IdError as error:
        raise Violation(f"{error} [HF1003]", code=400) from error
    draft.append(row, command)
    sink = Sink(row.id, command.completion_id, completion_kind(command), row.created_at_ms)
    is_waiting = isinstance(command, AttachInvocation)
    draft.send(AttachRequested(target_id, sink, is_waiting), target_id)
