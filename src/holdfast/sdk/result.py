"""Recorded results as values: what a `DurableFuture` decodes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from holdfast.domain.errors import TerminalError
from holdfast.domain.message import ChildId, Failure, Result, StateKeys, Value
from holdfast.sdk.serde import Serde

T = TypeVar("T")


def decoder(serde: Serde[T]) -> Callable[[Any], T]:
    """Read values; none is read as no bytes."""

    def decode(result: Result) -> T:
        return serde.decode(result.content if isinstance(result, Value) else b"")

    return decode


def optional(serde: Serde[T]) -> Callable[[Any], T | None]:
    """Read values; none is None."""

    def decode(result: Result) -> T | None:
        return serde.decode(result.content) if isinstance(result, Value) else None

    return decode


def state_keys(result: Result) -> list[str]:
    """Read a listing of state names."""
    assert isinstance(result, StateKeys)
    return list(result.keys)


def nothing(_: object) -> None:
    """Read what only says that it is done."""


def child_id(result: Result) -> str:
    """Read the id of a called invocation."""
    assert isinstance(result, ChildId)
    return result.invocation_id


def error_of(failure: Failure) -> TerminalError:
    """Return the exception of a recorded failure."""
    return TerminalError(failure.message, code=failure.code, metadata=failure.metadata)


def failure_of(error: Any) -> Failure | None:
    """Return how an exception is recorded, or None if it is not terminal.

    A group of terminal errors, as `asyncio.TaskGroup` raises, is terminal: the first one counts.
    """
    if issubclass(type(error), BaseExceptionGroup):
        failures = [failure_of(inner) for inner in error.exceptions]
        return None if None in failures else failures[0]
    if isinstance(error, TerminalError):
        return Failure(error.code, error.message, error.metadata or None)
    return None
