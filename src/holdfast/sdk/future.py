"""What durable calls return.

A `DurableFuture` is an `asyncio.Future`: its operation began when it was made, in program order.
Type checkers also see a coroutine, and the task factory of `sdk.loop` takes it like one, so that
`TaskGroup.create_task(ctx.run(…))` works. It is deliberately no coroutine at run time, because
`asyncio.wait` refuses those. Do not add `send`, `throw` and `close`: they would make it one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from holdfast.domain.message import Failure, Result
from holdfast.sdk.branch import is_shielded
from holdfast.sdk.deadline import note_passed
from holdfast.sdk.interrupt import FAILING
from holdfast.sdk.result import error_of

if TYPE_CHECKING:
    import contextvars

    from holdfast.sdk.attempt import Attempt

T = TypeVar("T")

if TYPE_CHECKING:

    class _Base(asyncio.Future[T], Coroutine[Any, Any, T]):
        """What type checkers see."""

        def __await__(self) -> Generator[Any, None, T]: ...

        def send(self, value: Any, /) -> Any: ...

        def throw(self, *args: Any) -> Any: ...

        def close(self) -> None: ...
else:

    class _Base(asyncio.Future, Generic[T]):
        pass


class DurableFuture(_Base[T]):
    """The result of a durable operation. Await it, or pass it to any asyncio combinator.

    Cancelling it drops the interest in the result; the operation itself stays in the journal.

    Args:
        attempt: To which it belongs.
        number: Completion id, or signal index if `is_signal`.
        decode: Makes the value of a result that is no failure.
    """

    def __init__(
        self,
        attempt: Attempt,
        number: int,
        decode: Callable[[Any], T],
        *,
        is_signal: bool = False,
    ) -> None:
        super().__init__(loop=attempt.loop)
        self._attempt = attempt
        self._number = number
        self._decode = decode
        self._is_signal = is_signal
        self._seed = attempt.next_seed()
        self.is_shielded = is_shielded()
        """See `machine.Waiter`."""

    def __hash__(self) -> int:
        # The same on replay, so that sets of futures iterate alike.
        return hash(self._seed)

    def on_result(self, result: Result) -> None:
        """See `machine.Waiter`."""
        if self.done():
            return
        if type(result) is Failure:
            self.on_failure(error_of(result))
            return
        try:
            value = self._decode(result)
        except Exception as error:
            self.on_failure(error)
        else:
            self.set_result(value)

    def on_failure(self, error: BaseException) -> None:
        """See `machine.Waiter`."""
        if not self.done():
            self.set_exception(error)
            # Nobody needs to look at it: the journal keeps it.
            self._log_traceback = False

    def is_awaited(self) -> bool:
        """See `machine.Waiter`."""
        return bool(self._callbacks)

    def cancel(self, msg: Any | None = None) -> bool:
        """Drop the interest in the result. A step whose body is an async function is cancelled."""
        if not super().cancel(msg):
            return False
        self.release()
        return True

    def release(self) -> None:
        """Nobody wants the result any more."""
        if self._is_signal:
            self._attempt.machine.forget_signal(self._number)
        else:
            self._attempt.machine.forget(self._number)
            self._attempt.cancel_step(self._number)


class CallFuture(DurableFuture[T]):
    """The result of `ctx.call`. Cancelling it cancels the called invocation, too."""

    child_completion_id: int
    """Of the id of the called invocation."""
    _invocation_id: DurableFuture[str] | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Drop the interest in the result, and cancel the called invocation durably.

        Nothing happens to it when the attempt ends, whether it waits, fails or is done.
        """
        if not super().cancel(msg):
            return False
        self._attempt.give_up(self._number, is_failing=msg == FAILING)
        return True

    @property
    def invocation_id(self) -> DurableFuture[str]:
        """Id of the called invocation; await it."""
        known = self._invocation_id
        # A wait that was given up, or cancelled with the invocation, says nothing about the id.
        is_lost = known is not None and known.done() and (known.cancelled() or known.exception())
        if known is None or (is_lost and self._attempt.is_open):
            known = self._invocation_id = self._attempt.child_id(self.child_completion_id)
        return known


class Awakeable(DurableFuture[T]):
    """A promise that is completed from outside, by its id. Await it for the value."""

    id: str
    """Stable: the same on every attempt. Give it away freely."""


class SignalFuture(DurableFuture[T]):
    """The next signal of one name."""

    def __init__(self, attempt: Attempt, name: str, decode: Callable[[Any], T]) -> None:
        super().__init__(attempt, 0, decode)
        self._name = name

    def release(self) -> None:
        """Nobody wants it any more: the signal goes to the next one who asks."""
        self._attempt.machine.forget_named(self._name, self)


class DurableTimer:
    """Stands in for `asyncio.TimerHandle`; its callback runs when the durable timer has fired."""

    __slots__ = (
        "_args",
        "_attempt",
        "_callback",
        "_context",
        "_is_cancelled",
        "_number",
        "_when",
        "is_shielded",
    )

    def __init__(
        self,
        attempt: Attempt,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> None:
        self._attempt = attempt
        self._number = 0
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context
        self._is_cancelled = False
        self.is_shielded = is_shielded()

    def started(self, completion_id: int) -> None:
        """Wait for this completion."""
        self._number = completion_id
        self._attempt.machine.expect(completion_id, self)

    def when(self) -> float:
        """See `asyncio.TimerHandle`."""
        return self._when

    def cancel(self) -> None:
        """Drop the interest. The timer itself stays in the journal."""
        self._is_cancelled = True
        self._attempt.machine.forget(self._number)

    def cancelled(self) -> bool:
        """See `asyncio.Handle`."""
        return self._is_cancelled

    def on_result(self, result: Result) -> None:
        """See `machine.Waiter`."""
        if not self._is_cancelled:
            self._attempt.pass_time(self._when)
            note_passed(self._callback, self._args)
            # Through the hook, so that it counts as user code.
            self._attempt.loop.call_soon(self._callback, *self._args, context=self._context)

    def on_failure(self, error: BaseException) -> None:
        """See `machine.Waiter`. Reaches the one who sleeps; other callbacks do not run."""
        future = self._sleeper()
        if future is not None and not future.done():
            future.set_exception(error)
            future._log_traceback = False

    def is_awaited(self) -> bool:
        """See `machine.Waiter`."""
        return True

    def is_sleep(self) -> bool:
        """Return whether somebody waits for this timer itself, as in `asyncio.sleep`."""
        return self._sleeper() is not None

    def _sleeper(self) -> asyncio.Future[Any] | None:
        # `asyncio.sleep` is a timer with this callback and the future that it awaits.
        if self._args and getattr(self._callback, "__name__", "") == _SLEEP_CALLBACK:
            future: Any = self._args[0]
            return future if asyncio.isfuture(future) else None
        return None


_SLEEP_CALLBACK = "_set_result_unless_cancelled"


class Done:
    """What has already happened; may be awaited, need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield

    def __repr__(self) -> str:
        return "<done>"


DONE = Done()
