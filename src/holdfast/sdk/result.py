"""Recorded results as values: what a `DurableFuture` decodes with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from holdfast.domain.errors import TerminalError
from holdfast.domain.message import ChildId, Failure, Result, StateKeys, Value
from holdfast.sdk.deadline import is_recorded
from holdfast.sdk.interrupt import ENDED, FAILING, Carried
from holdfast.sdk.serde import Serde

T = TypeVar("T")

_CODE_DEFAULT = 500
_CODE_TIMEOUT = 408
_CAUSES_MAX = 32
"""Of a chain of exceptions. Chains may be rings."""


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
    if isinstance(error, Carried):
        return failure_of(error.error)
    if isinstance(error, TerminalError):
        return _recordable(error)
    if is_recorded(error):
        return Failure(
            _CODE_TIMEOUT,
            "TimeoutError: a deadline of the handler has passed, which is recorded, and nothing"
            " caught it [HF2038]",
            {"error_code": "HF2038"},
        )
    if isinstance(error, Exception) and _is_decided(error):
        return Failure(_CODE_DEFAULT, f"{type(error).__name__}: {error}")
    return None


def _is_decided(error: BaseException) -> bool:
    """Return whether an error comes from a recorded answer, so that it would only come again.

    Clients of models make exceptions of their own of the responses that `holdfast.ai.http` gives
    them, and frameworks make others of those.
    """
    link: BaseException | None = error
    for _ in range(_CAUSES_MAX):
        if link is None:
            return False
        if _read(link, "holdfast_is_decided") is True:
            return True
        extensions = _read(_read(link, "response"), "extensions")
        if isinstance(extensions, dict) and "holdfast_is_decided" in extensions:
            return True
        link = link.__cause__ if link.__suppress_context__ else link.__context__
    return False


def noted_metadata(error: BaseException) -> dict[str, str] | None:
    """Return what an integration noted on an exception for the case that it ends its step."""
    return cast("dict[str, str] | None", _read(error, "holdfast_metadata"))


def _read(thing: object, name: str) -> object:
    try:
        return getattr(thing, name, None)
    except Exception:  # Attributes of foreign exceptions may do anything.
        return None


def is_final(error: BaseException) -> bool:
    """Return whether each further attempt would see this error, too, as the journal is.

    Cancellations of asyncio are final, unless what they come from is not.
    """
    if issubclass(type(error), BaseExceptionGroup):
        return all(map(is_final, cast("BaseExceptionGroup[BaseException]", error).exceptions))
    if isinstance(error, asyncio.CancelledError):
        return error.args not in ((ENDED,), (FAILING,))
    return failure_of(error) is not None


def _recordable(error: TerminalError) -> Failure:
    # Subclasses may have set anything, or nothing; what is recorded must be readable.
    code: object = error.code
    if not isinstance(code, int) or not 100 <= code <= 999:
        code = _CODE_DEFAULT
    given: object = getattr(error, "metadata", None)
    pairs = cast("Mapping[object, object]", given).items() if isinstance(given, Mapping) else ()
    metadata = {str(name): str(text) for name, text in pairs}
    return Failure(int(code), str(error.message), metadata or None)
