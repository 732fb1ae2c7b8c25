"""The protobuf messages of Restate's service protocol, versions 5 to 7.

`_SCHEMA` is all there is: the descriptors are made from it at import, so there is no generated code
and no compiler (ADR 0015). One block per message; a line is `number name type`, and behind the
type:

    *        repeated
    ?        optional, with presence
    |group   member of the oneof `group`

Enums are declared as int32, which is the same on the wire and keeps numbers that we do not know.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Wire: TypeAlias = Any
"""A protobuf message. Its fields are known at run time only; tests cover each of them."""


class WireClass(Protocol):
    """The class of a protobuf message."""

    def __call__(self) -> Wire:
        """Make an empty message."""
        ...

    def FromString(self, s: bytes) -> Wire:
        """Decode a message; raises `google.protobuf.message.DecodeError`."""
        ...


_SCHEMA = """
Value
  1 content bytes
Failure
  1 code uint32
  2 message string
  3 metadata Pair*
Pair
  1 key string
  2 value string
StateKeys
  1 keys bytes*
StateEntry
  1 key bytes
  2 value bytes
Void
WorkflowTarget
  1 workflow_name string
  2 workflow_key string
  3 scope string?
IdempotentRequestTarget
  1 service_name string
  2 service_key string?
  3 handler_name string
  4 idempotency_key string
  5 scope string?
Future
  1 completions uint32*
  2 signals uint32*
  3 named_signals string*
  4 children Future*
  5 combinator int32

Start
  1 id bytes
  2 debug_id string
  3 known_entries uint32
  4 state_map StateEntry*
  5 partial_state bool
  6 key string
  7 retry_count uint32
  8 duration_ms uint64
  9 random_seed uint64
Suspension
  1 completions uint32*
  2 signals uint32*
  3 named_signals string*
  4 awaiting_on Future
Error
  1 code uint32
  2 message string
  3 stacktrace string
  4 related_command_index uint32?
  5 related_command_name string?
  6 related_command_type uint32?
  8 next_retry_delay_ms uint64?
  9 behavior int32
End
CommandAck
  1 command_index uint32
ProposeRunCompletion
  1 completion_id uint32
  14 value bytes|result
  15 failure Failure|result
AwaitingOn
  1 awaiting_on Future
  2 executing_side_effects bool
ProposeRunCompletionAck
  1 completion_id uint32

Input
  1 headers Pair*
  12 name string
  14 value Value
Output
  12 name string
  14 value Value|result
  15 failure Failure|result
GetLazyState
  1 state_key bytes
  11 completion_id uint32
  12 name string
SetState
  1 state_key bytes
  3 value Value
  12 name string
ClearState
  1 state_key bytes
  12 name string
ClearAllState
  12 name string
GetLazyStateKeys
  11 completion_id uint32
  12 name string
GetEagerState
  1 state_key bytes
  12 name string
  13 void Void|result
  14 value Value|result
GetEagerStateKeys
  12 name string
  14 value StateKeys
GetPromise
  1 promise_name string
  11 completion_id uint32
  12 name string
PeekPromise
  1 promise_name string
  11 completion_id uint32
  12 name string
CompletePromise
  1 promise_name string
  2 value Value|result
  3 failure Failure|result
  11 completion_id uint32
  12 name string
Sleep
  1 wake_up_at_ms uint64
  11 completion_id uint32
  12 name string
Call
  1 service string
  2 handler string
  3 parameter bytes
  4 headers Pair*
  5 object_key string
  6 idempotency_key string?
  7 scope string?
  8 limit_key string?
  10 invocation_id_completion_id uint32
  11 completion_id uint32
  12 name string
OneWayCall
  1 service string
  2 handler string
  3 parameter bytes
  4 invoke_at_ms uint64
  5 headers Pair*
  6 object_key string
  7 idempotency_key string?
  8 scope string?
  9 limit_key string?
  10 invocation_id_completion_id uint32
  12 name string
SendSignal
  1 target_invocation_id string
  2 index uint32|signal
  3 signal_name string|signal
  4 void Void|result
  5 value Value|result
  6 failure Failure|result
  12 name string
Run
  11 completion_id uint32
  12 name string
AttachInvocation
  1 invocation_id string|target
  3 idempotent_request IdempotentRequestTarget|target
  4 workflow WorkflowTarget|target
  11 completion_id uint32
  12 name string
GetInvocationOutput
  1 invocation_id string|target
  3 idempotent_request IdempotentRequestTarget|target
  4 workflow WorkflowTarget|target
  11 completion_id uint32
  12 name string
CompleteAwakeable
  1 awakeable_id string
  2 value Value|result
  3 failure Failure|result
  12 name string

Notification
  1 completion_id uint32|id
  2 index uint32|id
  3 name string|id
  4 void Void|result
  5 value Value|result
  6 failure Failure|result
  16 invocation_id string|result
  17 state_keys StateKeys|result
"""

_PACKAGE = "holdfast.restate"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "int32": _Field.TYPE_INT32,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def _describe(block: list[str]) -> descriptor_pb2.DescriptorProto:
    described = descriptor_pb2.DescriptorProto(name=block[0])
    groups: list[str] = []
    optional: list[descriptor_pb2.FieldDescriptorProto] = []
    for line in block[1:]:
        number, name, shape = line.split()
        shape, _, group = shape.partition("|")
        kind = shape.rstrip("*?")
        field = described.field.add(
            name=name,
            number=int(number),
            label=_Field.LABEL_REPEATED if shape.endswith("*") else _Field.LABEL_OPTIONAL,
            type=_SCALARS.get(kind, _Field.TYPE_MESSAGE),
        )
        if kind not in _SCALARS:
            field.type_name = f".{_PACKAGE}.{kind}"
        if group:
            if group not in groups:
                groups.append(group)
                described.oneof_decl.add(name=group)
            field.oneof_index = groups.index(group)
        elif shape.endswith("?"):
            optional.append(field)
    # protobuf wants the oneofs that stand for optional fields behind all others.
    for field in optional:
        field.proto3_optional = True
        field.oneof_index = len(described.oneof_decl)
        described.oneof_decl.add(name=f"_{field.name}")
    return described


def _load() -> dict[str, WireClass]:
    file = descriptor_pb2.FileDescriptorProto(
        name="holdfast/restate.proto", package=_PACKAGE, syntax="proto3"
    )
    blocks: list[list[str]] = []
    for line in _SCHEMA.splitlines():
        if line.startswith(" "):
            blocks[-1].append(line)
        elif line:
            blocks.append([line])
    file.message_type.extend(_describe(block) for block in blocks)
    # A pool of our own: other packages of the process cannot collide with it.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    classes: dict[str, WireClass] = {}
    for message in file.message_type:
        descriptor = pool.FindMessageTypeByName(f"{_PACKAGE}.{message.name}")
        classes[message.name] = message_factory.GetMessageClass(descriptor)
    return classes


WIRE_CLASSES = _load()
"""By name."""
