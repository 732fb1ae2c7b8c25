"""Messages of an invocation stream: our values to bytes and back.

    server → handler   `encode_start`, `encode`, `encode_command_ack`, `encode_run_ack`
                       `decode_start`, `decode_from_server`
    handler → server   `encode`, `encode_awaiting_on`
                       `decode_from_handler`

What is ours alone is never sent: `site`, `at_ms`, the step failures and times of `Start`, the rule
of a delay, the policy of a call. `key` travels as the entry's name, if the handler is one of our
SDK (`journal_key`, ADR 0016).

Decoding raises `RemoteProtocolError` and nothing else, whatever the bytes are. It checks each
message by itself; what fits into the journal is for the engine to say.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, EncodeError

from holdfast.domain.errors import LocalProtocolError, RemoteProtocolError
from holdfast.domain.ids import random_seed
from holdfast.domain.message import (
    Completion,
    Entry,
    FromHandler,
    Notification,
    Signal,
    Start,
    Suspension,
    message_type,
)
from holdfast.protocol.restate.field import (
    RESULTS,
    Malformed,
    awaited_tree,
    put_result,
    take_result,
)
from holdfast.protocol.restate.frame import Frame, encode_frame
from holdfast.protocol.restate.journal_key import is_journal_key, name_in_key
from holdfast.protocol.restate.layout import (
    COMPLETION_RESULTS,
    SIGNAL_RESULTS,
    Layout,
    layouts,
)
from holdfast.protocol.restate.schema import WIRE_CLASSES, Wire, WireClass

_START = 0x0000
_COMMAND_ACK = 0x0004
_AWAITING_ON = 0x0006
_RUN_ACK = 0x0007
_SIGNAL = 0xFBFF

_Notification = WIRE_CLASSES["Notification"]
_tree_field = awaited_tree()


class CommandAck(NamedTuple):
    """The server has recorded a command whose frame asked for this."""

    command_index: int
    """Counts commands only; Input is 0."""


class RunAck(NamedTuple):
    """The server has recorded a step's result whose frame asked for this. Version 7."""

    completion_id: int


class AwaitingOn(NamedTuple):
    """What the running handler waits for, for people to see. Needs no answer. Version 7."""

    awaited: Suspension
    is_executing: bool
    """Whether steps run meanwhile."""


FromServer = Entry | CommandAck | RunAck
"""What follows Start."""


class Codec:
    """Encodes and decodes the messages of streams.

    Args:
        version: Of the service protocol, 5 to 7.
        is_keyed: Whether the handler's SDK is ours: then names of commands carry journal keys.
    """

    def __init__(self, version: int, *, is_keyed: bool) -> None:
        assert 5 <= version <= 7, version
        self.version = version
        self._is_keyed = is_keyed
        self._layouts = layouts(version)

    # -- encode -----------------------------------------------------------------------------------

    def encode(self, message: Entry | FromHandler, *, is_ack_requested: bool = False) -> bytes:
        """Encode a journal entry for a handler, or what a handler sends.

        Raises:
            LocalProtocolError: HF2001, a value does not fit into its field; HF1321, too large.
        """
        number = message_type(message)
        try:
            if isinstance(message, Completion | Signal):
                wire = _wire_notification(message)
            else:
                layout = self._layouts.get(number)
                if layout is None:
                    raise _ours_alone(message)
                wire = self._wire(layout, message)
            payload: bytes = wire.SerializeToString()
        except (ValueError, TypeError, EncodeError) as error:
            raise _unsendable(message, error) from error
        return encode_frame(Frame(number, payload, is_ack_requested))

    def encode_start(self, start: Start) -> bytes:
        """Encode the message that opens an attempt.

        Raises:
            LocalProtocolError: HF2001, a value does not fit into its field; HF1321, too large.
        """
        try:
            payload: bytes = self._wire(self._layouts[_START], start).SerializeToString()
        except (ValueError, TypeError, EncodeError) as error:
            raise _unsendable(start, error) from error
        return encode_frame(Frame(_START, payload))

    def encode_command_ack(self, ack: CommandAck) -> bytes:
        """Encode the answer to a command whose frame asked for one."""
        wire = WIRE_CLASSES["CommandAck"]()
        wire.command_index = ack.command_index
        return encode_frame(Frame(_COMMAND_ACK, wire.SerializeToString()))

    def encode_run_ack(self, ack: RunAck) -> bytes:
        """Encode the answer to a step's result whose frame asked for one. Version 7."""
        assert self.version >= 7, "versions 5 and 6 send the completion instead"
        wire = WIRE_CLASSES["ProposeRunCompletionAck"]()
        wire.completion_id = ack.completion_id
        return encode_frame(Frame(_RUN_ACK, wire.SerializeToString()))

    def encode_awaiting_on(self, message: AwaitingOn) -> bytes:
        """Encode what a handler waits for while its attempt goes on. Version 7."""
        assert self.version >= 7, "older versions do not have this message"
        wire = WIRE_CLASSES["AwaitingOn"]()
        _tree_field.put(wire, message.awaited)
        wire.executing_side_effects = message.is_executing
        return encode_frame(Frame(_AWAITING_ON, wire.SerializeToString()))

    def _wire(self, layout: Layout, message: Any) -> Wire:
        wire = layout.wire_class()
        for field in layout.fields:
            field.put(wire, message)
        if layout.is_command:
            wire.name = message.key if message.key and self._is_keyed else message.name
        return wire

    # -- decode -----------------------------------------------------------------------------------

    def decode_start(self, frame: Frame, service: str, handler: str) -> Start:
        """Decode the message that opens an attempt.

        A peer tells nothing about the invocation's age and number of attempts; `attempt` is what
        its retry count allows to say.

        Args:
            frame: The first of the stream.
            service: As in the path of the request, which alone names the target.
            handler: The same.

        Raises:
            RemoteProtocolError: HF1320 malformed, HF1322 another message.
        """
        if frame.type != _START:
            raise _unexpected(frame, "Start")
        found = self._take(self._layouts[_START], frame)
        if self.version < 6:
            # Servers of version 5 need not send a seed, and it must not depend on them.
            found["random_seed"] = random_seed(found["invocation_id"])
        return Start(service=service, handler=handler, attempt=found["retry_count"] + 1, **found)

    def decode_from_server(self, frame: Frame) -> FromServer:
        """Decode what a server sends after Start.

        Raises:
            RemoteProtocolError: HF1320 malformed, HF1322 not a message that servers send.
        """
        if frame.type in COMPLETION_RESULTS or frame.type == _SIGNAL:
            return _decode_notification(frame)
        if frame.type == _COMMAND_ACK:
            return CommandAck(_parse(WIRE_CLASSES["CommandAck"], frame).command_index)
        if frame.type == _RUN_ACK and self.version >= 7:
            return RunAck(_parse(WIRE_CLASSES["ProposeRunCompletionAck"], frame).completion_id)
        layout = self._layouts.get(frame.type)
        if layout is None or not layout.is_command:
            raise _unexpected(frame, "a journal entry")
        entry: Entry = layout.message_class(**self._take(layout, frame))
        return entry

    def decode_from_handler(self, frame: Frame) -> FromHandler | AwaitingOn:
        """Decode what a handler sends.

        Raises:
            RemoteProtocolError: HF1320 malformed, HF1322 not a message that handlers send.
        """
        if frame.type == _AWAITING_ON and self.version >= 7:
            return _decode_awaiting_on(frame)
        layout = self._layouts.get(frame.type)
        if layout is None or frame.type == _START:
            raise _unexpected(frame, "a command, a proposal or an ending")
        message: FromHandler = layout.message_class(**self._take(layout, frame))
        return message

    def _take(self, layout: Layout, frame: Frame) -> dict[str, Any]:
        wire = _parse(layout.wire_class, frame)
        found: dict[str, Any] = {}
        try:
            for field in layout.fields:
                field.take(wire, found)
        except Malformed as error:
            raise _malformed(frame, layout.message_class.__name__, error) from error
        if layout.is_command:
            name: str = wire.name
            if self._is_keyed and is_journal_key(name):
                found["key"] = name
                name = name_in_key(name)
            found["name"] = name
        return found


