"""The verbs for promises that are completed from outside."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.ids import IdError, awakeable_id, parse_awakeable_id
from holdfast.domain.message import Failure, Outcome, Value
from holdfast.sdk.branch import call_site
from holdfast.sdk.future import DONE, Awakeable, Done
from holdfast.sdk.result import decoder
from holdfast.sdk.serde import serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of

T = TypeVar("T")


class PromiseVerbs(Verbs):
    """Make promises, and complete those of others."""

    __slots__ = ()

    @overload
    def awakeable(self, type: type[T], name: str = "") -> Awakeable[T]: ...

    @overload
    def awakeable(self, type: Any = None, name: str = "") -> Awakeable[Any]: ...

    def awakeable(self, type: Any = None, name: str = "") -> Awakeable[Any]:
        """Make a promise that the outside completes by its `.id`; await it for the value.

        Args:
            type: Of the value; None: JSON without a type.
            name: Part of what its id derives from. The id is the same on every attempt.
        """
        branch = self._branch("awakeable")
        machine = self._attempt.machine
        index = machine.sys_awakeable(branch.key("awakeable", name))
        future: Awakeable[Any] = Awakeable(
            self._attempt, index, decoder(serde_for(Any if type is None else type)), is_signal=True
        )
        future.id = awakeable_id(machine.start.invocation_id, index)
        machine.expect_signal(index, future)
        return future

    def resolve(self, awakeable_id: str, value: object = None, *, type: Any = None) -> Done:
        """Complete an awakeable with a value. The first completion wins; later ones do nothing."""
        content = encode_value(serde_of(value, type), value, "The value of an awakeable")
        return self._complete("resolve", awakeable_id, Value(content))

    def reject(self, awakeable_id: str, reason: str, *, code: int = 500) -> Done:
        """Complete an awakeable with a failure: `TerminalError` where it is awaited."""
        return self._complete("reject", awakeable_id, Failure(code, reason))

    def _complete(self, verb: str, id: str, result: Outcome) -> Done:
        branch = self._branch(verb)
        try:
            parse_awakeable_id(id)
        except IdError as error:
            raise UsageError(f"ctx.{verb}: {error}", code="HF0507") from error
        machine = self._attempt.machine
        key = branch.key(verb, id)
        self._act(machine.sys_complete_awakeable, branch.path, key, id, result, call_site())
        return DONE
