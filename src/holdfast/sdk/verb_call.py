"""The verbs that concern other invocations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from holdfast.domain.message import Call, OneWayCall
from holdfast.sdk.branch import call_site
from holdfast.sdk.future import DONE, CallFuture, Done, DurableFuture
from holdfast.sdk.handler import Handler, resolve_target
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.result import decoder
from holdfast.sdk.retry import Duration, milliseconds
from holdfast.sdk.serde import serde_for
from holdfast.sdk.verb import Verbs

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


class CallVerbs(Verbs):
    """Invoke, cancel and wait for other invocations."""

    __slots__ = ()

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


def _header_pairs(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items()) if headers else ()
