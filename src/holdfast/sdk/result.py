"""Recorded results as values: what a `DurableFuture` decodes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from holdfast.domain.errors import TerminalError
from holdfast.domain.message import ChildId, Failure, Result, StateKeys, Value
from holdfast.sdk.deadline import is_recorded
from holdfast.sdk.serde import Serde

T = TypeVar("T")

_CODE_DEFAULT = 500
_CODE_TIMEOUT = 408


def decoder(serde: Serde[T]) -> Callable[[Any], T]:
    """Read values; none is read as no bytes."""

    def decode(result: Result) -> T:
        return serde.decode(result.content if isinstance(result, Value) else b"")

    return decode


def optional(serde: Serde[T], default: T | None = None) -> Callable[[Any], T | None]:
    """Read values; none is `default`."""

    def decode(result: Result) -> T | None:
        return serde.decode(result.content) if isinstance(result, Value) else default

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

    A group of terminal errors, as `asyncio.TaskGroup` raises, is terminal: the first one counts. So
    is a `TimeoutError` that each further attempt would end with, too.
    """
    if issubclass(type(error), BaseExceptionGroup):
        failures = [failure_of(inner) for inner in error.exceptions]
        return None if None in failures else failures[0]
    if isinstance(error, TerminalError):
        return _recordable(error)
    if is_recorded(error):
        return Failure(
            _CODE_TIMEOUT,
            "TimeoutError: a deadline of the handler has passed, which is recorded, and nothing"
            " caught it [HF2038]",
            {"error_code": "HF2038"},
        )
    return None


def _recordable(error: TerminalError) -> Failure:
    # Subclasses may have set anything, or nothing; what is recorded must be readable.
    code: object = error.code
    if not isinstance(code, int) or not 100 <= code <= 999:
        code = _CODE_DEFAULT
    given: dict[object, object] = getattr(error, "metadata", None) or {}
    metadata = {str(name): str(text) for name, text in given.items()}
    return Failure(int(code), str(error.message), metadata or None)
