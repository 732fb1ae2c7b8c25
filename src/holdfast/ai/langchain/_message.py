"""Messages, and values that hold some, as JSON and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict

from holdfast.domain.errors import UsageError

_MESSAGE = "holdfast:message"


def encode_message(message: BaseMessage) -> dict[str, Any]:
    """Return the recorded form of a message."""
    return message_to_dict(message)


def decode_message(record: dict[str, Any]) -> BaseMessage:
    """Return a message from its recorded form."""
    return messages_from_dict([record])[0]


def encode_value(value: object) -> Any:
    """Return a value that holds messages as JSON.

    Raises:
        UsageError: HF0604, something in it has no recorded form.
    """
    if isinstance(value, BaseMessage):
        return {_MESSAGE: encode_message(value)}
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, object]", value)
        return {str(name): encode_value(item) for name, item in fields.items()}
    if isinstance(value, list | tuple):
        return [encode_value(item) for item in cast("list[object]", value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise UsageError(
        f"A durable tool returned a {type(value).__name__}, which cannot be recorded.",
        code="HF0604",
        hint="Return messages, and values that are JSON; or give the tool mode='plain' and make "
        "its side effects durable steps.",
    )


def decode_value(value: Any) -> Any:
    """Return a value with its messages, from its recorded form."""
    found: object = value
    if isinstance(found, dict):
        fields = cast("dict[str, Any]", found)
        if _MESSAGE in fields:
            return decode_message(fields[_MESSAGE])
        return {name: decode_value(item) for name, item in fields.items()}
    if isinstance(found, list):
        return [decode_value(item) for item in cast("list[object]", found)]
    return value
