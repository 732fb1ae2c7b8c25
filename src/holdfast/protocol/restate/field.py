"""How the fields of our messages correspond to fields of protobuf messages.

A `Field` copies one attribute in both directions; `layout` says which message has which. Taking is
strict: what must be there and is not raises `Malformed`, because a message that was recorded before
it was understood would fail each time it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from holdfast.domain.identity import idempotent_id, workflow_id
from holdfast.domain.ids import parse_invocation_id, print_invocation_id
from holdfast.domain.message import (
    TIME_MS_MAX,
    AttachInvocation,
    AwaitTree,
    ChildId,
    Combinator,
    Error,
    Failure,
    GetInvocationOutput,
    NamedTarget,
    Result,
    StateKeys,
    Suspension,
    Value,
    Void,
)
from holdfast.domain.target import Target
from holdfast.protocol.restate.schema import WIRE_CLASSES, Wire

RESULTS: Mapping[str, type[Result]] = {
    "void": Void,
    "value": Value,
    "failure": Failure,
    "invocation_id": ChildId,
    "state_keys": StateKeys,
}
"""Kinds of results, by their name in oneofs."""

_RESULT_NAMES = {kind: name for name, kind in RESULTS.items()}


class Malformed(ValueError):
    """A message decodes as protobuf, but is none of the protocol."""


class Field(NamedTuple):
    """Copies attributes of a message to the wire and back."""

    put: Callable[[Wire, Any], None]
    """(protobuf message, our message)"""
    take: Callable[[Wire, dict[str, Any]], None]
    """(protobuf message, arguments of our message)"""


def plain(attribute: str, wire_name: str = "") -> Field:
    """A number, text or bytes, where the default of protobuf is as good as any other value."""
    wire_name = wire_name or attribute

    def put(wire: Wire, message: Any) -> None:
        setattr(wire, wire_name, getattr(message, attribute))

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found[attribute] = getattr(wire, wire_name)

    return Field(put, take)


def optional(attribute: str) -> Field:
    """Like `plain`, but it can be absent: None."""

    def put(wire: Wire, message: Any) -> None:
        value = getattr(message, attribute)
        if value is not None:
            setattr(wire, attribute, value)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found[attribute] = getattr(wire, attribute) if wire.HasField(attribute) else None

    return Field(put, take)


def object_key() -> Field:
    """The key of a target; on the wire, no key and an empty key are the same."""

    def put(wire: Wire, message: Any) -> None:
        wire.object_key = message.object_key or ""

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["object_key"] = wire.object_key or None

    return Field(put, take)


def time(attribute: str) -> Field:
    """Milliseconds since the epoch."""

    def put(wire: Wire, message: Any) -> None:
        setattr(wire, attribute, getattr(message, attribute))

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found[attribute] = min(getattr(wire, attribute), TIME_MS_MAX)

    return Field(put, take)


def delay() -> Field:
    """The wait that a failed attempt asks for."""

    def put(wire: Wire, message: Error) -> None:
        if message.next_retry_delay_ms is not None:
            wire.next_retry_delay_ms = message.next_retry_delay_ms

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if wire.HasField("next_retry_delay_ms"):
            found["next_retry_delay_ms"] = min(wire.next_retry_delay_ms, TIME_MS_MAX)

    return Field(put, take)


def behavior() -> Field:
    """What a failed attempt asks for; numbers that we do not know mean a retry, as 0 does."""

    def put(wire: Wire, message: Error) -> None:
        wire.behavior = message.behavior

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["behavior"] = wire.behavior if wire.behavior in (0, 1, 2) else 0

    return Field(put, take)


def repeated(attribute: str) -> Field:
    """A tuple of numbers or texts."""

    def put(wire: Wire, message: Any) -> None:
        getattr(wire, attribute).extend(getattr(message, attribute))

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found[attribute] = tuple(getattr(wire, attribute))

    return Field(put, take)


def headers() -> Field:
    """Pairs of name and value, in order."""

    def put(wire: Wire, message: Any) -> None:
        for key, value in message.headers:
            wire.headers.add(key=key, value=value)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["headers"] = tuple((pair.key, pair.value) for pair in wire.headers)

    return Field(put, take)


def state_key() -> Field:
    """Bytes on the wire, which must be UTF-8."""

    def put(wire: Wire, message: Any) -> None:
        wire.state_key = message.state_key.encode()

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["state_key"] = state_name(wire.state_key)

    return Field(put, take)


def state_name(key: bytes) -> str:
    """Decode the name of a state entry.

    Raises:
        Malformed: It is not UTF-8.
    """
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise Malformed(f"the state key {key[:40]!r} is not UTF-8") from None


def value() -> Field:
    """A value, which must be there also when it is empty."""

    def put(wire: Wire, message: Any) -> None:
        put_result(wire, message.value)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if not wire.HasField("value"):
            raise Malformed("it has no value")
        found["value"] = Value(wire.value.content)

    return Field(put, take)


def result() -> Field:
    """One of the results that the message can carry; it must have one."""

    def put(wire: Wire, message: Any) -> None:
        put_result(wire, message.result)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["result"] = take_result(wire)

    return Field(put, take)


def raw_result() -> Field:
    """Like `result`, where the bytes of a value are not wrapped."""

    def put(wire: Wire, message: Any) -> None:
        if isinstance(message.result, Value):
            wire.value = message.result.content
        else:
            put_result(wire, message.result)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        is_value = wire.WhichOneof("result") == "value"
        found["result"] = Value(wire.value) if is_value else take_result(wire)

    return Field(put, take)


def put_result(wire: Wire, result: Result) -> None:
    """Set the member of the oneof `result`, or the field `value`."""
    name = _RESULT_NAMES[type(result)]
    if isinstance(result, ChildId):
        wire.invocation_id = result.invocation_id
        return
    member = getattr(wire, name)
    # A message that is empty and was not touched is absent, and the peer would miss it.
    member.SetInParent()
    match result:
        case Value():
            member.content = result.content
        case Failure():
            member.code = result.code
            member.message = result.message
            for key, text in (result.metadata or {}).items():
                member.metadata.add(key=key, value=text)
        case StateKeys():
            member.keys.extend(key.encode() for key in result.keys)
        case Void():
            pass


def take_result(wire: Wire) -> Result:
    """Return the member of the oneof `result`.

    Raises:
        Malformed: There is none.
    """
    name = wire.WhichOneof("result")
    match name:
        case "void":
            return Void()
        case "value":
            return Value(wire.value.content)
        case "failure":
            metadata = {pair.key: pair.value for pair in wire.failure.metadata}
            return Failure(wire.failure.code, wire.failure.message, metadata or None)
        case "invocation_id":
            return ChildId(wire.invocation_id)
        case "state_keys":
            return StateKeys(tuple(state_name(key) for key in wire.state_keys.keys))
        case _:
            raise Malformed("it has no result")


def state_keys() -> Field:
    """The names of a listing; it must be there also when it is empty."""

    def put(wire: Wire, message: Any) -> None:
        wire.value.SetInParent()
        wire.value.keys.extend(key.encode() for key in message.keys)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if not wire.HasField("value"):
            raise Malformed("it has no value")
        found["keys"] = tuple(state_name(key) for key in wire.value.keys)

    return Field(put, take)


def signal_id() -> Field:
    """Index or name of a signal to send; it must have one."""

    def put(wire: Wire, message: Any) -> None:
        if message.index is not None:
            wire.index = message.index
        else:
            wire.signal_name = message.signal_name

    def take(wire: Wire, found: dict[str, Any]) -> None:
        name = wire.WhichOneof("signal")
        if name is None:
            raise Malformed("it has neither the index nor the name of a signal")
        found[name] = getattr(wire, name)

    return Field(put, take)


def no_scope() -> Field:
    """Scopes and limit keys of version 7, which we do not have: nothing is sent, none is taken."""

    def put(wire: Wire, message: Any) -> None:
        pass

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if wire.scope or wire.limit_key:
            raise Malformed("scopes and limit keys are not supported")

    return Field(put, take)


# -- invocations named by what they are ------------------------------------------------------------


def invocation() -> Field:
    """An invocation, by its id or by that from which the id follows."""

    def put(wire: Wire, message: AttachInvocation | GetInvocationOutput) -> None:
        named = message.named
        if named is None:
            wire.invocation_id = message.target_invocation_id
        elif named.idempotency_key is None:
            wire.workflow.SetInParent()
            wire.workflow.workflow_name = named.service
            wire.workflow.workflow_key = named.object_key or ""
        else:
            target = wire.idempotent_request
            target.SetInParent()
            target.service_name = named.service
            if named.object_key is not None:
                target.service_key = named.object_key
            target.handler_name = named.handler or ""
            target.idempotency_key = named.idempotency_key

    def take(wire: Wire, found: dict[str, Any]) -> None:
        kind = wire.WhichOneof("target")
        if kind is None:
            raise Malformed("it does not say which invocation it means")
        if kind == "invocation_id":
            found["target_invocation_id"] = wire.invocation_id
            return
        there = getattr(wire, kind)
        if there.scope:
            raise Malformed("scopes are not supported")
        if kind == "workflow":
            name, key = there.workflow_name, there.workflow_key
            found["target_invocation_id"] = workflow_id(name, key)
            found["named"] = NamedTarget(name, key)
            return
        key = there.service_key if there.HasField("service_key") else None
        target = Target(there.service_name, there.handler_name, key)
        found["target_invocation_id"] = idempotent_id(target, there.idempotency_key)
        found["named"] = NamedTarget(target.service, key, target.handler, there.idempotency_key)

    return Field(put, take)


def binary_id() -> Field:
    """The id of the attempt's invocation: 24 bytes, and printed for people."""

    def put(wire: Wire, message: Any) -> None:
        wire.id = parse_invocation_id(message.invocation_id)
        wire.debug_id = message.invocation_id

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if len(wire.id) != 24:
            raise Malformed(f"the invocation id has {len(wire.id)} bytes, expected 24")
        found["invocation_id"] = print_invocation_id(wire.id)

    return Field(put, take)


