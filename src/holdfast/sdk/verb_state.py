"""The verbs for the state of an object."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.sdk.branch import Branch, call_site
from holdfast.sdk.foreign import refuse_extension
from holdfast.sdk.future import DONE, Done, DurableFuture
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.result import optional, state_keys
from holdfast.sdk.retry import Duration, milliseconds
from holdfast.sdk.serde import serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of

T = TypeVar("T")

VALUE_BYTES_MAX = 16 * 1024 * 1024
NAME_BYTES_MAX = 1024


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
        _check_name(name)
        machine = self._attempt.machine
        key, now_ms = branch.key("get", name), self._attempt.host.now_ms()
        try:
            found = machine.sys_get(branch.path, key, name, call_site(), now_ms)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._answer(found, optional(serde_for(Any if type is None else type)))

    def keys(self) -> DurableFuture[list[str]]:
        """List the names of all state entries of this object, sorted."""
        branch = self._state_branch("keys", is_write=False)
        key, now_ms = branch.key("keys"), self._attempt.host.now_ms()
        try:
            found = self._attempt.machine.sys_keys(branch.path, key, call_site(), now_ms)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._answer(found, state_keys)

    def set(
        self, name: str, value: object, *, type: Any = None, ttl: Duration | None = None
    ) -> Done:
        """Write a state entry of this object. Done at once; awaiting it is optional.

        Args:
            name: Any text of at most 1,024 bytes of UTF-8.
            value: At most 16 MiB when it is encoded.
            type: Where the value alone does not say how to encode it; or a `Serde`.
            ttl: After this time the entry does not exist. None: it stays; also when an earlier
                `set` of this name had a `ttl`.

        Raises:
            UsageError: HF0540, the entry cannot be kept; HF1385, this server has no `ttl`.
            SerdeError: The value cannot be encoded.
        """
        branch = self._state_branch("set", is_write=True)
        _check_name(name)
        content = encode_value(serde_of(value, type), value, f"State entry {name!r}")
        if len(content) > VALUE_BYTES_MAX:
            raise UsageError(
                f"State entry {name!r} has {len(content):,} bytes; at most {VALUE_BYTES_MAX:,} fit",
                code="HF0540",
                hint="Split it into entries, or keep it elsewhere and store where it is.",
            )
        expires_at_ms = 0
        if ttl is not None:
            refuse_extension(self._attempt.machine.start, "ctx.set(…, ttl=…)")
            ttl_ms = milliseconds(ttl, "ttl")
            if ttl_ms == 0:
                raise UsageError(
                    f"State entry {name!r} would never exist: its ttl is {ttl!r}",
                    code="HF0540",
                    hint="Give a ttl of a millisecond or more, or clear the entry.",
                )
            expires_at_ms = self._attempt.host.now_ms() + ttl_ms
        key = branch.key("set", name)
        self._act(
            self._attempt.machine.sys_set,
            branch.path,
            key,
            name,
            content,
            call_site(),
            expires_at_ms,
        )
        return DONE

    def clear(self, name: str) -> Done:
        """Remove a state entry of this object. Done at once; awaiting it is optional."""
        branch = self._state_branch("clear", is_write=True)
        _check_name(name)
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
                f"ctx.{verb} needs a VirtualObject or a Workflow: {handler} belongs to a Service, "
                "which has no state",
                code="HF0506",
            )
        if is_write and handler.is_shared:
            raise UsageError(
                f"ctx.{verb} needs an exclusive handler: {handler} is shared, and only reads state",
                code="HF0506",
                hint="Write in the main handler of the workflow."
                if handler.is_workflow
                else "Declare it with @object.handler.",
            )
        return branch


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except (AttributeError, UnicodeEncodeError) as error:
        raise UsageError(
            f"{name!r} cannot be the name of a state entry: it is not text that UTF-8 can write",
            code="HF0540",
            hint="Name state entries with ordinary strings.",
        ) from error
    if size > NAME_BYTES_MAX:
        raise UsageError(
            f"The name of a state entry, {name[:40]!r}…, has {size:,} bytes; at most "
            f"{NAME_BYTES_MAX:,} fit",
            code="HF0540",
            hint="Keep the long text in the value, and name the entry by a digest of it.",
        )
