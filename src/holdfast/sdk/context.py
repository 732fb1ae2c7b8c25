"""What handlers use: the durable verbs.

All verbs act in the branch of the code that calls them, not in that of the task where the context
came from. They begin at once, in program order, and return something to await.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.ids import IdError, awakeable_id, parse_awakeable_id
from holdfast.domain.message import (
    Call,
    Failure,
    OneWayCall,
    Outcome,
    Result,
    Value,
)
from holdfast.sdk.branch import Branch, call_site, entered, place, raise_misplaced
from holdfast.sdk.future import DONE, Awakeable, CallFuture, Done, DurableFuture
from holdfast.sdk.handler import Handler, resolve_target
from holdfast.sdk.machine import JournalMismatch
from holdfast.sdk.result import decoder, nothing, optional, state_keys
from holdfast.sdk.retry import Duration, RetryPolicy, milliseconds
from holdfast.sdk.serde import Serde, SerdeError, return_annotation, serde_for
from holdfast.sdk.step import Step

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


class Context:
    """The running invocation. Handlers get it as their first argument; see also `current()`."""

    __slots__ = ("_attempt",)

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt

    # -- who am I ---------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """Invocation id, `inv_1…`."""
        return self._attempt.machine.start.invocation_id

    @property
    def key(self) -> str:
        """Key of the object.

        Raises:
            UsageError: HF0506, the service has no keys.
        """
        if not self._attempt.handler.is_keyed:
            raise UsageError(
                f"{self._attempt.handler} has no key: it belongs to a Service", code="HF0506"
            )
        return self._attempt.machine.start.key

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the request, or those that the calling handler gave."""
        return dict(self._attempt.machine.input.headers)

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1. Do not branch on it."""
        return self._attempt.machine.start.attempt

    @property
    def is_replaying(self) -> bool:
        """Whether recorded results are still being handed over. For logs; do not branch on it."""
        return self._attempt.machine.is_replaying

    # -- steps ------------------------------------------------------------------------------------

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[T]: ...

    @overload
    def run(
        self,
        name: str,
        fn: Callable[..., T],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[T]: ...

    def run(
        self,
        name: str,
        fn: Callable[..., Any],
        /,
        *args: Any,
        retry: RetryPolicy | None = None,
        type: Any = None,
        **kwargs: Any,
    ) -> DurableFuture[Any]:
        """Run a step: a side effect whose result is recorded, so that it is not repeated.

        The step begins now; await it for its result. An async function runs on the event loop, any
        other one in a thread. The body may run more than once if the process dies before its result
        is recorded; it must not use durable verbs itself. Cancelling the future, or the invocation,
        cancels an async body.

        Args:
            name: Part of the journal key: the same name may be used again, a name that is in the
                journal of an open invocation must not be changed.
            fn: What to run, with `*args` and `**kwargs`.
            retry: For failures of this step. None: the handler's policy.
            type: Of the result, where the annotation of `fn` does not say it; or a `Serde`.

        Raises:
            TerminalError: At the await: raised by the body, or its retries are used up.
            UsageError: HF0504, there is no JSON for the type of the result.
        """
        branch = self._branch("run")
        if not callable(fn):
            raise UsageError(
                f"ctx.run({name!r}, …) takes a function and its arguments, not {fn!r}",
                code="HF0507",
                hint=f"Write ctx.run({name!r}, function, argument, …).",
            )
        serde = serde_for(return_annotation(fn) if type is None else type)
        return self._attempt.run(branch, Step(name, fn, args, kwargs, serde, retry), call_site())

    def sleep(self, delay: Duration, name: str = "") -> DurableFuture[None]:
        """Sleep durably: seconds or years, without a process. `asyncio.sleep` does the same."""
        branch = self._branch("sleep")
        number = self._attempt.sleep(branch, name, milliseconds(delay, "delay"), call_site())
        return self._expect(number, nothing)

    # -- other invocations ------------------------------------------------------------------------

    @overload
    def call(
        self,
        handler: Handler[None, O],
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallFuture[O]: ...

    @overload
    def call(
        self,
        handler: Handler[I, O],
        arg: I,
        /,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallFuture[O]: ...

    @overload
    def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: type[T],
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallFuture[T]: ...

    @overload
    def call(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallFuture[Any]: ...

    def call(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        type: Any = None,
        key: str | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> CallFuture[Any]:
        """Invoke a handler durably; await the result.

        Cancelling the future does not cancel the other invocation: see `cancel`. When this
        invocation is cancelled, those it waits for are told first; they end in their own time.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object; required for handlers of a `VirtualObject`, and only there.
            idempotency_key: Equal keys make equal invocations the same one.
            headers: Seen by the handler as `ctx.headers`.

        Raises:
            TerminalError: At the await: the outcome of the other invocation.
        """
        branch = self._branch("call")
        target = resolve_target(handler, key, arg, type)
        template = Call(
            target.service,
            target.handler,
            target.content,
            key,
            _header_pairs(headers),
            idempotency_key,
            0,
            0,
            "",
            branch.key("call", f"{target.service}.{target.handler}"),
            call_site(),
        )
        try:
            command = self._attempt.machine.sys_call(branch.path, template)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        future: CallFuture[Any] = CallFuture(
            self._attempt, command.completion_id, decoder(target.output)
        )
        future.child_completion_id = command.invocation_id_completion_id
        self._attempt.machine.expect(command.completion_id, future)
        return future

    @overload
    def send(
        self,
        handler: Handler[None, Any],
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> DurableFuture[str]: ...

    @overload
    def send(
        self,
        handler: Handler[I, Any],
        arg: I,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> DurableFuture[str]: ...

    @overload
    def send(
        self,
        handler: str,
        arg: object = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> DurableFuture[str]: ...

    def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> DurableFuture[str]:
        """Invoke a handler durably, now or after `delay`, and do not wait for its result.

        Await what is returned only if you need the id of the new invocation. Other arguments as
        for `call`.
        """
        branch = self._branch("send")
        target = resolve_target(handler, key, arg, None)
        delay_ms = 0 if delay is None else milliseconds(delay, "delay")
        command = OneWayCall(
            target.service,
            target.handler,
            target.content,
            key,
            _header_pairs(headers),
            idempotency_key,
            self._attempt.host.now_ms() + delay_ms if delay_ms else 0,
            0,
            "",
            branch.key("send", f"{target.service}.{target.handler}"),
            call_site(),
        )
        try:
            number = self._attempt.machine.sys_send(branch.path, command)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._attempt.child_id(number)

    def cancel(self, invocation_id: str) -> Done:
        """Cancel another invocation: `TerminalError` 409 is raised in it where it waits."""
        branch = self._branch("cancel")
        key = branch.key("cancel", invocation_id)
        self._act(self._attempt.machine.sys_cancel, branch.path, key, invocation_id, call_site())
        return DONE

    @overload
    def attach(self, invocation_id: str, /, *, type: type[T]) -> DurableFuture[T]: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: Any = None) -> DurableFuture[Any]: ...

    def attach(self, invocation_id: str, /, *, type: Any = None) -> DurableFuture[Any]:
        """Wait for the result of another invocation, by its id."""
        branch = self._branch("attach")
        key = branch.key("attach", invocation_id)
        site = call_site()
        try:
            number = self._attempt.machine.sys_attach(branch.path, key, invocation_id, site)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._expect(number, decoder(serde_for(Any if type is None else type)))

    # -- promises ---------------------------------------------------------------------------------

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
        future.id = awakeable_id(self.id, index)
        machine.expect_signal(index, future)
        return future

    def resolve(self, awakeable_id: str, value: object = None, *, type: Any = None) -> Done:
        """Complete an awakeable with a value. The first completion wins; later ones do nothing."""
        content = _encode(_serde_of(value, type), value, "The value of an awakeable")
        return self._complete("resolve", awakeable_id, Value(content))

    def reject(self, awakeable_id: str, reason: str, *, code: int = 500) -> Done:
        """Complete an awakeable with a failure: `TerminalError` where it is awaited."""
        return self._complete("reject", awakeable_id, Failure(code, reason))

    # -- state ------------------------------------------------------------------------------------

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
        content = _encode(_serde_of(value, type), value, f"State entry {name!r}")
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

    # -- determinism ------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the time of the latest result that was handed over, in UTC: the same on replay."""
        self._branch("now")
        return datetime.fromtimestamp(self._attempt.machine.now_ms / 1000, UTC)

    @property
    def random(self) -> Random:
        """Randomness that is the same on replay; every branch has its own."""
        branch = self._branch("random")
        if branch.random is None:
            branch.random = Random(f"{self._attempt.machine.start.random_seed}/{branch.path}")
        return branch.random

    def uuid(self) -> uuid.UUID:
        """Return a new version 4 UUID that is the same on replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    @contextmanager
    def scope(self, label: str) -> Generator[None]:
        """Open a branch with a stable label for the operations inside.

        Use it where order is not stable but an id is, such as that of a tool call: keys of
        operations inside do not depend on what happens outside.
        """
        branch = self._branch("scope")
        with entered(branch.child(label)):
            yield

    # -- details ----------------------------------------------------------------------------------

    def _branch(self, verb: str) -> Branch:
        branch = place.get()
        if type(branch) is Branch and branch.attempt is self._attempt:
            self._attempt.check_open()
            return branch
        raise_misplaced(f"ctx.{verb}", branch)

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

    def _act(self, operation: Callable[..., None], *args: Any) -> None:
        try:
            operation(*args)
        except JournalMismatch as error:
            self._attempt.mismatch(error)

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


def current() -> Context:
    """Return the context of the running invocation, anywhere below a handler.

    Raises:
        UsageError: HF0501 inside the body of a step, HF0502 outside of a handler.
    """
    branch = place.get()
    if type(branch) is Branch and branch.attempt is not None:
        branch.attempt.check_open()
        return branch.attempt.context
    raise_misplaced("hf.current()", branch)


def _header_pairs(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items()) if headers else ()


def _serde_of(value: object, annotation: Any) -> Serde[Any]:
    # The reader gives the type, so what is written may be anything that has JSON.
    return serde_for(type(value) if annotation is None else annotation)


def _encode(serde: Serde[Any], value: object, what: str) -> bytes:
    try:
        return serde.encode(value)
    except SerdeError as error:
        raise SerdeError(f"{what} cannot be recorded: {error.message}", hint=error.hint) from error