def eager_state() -> Field:
    """State that is sent along."""

    def put(wire: Wire, message: Any) -> None:
        wire.partial_state = message.is_state_partial
        for name in sorted(message.state, key=str.encode):
            wire.state_map.add(key=name.encode(), value=message.state[name])

    def take(wire: Wire, found: dict[str, Any]) -> None:
        found["is_state_partial"] = wire.partial_state
        found["state"] = {state_name(entry.key): entry.value for entry in wire.state_map}

    return Field(put, take)


# -- what an attempt waits for ---------------------------------------------------------------------


def awaited_lists() -> Field:
    """Any one of three lists: versions 5 and 6."""
    fields = [repeated("completions"), repeated("signals"), repeated("named_signals")]

    def put(wire: Wire, message: Suspension) -> None:
        for field in fields:
            field.put(wire, message)

    def take(wire: Wire, found: dict[str, Any]) -> None:
        for field in fields:
            field.take(wire, found)

    return Field(put, take)


def awaited_tree() -> Field:
    """A tree: version 7. One that means *any one* becomes plain lists."""

    def put(wire: Wire, message: Suspension) -> None:
        tree = message.tree or AwaitTree(
            Combinator.FIRST_COMPLETED,
            message.completions,
            message.signals,
            message.named_signals,
        )
        wire.awaiting_on.CopyFrom(_wire_tree(tree))

    def take(wire: Wire, found: dict[str, Any]) -> None:
        if not wire.HasField("awaiting_on"):
            raise Malformed("it does not say what it waits for")
        tree = _tree(wire.awaiting_on)
        leaves: tuple[dict[int, None], dict[int, None], dict[str, None]] = ({}, {}, {})
        is_any_one = _collect(tree, leaves)
        found["completions"] = tuple(leaves[0])
        found["signals"] = tuple(leaves[1])
        found["named_signals"] = tuple(leaves[2])
        found["tree"] = None if is_any_one else tree

    return Field(put, take)