# -- notifications --------------------------------------------------------------------------------


def _wire_notification(notification: Notification) -> Wire:
    wire = _Notification()
    if isinstance(notification, Completion):
        wire.completion_id = notification.completion_id
    elif notification.index is not None:
        wire.index = notification.index
    else:
        wire.name = notification.name
    put_result(wire, notification.result)
    return wire


def _decode_notification(frame: Frame) -> Notification:
    wire = _parse(_Notification, frame)
    is_signal = frame.type == _SIGNAL
    id_name = wire.WhichOneof("id")
    result_name = wire.WhichOneof("result")
    allowed = SIGNAL_RESULTS if is_signal else COMPLETION_RESULTS[frame.type]
    try:
        if id_name not in (("index", "name") if is_signal else ("completion_id",)):
            raise Malformed(f"it is for {id_name or 'nothing'}")
        if result_name is not None and result_name not in allowed:
            expected = " or ".join(RESULTS[name].__name__ for name in allowed)
            raise Malformed(f"it carries {RESULTS[result_name].__name__}, expected {expected}")
        result: Any = take_result(wire)
    except Malformed as error:
        raise _malformed(frame, "Signal" if is_signal else "Completion", error) from error
    match id_name:
        case "index":
            return Signal(result, index=wire.index)
        case "name":
            return Signal(result, name=wire.name)
        case _:
            return Completion(frame.type, wire.completion_id, result)


def _decode_awaiting_on(frame: Frame) -> AwaitingOn:
    wire = _parse(WIRE_CLASSES["AwaitingOn"], frame)
    found: dict[str, Any] = {}
    try:
        _tree_field.take(wire, found)
    except Malformed as error:
        raise _malformed(frame, "AwaitingOn", error) from error
    return AwaitingOn(Suspension(**found), wire.executing_side_effects)


# -- errors ---------------------------------------------------------------------------------------


def _parse(wire_class: WireClass, frame: Frame) -> Wire:
    try:
        return wire_class.FromString(frame.payload)
    except DecodeError as error:
        raise _malformed(frame, "protobuf", error) from error


def _malformed(frame: Frame, what: str, error: Exception) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"A message of type 0x{frame.type:04X} and {len(frame.payload)} bytes is not a valid "
        f"{what}: {error}",
        code="HF1320",
        hint="Does the SDK speak the version of the protocol that was agreed on?",
    )


def _unexpected(frame: Frame, expected: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"The peer sent a message of type 0x{frame.type:04X}; expected {expected}",
        code="HF1322",
        hint="Does the SDK speak the version of the protocol that was agreed on?",
    )


def _ours_alone(message: object) -> LocalProtocolError:
    return LocalProtocolError(
        f"A {type(message).__name__} has no place in Restate's protocol",
        hint="Resume the invocation on a deployment whose workers dial in: they began it.",
    )


def _unsendable(message: object, error: Exception) -> LocalProtocolError:
    return LocalProtocolError(
        f"A {type(message).__name__} cannot be sent: {error}",
        hint="Numbers and texts must fit into their protobuf fields.",
    )
