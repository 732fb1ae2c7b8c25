"""What the groups of durable verbs have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.domain.errors import UsageError
from holdfast.domain.ids import IdError, parse_invocation_id
from holdfast.domain.message import Result
from holdfast.sdk.branch import Branch, place, raise_misplaced
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.serde import Serde, SerdeError, serde_for

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

T = TypeVar("T")


class Verbs:
    """A group of verbs of one attempt. They act in the branch of the code that calls them."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    def _branch(self, verb: str) -> Branch:
        branch = place.get()
        if type(branch) is Branch and branch.attempt is self._attempt:
            self._attempt.check_open()
            return branch
        raise_misplaced(f"ctx.{verb}", branch)

    def _target(self, verb: str, invocation_id: str) -> str:
        try:
            parse_invocation_id(invocation_id)
        except IdError as error:
            raise UsageError(f"ctx.{verb}: {error}", code="HF0507") from error
        # The exact type: a subclass of str that knows a result is none of the journal's business.
        return str(invocation_id)

    def _act(self, operation: Callable[..., None], *args: Any) -> None:
        try:
            operation(*args)
        except JournalMismatch as error:
            self._attempt.mismatch(error)

    def _expect(self, number: int, decode: Callable[[Any], T]) -> DurableFuture[T]:
        future: DurableFuture[T] = DurableFuture(self._attempt, number, decode)
        self._attempt.machine.expect(number, future)
        return future

    def _answer(self, found: Result | int, decode: Callable[[Any], T]) -> DurableFuture[T]:
        if isinstance(found, int):
            return self._expect(found, decode)
        future: DurableFuture[T] = DurableFuture(self._attempt, 0, decode)
        future.on_result(found)
        return future


def serde_of(value: object, annotation: Any) -> Serde[Any]:
    """Return how to write a value of this type, or of its own if none is given."""
    # The reader gives the type, so what is written may be anything that has JSON.
    return serde_for(type(value) if annotation is None else annotation)


def encode_value(serde: Serde[Any], value: object, what: str) -> bytes:
    """Encode a value to be recorded.

    Raises:
        SerdeError: It has no JSON; names `what` it is.
    """
    try:
        return serde.encode(value)
    except SerdeError as error:
        raise SerdeError(f"{what} cannot be recorded: {error.message}", hint=error.hint) from error
