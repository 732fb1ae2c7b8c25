"""The verbs for the promises of a workflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.message import (
    CompletePromise,
    Failure,
    GetPromise,
    Outcome,
    PeekPromise,
    Value,
)
from holdfast.sdk.branch import call_site
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.result import decoder, nothing, optional
from holdfast.sdk.serde import Serde, serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

T = TypeVar("T")


class Promise(Verbs, Generic[T]):
    """A durable promise of a workflow key: a value with a name that is set once.

    Made by `ctx.promise`. All handlers of the workflow share the promises of their key, before,
    during and after the run of the main one.
    """

    __slots__ = ("_annotation", "_serde", "name")

    def __init__(self, attempt: Attempt, name: str, annotation: Any) -> None:
        super().__init__(attempt)
        self.name = name
        self._annotation = annotation
        self._serde: Serde[Any] = serde_for(Any if annotation is None else annotation)

    def value(self) -> DurableFuture[T]:
        """Wait for the value. The invocation may be suspended meanwhile, for years if need be.

        Raises:
            TerminalError: At the await: the promise was rejected; 410 if the workflow was removed
                before the promise was completed.
        """
        key, path = self._key("promise", "value")
        command = GetPromise(self.name, 0, "", key, call_site())
        return self._do("promise", path, command, decoder(self._serde))

    def peek(self) -> DurableFuture[T | None]:
        """Return the value, or None if it is not set. Does not wait.

        Raises:
            TerminalError: At the await: the promise was rejected.
        """
        key, path = self._key("peek_promise", "peek")
        command = PeekPromise(self.name, 0, "", key, call_site())
        return self._do("peek_promise", path, command, optional(self._serde))

    def resolve(self, value: T | None = None) -> DurableFuture[None]:
        """Set the value. Await it to know whether this was the first completion.

        Raises:
            TerminalError: At the await: 409, the promise was complete already.
            SerdeError: The value has no JSON.
        """
        what = f"The value of promise {self.name!r}"
        content = encode_value(serde_of(value, self._annotation), value, what)
        return self._complete("resolve", Value(content))

    def reject(self, reason: str, *, code: int = 500) -> DurableFuture[None]:
        """Fail the promise: `TerminalError` where its value is awaited.

        Raises:
            TerminalError: At the await: 409, the promise was complete already.
        """
        return self._complete("reject", Failure(code, reason))

    def _complete(self, verb: str, result: Outcome) -> DurableFuture[None]:
        kind = f"{verb}_promise"
        key, path = self._key(kind, verb)
        command = CompletePromise(self.name, result, 0, "", key, call_site())
        return self._do(kind, path, command, nothing)

    def _key(self, kind: str, verb: str) -> tuple[str, str]:
        branch = self._branch(f"promise({self.name!r}).{verb}")
        return branch.key(kind, self.name), branch.path

    def _do(
        self,
        kind: str,
        path: str,
        command: GetPromise | PeekPromise | CompletePromise,
        decode: Callable[[Any], Any],
    ) -> DurableFuture[Any]:
        try:
            number = self._attempt.machine.sys_promise(path, kind, command)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._expect(number, decode)

    def __repr__(self) -> str:
        return f"<promise {self.name!r}>"


class WorkflowVerbs(Verbs):
    """What only handlers of a workflow have."""

    __slots__ = ()

    @overload
    def promise(self, name: str, type: type[T]) -> Promise[T]: ...

    @overload
    def promise(self, name: str, type: Any = None) -> Promise[Any]: ...

    def promise(self, name: str, type: Any = None) -> Promise[Any]:
        """Return a durable promise of this workflow key.

        Args:
            name: Of the promise; the same in all handlers that mean the same one.
            type: Of its value; None: JSON without a type.

        Raises:
            UsageError: HF0511, the handler belongs to no workflow, or the name is empty.
        """
        self._branch("promise")
        handler = self._attempt.handler
        if not handler.is_workflow:
            raise UsageError(
                f"ctx.promise needs a Workflow: {handler} belongs to none",
                code="HF0511",
                hint="Elsewhere use ctx.awakeable, and give its id away.",
            )
        if not name:
            raise UsageError(f"{handler}: ctx.promise needs a name", code="HF0511")
        return Promise(self._attempt, name, type)
