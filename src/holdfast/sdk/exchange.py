"""What clients ask and what comes back, apart from how it travels.

An `Exchange` says what is asked, in the terms of the protocol; a `Reply` what came back. A reply
with a `Failure` is the outcome of the invocation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from holdfast.domain.errors import TerminalError
from holdfast.domain.message import Failure
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.signal_name import check_signal_name
from holdfast.sdk.handler import Handler, resolve_target
from holdfast.sdk.moment import moment_ms, refuse_both
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds
from holdfast.sdk.serde import Serde, SerdeError, serde_for

Verb = Literal[
    "call", "send", "attach", "output", "cancel", "resolve", "reject", "signal", "reject_signal"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request. Which fields matter depends on the verb."""

    verb: Verb
    service: str = ""
    """Of call and send."""
    handler: str = ""
    key: str | None = None
    id: str = ""
    """Awakeable id of resolve and reject; else invocation id."""
    name: str = ""
    """Of a signal."""
    content: bytes = b""
    """Parameter of call and send; value of resolve and signal; else UTF-8 reason of a rejection."""
    content_type: str = "application/json"
    delay_ms: int = 0
    at_ms: int = 0
    """When to start, milliseconds since the epoch; 0: `delay_ms` says it."""
    retry: RetrySchedule | None = None
    idempotency_key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    result: bytes | Failure | None = None
    """Outcome for call, attach and output; None for output when there is none yet."""
    invocation_id: str = ""
    is_new: bool = True
    """For send: False when the idempotency key was known."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An invocation that was accepted."""

    invocation_id: str
    is_new: bool
    """False: an earlier request with the same idempotency key made it."""


def asking(verb: Verb, invocation_id: str) -> Exchange:
    """Ask for something about an invocation."""
    return Exchange(verb=verb, id=str(invocation_id))


def invoking(
    verb: Verb,
    handler: Handler[Any, Any] | str,
    arg: Any,
    annotation: Any,
    key: str | None,
    delay: Duration | None,
    idempotency_key: str | None,
    headers: Mapping[str, str] | None,
    retry: RetryPolicy | None,
    at: datetime | None = None,
) -> tuple[Exchange, Serde[Any]]:
    """Ask for an invocation. Returns also how to read its result.

    Raises:
        UsageError: HF0507, an argument does not fit.
        SerdeError: The argument for the handler has no JSON.
    """
    refuse_both(delay, at)
    target = resolve_target(handler, key, arg, annotation)
    exchange = Exchange(
        verb=verb,
        service=target.service,
        handler=target.handler,
        key=key,
        content=target.content,
        content_type=target.content_type,
        delay_ms=0 if delay is None else milliseconds(delay, "delay"),
        at_ms=moment_ms(at),
        retry=None if retry is None else retry.to_schedule(),
        idempotency_key=idempotency_key,
        headers=tuple(headers.items()) if headers else (),
    )
    return exchange, target.output


def value_of(reply: Reply, serde: Serde[Any]) -> Any:
    """Return the result of an invocation.

    Raises:
        TerminalError: It failed.
        SerdeError: HF0505, the result does not fit its type.
    """
    result = reply.result
    if isinstance(result, Failure):
        raise TerminalError(result.message, code=result.code, metadata=result.metadata)
    try:
        return serde.decode(result or b"")
    except SerdeError as error:
        raise SerdeError(
            f"The result of {reply.invocation_id or 'the invocation'} does not fit: "
            f"{error.message}",
            hint="Pass type= with the type that the handler returns.",
        ) from error


def resolving(id: str, value: object, annotation: Any) -> Exchange:
    """Complete an awakeable with a value."""
    serde = serde_for(type(value) if annotation is None else annotation)
    content = serde.encode(value)
    return Exchange(verb="resolve", id=id, content=content, content_type=serde.content_type)


def signalling(invocation_id: str, name: str, value: object, annotation: Any) -> Exchange:
    """Send a signal.

    Raises:
        UsageError: HF0520, no name for a signal.
    """
    check_signal_name(name)
    serde = serde_for(type(value) if annotation is None else annotation)
    content, kind = serde.encode(value), serde.content_type
    return Exchange(
        verb="signal", id=str(invocation_id), name=name, content=content, content_type=kind
    )


def rejecting_signal(invocation_id: str, name: str, reason: str) -> Exchange:
    """Send a failure as signal.

    Raises:
        UsageError: HF0520, no name for a signal.
    """
    check_signal_name(name)
    content, kind = reason.encode(), "text/plain"
    return Exchange(
        verb="reject_signal", id=str(invocation_id), name=name, content=content, content_type=kind
    )
