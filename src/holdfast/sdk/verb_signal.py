"""The verbs for named signals: messages from outside to a running invocation."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from holdfast.domain.message import Failure, Outcome, Value
from holdfast.domain.signal_name import check_signal_name
from holdfast.sdk.branch import call_site
from holdfast.sdk.future import DONE, Done, DurableFuture, SignalFuture
from holdfast.sdk.result import decoder
from holdfast.sdk.serde import serde_for
from holdfast.sdk.verb import Verbs, encode_value, serde_of

T = TypeVar("T")


class SignalVerbs(Verbs):
    """Wait for signals, and send them to other invocations."""

    __slots__ = ()

    @overload
    def signal(self, name: str, type: type[T]) -> DurableFuture[T]: ...

    @overload
    def signal(self, name: str, type: Any = None) -> DurableFuture[Any]: ...

    def signal(self, name: str, type: Any = None) -> DurableFuture[Any]:
        """Take the next signal of this name: those that have come are kept, in order of arrival.

        Cancel the future, or let a timeout do it, and the signal goes to the next one who asks.

        Args:
            name: 1 to 256 characters. Let one task of a handler take the signals of one name.
            type: Of the value; None: JSON without a type.

        Raises:
            TerminalError: At the await: the signal is a rejection.
            UsageError: HF0520, no name for a signal.
        """
        self._branch("signal")
        check_signal_name(name)
        serde = serde_for(Any if type is None else type)
        future: SignalFuture[Any] = SignalFuture(self._attempt, name, decoder(serde))
        self._attempt.machine.expect_named(name, future)
        return future

    def send_signal(
        self, invocation_id: str, name: str, value: object = None, *, type: Any = None
    ) -> Done:
        """Send a signal to another invocation. Nothing happens if that is not there any more.

        Raises:
            UsageError: HF0507 no invocation id, HF0520 no name for a signal.
        """
        content = encode_value(serde_of(value, type), value, f"Signal {name!r}")
        return self._send("send_signal", invocation_id, name, Value(content))

    def reject_signal(self, invocation_id: str, name: str, reason: str, *, code: int = 500) -> Done:
        """Send a failure as signal: `TerminalError` where it is awaited. See `send_signal`."""
        return self._send("reject_signal", invocation_id, name, Failure(code, reason))

    def _send(self, verb: str, invocation_id: str, name: str, result: Outcome) -> Done:
        branch = self._branch(verb)
        check_signal_name(name)
        target = self._target(verb, invocation_id)
        key = branch.key(verb, f"{target} {name}")
        machine = self._attempt.machine
        self._act(machine.sys_signal, branch.path, key, target, name, result, call_site())
        return DONE
