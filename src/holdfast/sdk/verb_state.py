"""The verbs for the state of an object."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.sdk.branch import Branch, call_site
from holdfast.sdk.future import DONE, Done, DurableFuture
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.result import optional, state_keys
from holdfast.sdk.serde import serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of

T = TypeVar("T")


class StateVerbs(Verbs):
    """Read and write the state of the object that the invocation belongs to."""

    __slots__ = ()

    @overload
    def get(self, name: str, *, type: type[T]) -> DurableFuture[T | None]: ...

    @overload
    def get(self, name: str, *, type: Any = None) -> DurableFuture[Any]: ...

    def get(self, name: str, *, type: Any = None) -> DurableFuture[Any]:
        """Read a state entry of this object; None if there is none."""
        branch = self._state_branch("get", is_write=False)
        machine = self._attempt.machine
        key = branch.key("get", name)
        try:
            found = machine.sys_get(branch.path, key, name, call_site())
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._answer(found, optional(serde_for(Any if type is None else type)))

    def keys(self) -> DurableFuture[list[str]]:
        """List the names of all state entries of this object, sorted."""
        branch = self._state_branch("keys", is_write=False)
        try:
            found = self._attempt.machine.sys_keys(branch.path, branch.key("keys"), call_site())
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._answer(found, state_keys)

    def set(self, name: str, value: object, *, type: Any = None) -> Done:
        """Write a state entry of this object. Done at once; awaiting it is optional."""
        branch = self._state_branch("set", is_write=True)
        content = encode_value(serde_of(value, type), value, f"State entry {name!r}")
        key = branch.key("set", name)
        self._act(self._attempt.machine.sys_set, branch.path, key, name, content, call_site())
        return DONE

    def clear(self, name: str) -> Done:
        """Remove a state entry of this object. Done at once; awaiting it is optional."""
        branch = self._state_branch("clear", is_write=True)
        key = branch.key("clear", name)
        self._act(self._attempt.machine.sys_clear, branch.path, key, name, call_site())
        return DONE

    def clear_all(self) -> Done:
        """Remove all state of this object. Done at once; awaiting it is optional."""
        branch = self._state_branch("clear_all", is_write=True)
        key = branch.key("clear_all")
        self._act(self._attempt.machine.sys_clear_all, branch.path, key, call_site())
        return DONE

    def _state_branch(self, verb: str, *, is_write: bool) -> Branch:
        branch = self._branch(verb)
        handler = self._attempt.handler
        if not handler.is_keyed:
            raise UsageError(
                f"ctx.{verb} needs a VirtualObject: {handler} belongs to a Service, which has no "
                "state",
                code="HF0506",
            )
        if is_write and handler.is_shared:
            raise UsageError(
                f"ctx.{verb} needs an exclusive handler: {handler} is shared, and only reads state",
                code="HF0506",
                hint="Declare it with @object.handler.",
            )
        return branch
