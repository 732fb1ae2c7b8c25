"""Random messages that the wire can carry as they are."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.ids import print_invocation_id
from holdfast.domain.message import (
    TIME_MS_MAX,
    AttachInvocation,
    AwaitTree,
    Call,
    ChildId,
    ClearAllState,
    ClearState,
    Combinator,
    CompleteAwakeable,
    CompletePromise,
    Completion,
    End,
    Error,
    Failure,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    NamedTarget,
    OneWayCall,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Signal,
    Sleep,
    Start,
    StateKeys,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import Target
from holdfast.protocol.restate.journal_key import is_journal_key
from holdfast.protocol.restate.layout import COMPLETION_RESULTS

text = st.text(max_size=12)
names = text.filter(lambda name: not is_journal_key(name))
u32 = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))
times = st.integers(0, TIME_MS_MAX)
content = st.binary(max_size=20)
ids = st.binary(min_size=24, max_size=24).map(print_invocation_id)
pairs = st.lists(st.tuples(text, text), max_size=3).map(tuple)
keys = st.lists(text, max_size=4).map(tuple)
voids = st.just(Void())
values = st.builds(Value, content)
failures = st.builds(
    Failure,
    u32,
    text,
    st.none() | st.dictionaries(text, text, min_size=1, max_size=3),
)
outcomes = values | failures
results: dict[str, Any] = {
    "void": voids,
    "value": values,
    "failure": failures,
    "invocation_id": st.builds(ChildId, text),
    "state_keys": st.builds(StateKeys, keys),
}


def named_target(target: NamedTarget) -> tuple[str, NamedTarget]:
    if target.idempotency_key is None:
        return workflow_id(target.service, target.object_key or ""), target
    named = Target(target.service, target.handler or "", target.object_key)
    return idempotent_id(named, target.idempotency_key), target


targets = st.one_of(
    st.tuples(ids, st.none()),
    st.builds(NamedTarget, text, text).map(named_target),
    st.builds(NamedTarget, text, st.none() | text, text, text).map(named_target),
)


def _attaching(kind: Any) -> Any:
    return st.builds(
        lambda target, number, name: kind(target[0], number, name, named=target[1]),
        targets,
        u32,
        names,
    )


def _command(kind: Any, **fields: Any) -> Any:
    return st.builds(kind, name=names, **fields)


_call = {
    "service": text,
    "handler": text,
    "parameter": content,
    "object_key": st.none() | text.filter(bool),
    "headers": pairs,
    "idempotency_key": st.none() | text,
    "invocation_id_completion_id": u32,
}

commands: dict[type, Any] = {
    Input: _command(Input, value=values, headers=pairs),
    Output: _command(Output, result=outcomes),
    GetLazyState: _command(GetLazyState, state_key=text, completion_id=u32),
    SetState: _command(SetState, state_key=text, value=values),
    ClearState: _command(ClearState, state_key=text),
    ClearAllState: _command(ClearAllState),
    GetLazyStateKeys: _command(GetLazyStateKeys, completion_id=u32),
    GetEagerState: _command(GetEagerState, state_key=text, result=voids | values),
    GetEagerStateKeys: _command(GetEagerStateKeys, keys=keys),
    GetPromise: _command(GetPromise, promise_name=text, completion_id=u32),
    PeekPromise: _command(PeekPromise, promise_name=text, completion_id=u32),
    CompletePromise: _command(
        CompletePromise, promise_name=text, result=outcomes, completion_id=u32
    ),
    Sleep: _command(Sleep, wake_up_at_ms=times, completion_id=u32),
    Call: _command(Call, **_call, completion_id=u32),
    OneWayCall: _command(OneWayCall, **_call, invoke_at_ms=times),
    SendSignal: st.one_of(
        _command(
            SendSignal, target_invocation_id=text, result=voids | values | failures, index=u32
        ),
        _command(
            SendSignal,
            target_invocation_id=text,
            result=voids | values | failures,
            signal_name=text,
        ),
    ),
    Run: _command(Run, completion_id=u32),
    AttachInvocation: _attaching(AttachInvocation),
    GetInvocationOutput: _attaching(GetInvocationOutput),
    CompleteAwakeable: _command(CompleteAwakeable, awakeable_id=text, result=outcomes),
}

_numbers = st.lists(u32, max_size=3, unique=True).map(tuple)
_names = st.lists(text, max_size=3, unique=True).map(tuple)
suspensions = st.builds(Suspension, _numbers, _numbers, _names)
errors = st.builds(
    Error,
    code=u32,
    message=text,
    stacktrace=text,
    related_command_index=st.none() | u32,
    related_command_name=st.none() | text,
    related_command_type=st.none() | u32,
    next_retry_delay_ms=st.none() | times,
    behavior=st.integers(0, 2),
)
endings = st.one_of(suspensions, errors, st.just(End()))
proposals = st.builds(ProposeRunCompletion, u32, outcomes)

completions = st.sampled_from(sorted(COMPLETION_RESULTS)).flatmap(
    lambda kind: st.builds(
        Completion,
        st.just(kind),
        u32,
        st.one_of([results[name] for name in COMPLETION_RESULTS[kind]]),
    )
)
signals = st.one_of(
    st.builds(Signal, voids | values | failures, index=u32),
    st.builds(Signal, voids | values | failures, name=text),
)

entries = st.one_of([*commands.values(), completions, signals])
from_handler = st.one_of([*commands.values(), proposals, endings])

starts = st.builds(
    lambda retry_count, **fields: Start(retry_count=retry_count, attempt=retry_count + 1, **fields),
    invocation_id=ids,
    service=text,
    handler=text,
    key=text,
    known_entries=u32,
    state=st.dictionaries(text, content, max_size=3),
    is_state_partial=st.booleans(),
    retry_count=u32,
    duration_ms=times,
    random_seed=st.integers(0, 2**64 - 1),
)


def _branches(children: Any) -> Any:
    return st.builds(
        AwaitTree,
        st.sampled_from(Combinator),
        _numbers,
        _numbers,
        _names,
        children,
    )


trees = st.recursive(
    _branches(st.just(())),
    lambda nodes: _branches(st.lists(nodes, max_size=3).map(tuple)),
    max_leaves=8,
)