def _wire_tree(tree: AwaitTree) -> Wire:
    wire = WIRE_CLASSES["Future"]()
    wire.completions.extend(tree.completions)
    wire.signals.extend(tree.signals)
    wire.named_signals.extend(tree.named_signals)
    wire.children.extend(_wire_tree(child) for child in tree.children)
    wire.combinator = tree.combinator
    return wire


def _tree(wire: Wire) -> AwaitTree:
    # The depth is bounded: protobuf refuses messages that are nested more than 100 times.
    known = wire.combinator in Combinator.__members__.values()
    return AwaitTree(
        Combinator(wire.combinator) if known else Combinator.UNKNOWN,
        tuple(wire.completions),
        tuple(wire.signals),
        tuple(wire.named_signals),
        tuple(_tree(child) for child in wire.children),
    )


def _collect(
    tree: AwaitTree, leaves: tuple[dict[int, None], dict[int, None], dict[str, None]]
) -> bool:
    """Add the leaves of a tree, in order; return whether any one of them is enough."""
    completions, signals, named_signals = leaves
    completions.update(dict.fromkeys(tree.completions))
    signals.update(dict.fromkeys(tree.signals))
    named_signals.update(dict.fromkeys(tree.named_signals))
    are_any_one = [_collect(child, leaves) for child in tree.children]
    count = len(tree.completions) + len(tree.signals) + len(tree.named_signals)
    is_any_one = (
        tree.combinator in (Combinator.UNKNOWN, Combinator.FIRST_COMPLETED)
        # Whatever the combinator, of one it is that one.
        or count + len(tree.children) == 1
    )
    return is_any_one and all(are_any_one)
