"""Which message has which type number, protobuf message and fields.

One table for both directions, so that what is encoded is what is decoded. Completions and signals
have one layout for all their types, and are not in it: see `codec`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from holdfast.domain.message import (
    AttachInvocation,
    Call,
    ClearAllState,
    ClearState,
    CompleteAwakeable,
    CompletePromise,
    End,
    Error,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Start,
    Suspension,
)
from holdfast.protocol.restate import field
from holdfast.protocol.restate.field import Field
from holdfast.protocol.restate.schema import WIRE_CLASSES, WireClass


class Layout(NamedTuple):
    """How one message is encoded."""

    message_class: type[Any]
    wire_class: WireClass
    fields: tuple[Field, ...]
    is_command: bool


_completion_id = field.plain("completion_id")
_promise_name = field.plain("promise_name")
_child_completion_id = field.plain("invocation_id_completion_id")
_target = (
    field.plain("service"),
    field.plain("handler"),
    field.plain("parameter"),
    field.object_key(),
    field.headers(),
    field.optional("idempotency_key"),
    field.no_scope(),
)

_COMMANDS: dict[type[Any], tuple[Field, ...]] = {
    Input: (field.value(), field.headers()),
    Output: (field.result(),),
    GetLazyState: (field.state_key(), _completion_id),
    SetState: (field.state_key(), field.value()),
    ClearState: (field.state_key(),),
    ClearAllState: (),
    GetLazyStateKeys: (_completion_id,),
    GetEagerState: (field.state_key(), field.result()),
    GetEagerStateKeys: (field.state_keys(),),
    GetPromise: (_promise_name, _completion_id),
    PeekPromise: (_promise_name, _completion_id),
    CompletePromise: (_promise_name, field.result(), _completion_id),
    Sleep: (field.time("wake_up_at_ms"), _completion_id),
    Call: (*_target, _child_completion_id, _completion_id),
    OneWayCall: (*_target, field.time("invoke_at_ms"), _child_completion_id),
    SendSignal: (field.plain("target_invocation_id"), field.signal_id(), field.result()),
    Run: (_completion_id,),
    AttachInvocation: (field.invocation(), _completion_id),
    GetInvocationOutput: (field.invocation(), _completion_id),
    CompleteAwakeable: (field.plain("awakeable_id"), field.result()),
}

_CONTROL: dict[type[Any], tuple[Field, ...]] = {
    Start: (
        field.binary_id(),
        field.plain("key"),
        field.plain("known_entries"),
        field.eager_state(),
        field.plain("retry_count"),
        field.plain("duration_ms"),
        field.plain("random_seed"),
    ),
    Error: (
        field.plain("code"),
        field.plain("message"),
        field.plain("stacktrace"),
        field.optional("related_command_index"),
        field.optional("related_command_name"),
        field.optional("related_command_type"),
        field.delay(),
        field.behavior(),
    ),
    End: (),
    ProposeRunCompletion: (_completion_id, field.raw_result()),
}

_SUSPENSIONS = {True: (field.awaited_tree(),), False: (field.awaited_lists(),)}

COMPLETION_RESULTS: dict[int, tuple[str, ...]] = {
    0x8002: ("void", "value"),
    0x8006: ("state_keys",),
    0x8009: ("value", "failure"),
    0x800A: ("void", "value", "failure"),
    0x800B: ("void", "failure"),
    0x800C: ("void",),
    0x800D: ("value", "failure"),
    0x800E: ("invocation_id",),
    0x8011: ("value", "failure"),
    0x8012: ("value", "failure"),
    0x8013: ("void", "value", "failure"),
}
"""Types of completions, and the results that each can carry."""

SIGNAL_RESULTS = ("void", "value", "failure")


def _layout(message_class: type[Any], fields: tuple[Field, ...], is_command: bool) -> Layout:
    return Layout(message_class, WIRE_CLASSES[message_class.__name__], fields, is_command)


def layouts(version: int) -> dict[int, Layout]:
    """Return the layouts of a version of the protocol, by type number."""
    all_layouts = [
        *(_layout(kind, fields, True) for kind, fields in _COMMANDS.items()),
        *(_layout(kind, fields, False) for kind, fields in _CONTROL.items()),
        _layout(Suspension, _SUSPENSIONS[version >= 7], False),
    ]
    return {layout.message_class.__struct_config__.tag: layout for layout in all_layouts}
