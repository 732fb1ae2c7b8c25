"""Stands between the server and the handlers of a test: sees all messages, and crashes attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import (
    Completion,
    Entry,
    Error,
    FromHandler,
    Input,
    ProposeRunCompletion,
    Signal,
    Start,
    ToHandler,
)
from holdfast.sdk.app import App
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.journal import CODE_MISMATCH, JournalMismatch
from holdfast.testing.crash import Crashes, Operation, Operations
from holdfast.transport.base import HandlerStream, ServerStream


class TestPort:
    """A handler port around an app."""

    __test__ = False  # To pytest: this is no class of tests.

    on_problem: Callable[[HoldfastError], None]
    """Told of what no attempt will get over: the test should fail."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.deployment_name = app.deployment_name
        self.manifest = app.manifest
        self.crashes = Crashes()
        self._attempts: dict[_Tap, Attempt] = {}

    @property
    def is_draining(self) -> bool:
        """See `HandlerPort`."""
        return self.app.is_draining

    @property
    def is_idle(self) -> bool:
        """Whether no code of handlers runs, and all wait for results."""
        return not self._busy()

    def busy(self) -> list[str]:
        """Return whose code runs, or waits for something that is not durable."""
        return [f"{each.handler} {each.context.id}" for each in self._busy()]

    def _busy(self) -> list[Attempt]:
        return [each for each in self._attempts.values() if each.is_open and not each.is_idle]

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        """Begin an attempt, or crash it at once. See `HandlerPort`."""
        tap = _Tap(self, start, entries, stream)
        if not tap.is_cut:
            handler = self.app.open(start, entries, tap)
            tap.handler = handler
            if isinstance(handler, Attempt):
                self._attempts[tap] = handler
        return tap

    def forget(self, tap: _Tap) -> None:
        """An attempt is over."""
        self._attempts.pop(tap, None)


class _Tap:
    """Both ends of one attempt."""

    handler: HandlerStream

    def __init__(
        self, port: TestPort, start: Start, entries: Sequence[Entry], stream: ServerStream
    ) -> None:
        self.is_cut = False
        self._port = port
        self._stream = stream
        self._operations = Operations(start.invocation_id)
        self._by_completion_id: dict[int, Operation | None] = {}
        for entry in entries:
            if isinstance(entry, Completion):
                self._note_result(entry)
            elif not isinstance(entry, Signal | Input):
                self._note(entry)

    def _note(self, command: Entry) -> Operation | None:
        assert not isinstance(command, Completion | Signal), "these are results"
        operation = self._operations.add(command)
        completion_id: int | None = getattr(command, "completion_id", None)
        if completion_id is not None:
            self._by_completion_id[completion_id] = operation
        return operation

    def _note_result(self, completion: Completion) -> bool:
        """Return whether the attempt is crashed before it hears of a result."""
        operation = self._by_completion_id.get(completion.completion_id)
        reason = None if self.is_cut else self._port.crashes.hits("after", operation)
        if reason is not None:
            self._cut(reason)
        return self.is_cut

    # -- the handler's end ------------------------------------------------------------------------

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`."""
        for notification in notifications:
            if isinstance(notification, Completion) and self._note_result(notification):
                return
        if not self.is_cut:
            self.handler.send(notifications)

    def close_input(self) -> None:
        """See `HandlerStream`."""
        if not self.is_cut:
            self.handler.close_input()

    def abort(self) -> None:
        """See `HandlerStream`."""
        if not self.is_cut:
            self._port.forget(self)
            self.handler.abort()

    # -- the server's end -------------------------------------------------------------------------

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """See `ServerStream`."""
        if self.is_cut:
            return
        passed: list[FromHandler] = []
        for message in messages:
            reason = self._pass(message, passed)
            if reason is not None:
                if passed:
                    self._stream.on_messages(passed)
                self._cut(reason)
                return
        self._stream.on_messages(passed)

    def _pass(self, message: FromHandler, passed: list[FromHandler]) -> str | None:
        """Let a message through; return why the attempt is to crash before or behind it."""
        crashes = self._port.crashes
        reason: str | None = None
        if isinstance(message, ProposeRunCompletion):
            reason = crashes.hits("during", self._by_completion_id.get(message.completion_id))
            if reason is None:
                passed.append(message)
        elif isinstance(message, Error):
            if message.code == CODE_MISMATCH:
                text = message.message.removesuffix(f" [{JournalMismatch.code}]")
                self._port.on_problem(JournalMismatch(text))
            passed.append(message)
        elif not getattr(message, "key", ""):
            passed.append(message)
        else:
            operation = self._note(message)  # type: ignore[arg-type]  # keys are of commands
            reason = crashes.hits("before", operation)
            if reason is None:
                passed.append(message)
                if getattr(message, "completion_id", None) is None:
                    reason = crashes.hits("after", operation)
        return reason

    def on_closed(self, reason: str | None) -> None:
        """See `ServerStream`."""
        if not self.is_cut:
            self._port.forget(self)
            self._stream.on_closed(reason)

    def _cut(self, reason: str) -> None:
        """Lose the attempt: each side sees what it would see if the other had died."""
        self.is_cut = True
        self._port.forget(self)
        loop = asyncio.get_running_loop()
        loop.call_soon(self._stream.on_closed, f"the test crashed it {reason}")
        handler = getattr(self, "handler", None)
        if handler is not None:
            loop.call_soon(handler.abort)
