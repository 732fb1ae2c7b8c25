"""The verbs that concern other invocations."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, overload

from holdfast.domain.message import Call, OneWayCall
from holdfast.domain.retry import RetrySchedule
from holdfast.sdk.branch import call_site
from holdfast.sdk.foreign import refuse_extension
from holdfast.sdk.future import DONE, CallFuture, Done, DurableFuture
from holdfast.sdk.handler import Handler, resolve_target
from holdfast.sdk.invocation import Invocation, result_serde
from holdfast.sdk.journal import JournalMismatch
from holdfast.sdk.moment import start_ms
from holdfast.sdk.result import decoder, optional
from holdfast.sdk.retry import Duration, RetryPolicy
from holdfast.sdk.trace import with_trace
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
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
        retry: RetryPolicy | None = None,
    ) -> CallFuture[Any]:
        """Invoke a handler durably; await the result.

        Cancelling the future, as a timeout or `hf.race` does, cancels the called invocation, too.
        So does a cancellation of this one: those it waits for are told first. All end in their own
        time.

        Args:
            handler: The handler, or `"Service/handler"`.
            arg: Its argument.
            type: Of the result, where `handler` is a string.
            key: Of the object or workflow; required for their handlers, and only there.
            idempotency_key: Equal keys make equal invocations the same one.
            headers: Seen by the handler as `ctx.headers`.
            retry: For failed attempts of that invocation, instead of its handler's policy.

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
            self._schedule("call", retry),
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
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
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> DurableFuture[str]: ...

    def send(
        self,
        handler: Handler[Any, Any] | str,
        arg: Any = None,
        /,
        *,
        key: str | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy | None = None,
    ) -> DurableFuture[str]:
        """Invoke a handler durably, now, after `delay` or `at` a time, and do not wait for it.

        Await what is returned only if you need the id of the new invocation. Those that one handler
        sends to one key start in the order in which it sent them. Other arguments as for `call`.

        Args:
            at: With its time zone. A time that has passed is now.

        Raises:
            UsageError: HF0531, a time without zone, or both `delay` and `at`.
        """
        branch = self._branch("send")
        target = resolve_target(handler, key, arg, None)
        command = OneWayCall(
            target.service,
            target.handler,
            target.content,
            key,
            _header_pairs(headers),
            idempotency_key,
            start_ms(delay, at, self._attempt.host.now_ms()),
            0,
            "",
            branch.key("send", f"{target.service}.{target.handler}"),
            call_site(),
            self._schedule("send", retry),
        )
        try:
            number = self._attempt.machine.sys_send(branch.path, command)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._attempt.child_id(number)

    def cancel(self, invocation_id: str) -> Done:
        """Cancel another invocation: `TerminalError` 409 is raised in it where it waits.

        Raises:
            UsageError: HF0507, no invocation id.
        """
        branch = self._branch("cancel")
        target = self._target("cancel", invocation_id)
        key = branch.key("cancel", target)
        self._act(self._attempt.machine.sys_cancel, branch.path, key, target, call_site())
        return DONE

    @overload
    def attach(self, invocation_id: Invocation[T], /) -> DurableFuture[T]: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: type[T]) -> DurableFuture[T]: ...

    @overload
    def attach(self, invocation_id: str, /, *, type: Any = None) -> DurableFuture[Any]: ...

    def attach(self, invocation_id: str, /, *, type: Any = None) -> DurableFuture[Any]:
        """Wait for the result of another invocation. Giving up the wait does not cancel it.

        Args:
            invocation_id: As `send` returned it, or `hf.invocation(…)`.
            type: Of the result; None: that of the handler for `hf.invocation`, else untyped JSON.

        Raises:
            TerminalError: At the await: its outcome, or 404 if there is no such invocation.
            UsageError: HF0507, no invocation id.
        """
        branch = self._branch("attach")
        target = self._target("attach", invocation_id)
        key = branch.key("attach", target)
        site = call_site()
        try:
            number = self._attempt.machine.sys_attach(branch.path, key, target, site)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._expect(number, decoder(result_serde(invocation_id, type)))

    @overload
    def output(
        self, invocation_id: Invocation[T], /, *, default: T | None = None
    ) -> DurableFuture[T | None]: ...

    @overload
    def output(
        self, invocation_id: str, /, *, type: type[T], default: T | None = None
    ) -> DurableFuture[T | None]: ...

    @overload
    def output(
        self, invocation_id: str, /, *, type: Any = None, default: Any = None
    ) -> DurableFuture[Any]: ...

    def output(
        self, invocation_id: str, /, *, type: Any = None, default: Any = None
    ) -> DurableFuture[Any]:
        """Ask for the result of another invocation; `default` while it has none. See `attach`."""
        branch = self._branch("output")
        target = self._target("output", invocation_id)
        key = branch.key("output", target)
        site = call_site()
        try:
            number = self._attempt.machine.sys_peek(branch.path, key, target, site)
        except JournalMismatch as error:
            self._attempt.mismatch(error)
        return self._expect(number, optional(result_serde(invocation_id, type), default))

    def _schedule(self, verb: str, retry: RetryPolicy | None) -> RetrySchedule | None:
        if retry is None:
            return None
        refuse_extension(self._attempt.machine.start, f"ctx.{verb}(…, retry=…)")
        return retry.to_schedule()


def _header_pairs(headers: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return with_trace(tuple(headers.items()) if headers else ())
