"""Hooks on a running event loop, so that ordinary asyncio is durable inside handlers.

Installed on the loop *instance*, once, around what is there; outside of handlers they pass on.

- **Tasks.** The task factory gives a task made in a branch a child branch, labelled by the
  coroutine's qualified name. Labels count per parent and name, so noise elsewhere does not shift
  them.
- **Quiescence.** C tasks and futures schedule themselves through `loop.call_soon`, looked up on
  the instance. Callbacks whose context is in a live branch are counted; at zero all user code of
  that attempt waits, and the attempt may hand over the next notification.
- **Time.** In a live branch `loop.time()` is the program's clock, and `call_at` and `call_later`
  are durable timers. So `asyncio.sleep`, `timeout`, `wait_for` and `wait(timeout=)` are, too.
- **Threads.** While `run_in_executor` works for a live branch, user code does not count as waiting.

Neither asyncio nor uvloop is imported for its internals; what is replaced are public methods.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable, Coroutine
from types import FrameType, MethodType
from typing import TYPE_CHECKING, Any, cast

from holdfast.sdk.branch import Branch, place
from holdfast.sdk.deadline import note_passed
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.interrupt import FAILING, is_aftermath
from holdfast.sdk.result import is_final
from holdfast.sdk.thread import run_counted

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

_INSTALLED = "_holdfast_hooks"


class HandlerTask(asyncio.Task[Any]):
    """A task of user code, whose cancellations say whether each further attempt sees them, too."""

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it; see `asyncio.Task`. Nobody but asyncio, races and attempts gives a message."""
        if msg is None:
            msg = _why_cancelled(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
        return super().cancel(msg)


class BranchTask(HandlerTask):
    """A task with a hash that is the same on replay: so sets of tasks iterate alike."""

    def __init__(
        self, seed: tuple[int, int], coro: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> None:
        self._holdfast_hash = hash(seed)
        super().__init__(coro, **kwargs)

    def __hash__(self) -> int:
        return self._holdfast_hash


class _Counted:
    """A callback of user code that was scheduled and has not run. Also stands in for its handle."""

    __slots__ = ("_args", "_attempt", "_callback", "handle")

    handle: asyncio.Handle

    def __init__(
        self, attempt: Attempt, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self._attempt: Attempt | None = attempt
        self._callback = callback
        self._args = args

    def __call__(self) -> None:
        try:
            self._callback(*self._args)
        finally:
            self._leave()

    def _leave(self) -> None:
        attempt = self._attempt
        if attempt is not None:
            self._attempt = None
            attempt.busy -= 1
            if not attempt.busy:
                attempt.on_quiescent()

    def on_done(self, _: object) -> None:
        """Stop counting: for work that is not a callback."""
        self._leave()

    def cancel(self) -> None:
        """See `asyncio.Handle`."""
        self.handle.cancel()
        self._leave()

    def cancelled(self) -> bool:
        """See `asyncio.Handle`."""
        return self.handle.cancelled()

    def __repr__(self) -> str:
        # Not the handle: in debug mode asyncio describes that by its callback, which is this.
        return f"<durable {self._callback!r}>"


class Hooks:
    """The hooks of one event loop, and its original methods."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.call_soon = loop.call_soon
        """The loop's own: nothing is counted."""
        self._time = loop.time
        self._call_at = loop.call_at
        self._call_later = loop.call_later
        self._run_in_executor = loop.run_in_executor
        self._call_exception_handler = loop.call_exception_handler
        self._factory_before: Any = None
        target: Any = loop
        target.call_soon = self._hooked_call_soon
        target.time = self._hooked_time
        target.call_at = self._hooked_call_at
        target.call_later = self._hooked_call_later
        target.run_in_executor = self._hooked_run_in_executor
        target.call_exception_handler = self._hooked_call_exception_handler
        target.__dict__[_INSTALLED] = self
        self.chain_factory()

    def chain_factory(self) -> None:
        """Make sure that tasks come to us first; a factory that is set meanwhile is kept behind."""
        current = self._loop.get_task_factory()
        if current != self._hooked_factory:
            self._factory_before = current
            self._loop.set_task_factory(self._hooked_factory)

    # The hooks are on every callback of the process, so they do little before they know better.

    def _hooked_call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        branch = place.get() if context is None else context.get(place)
        if branch is None or (attempt := branch.attempt) is None or not attempt.is_counting:
            return self.call_soon(callback, *args, context=context)
        attempt.busy += 1
        if type(callback) is MethodType:
            note_passed(callback, args)
        counted = _Counted(attempt, callback, args)
        counted.handle = self.call_soon(counted, context=context)
        return counted

    def _hooked_time(self) -> float:
        branch = place.get()
        if branch is None or (attempt := branch.attempt) is None or not attempt.is_open:
            return self._time()
        assert isinstance(branch, Branch)
        attempt.read_clock(branch)
        return attempt.time_s

    def _hooked_call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        branch = place.get() if context is None else context.get(place)
        if branch is None or (attempt := branch.attempt) is None or not attempt.is_open:
            return self._call_at(when, callback, *args, context=context)
        assert isinstance(branch, Branch)
        return attempt.start_timer(branch, when, callback, args, context)

    def _hooked_call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Any:
        branch = place.get() if context is None else context.get(place)
        if branch is None or (attempt := branch.attempt) is None or not attempt.is_open:
            return self._call_later(delay, callback, *args, context=context)
        assert isinstance(branch, Branch)
        return attempt.start_timer(branch, attempt.time_s + delay, callback, args, context)

    def _hooked_run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        branch = place.get()
        if branch is not None and (attempt := branch.attempt) is not None and attempt.is_counting:
            func = functools.partial(run_counted, attempt, func)
        future = self._run_in_executor(executor, func, *args)
        self.count_until_done(future)
        return future

    def count_until_done(self, future: asyncio.Future[Any]) -> None:
        """Let the running user code count as busy until a future is done."""
        branch = place.get()
        if branch is not None and (attempt := branch.attempt) is not None and attempt.is_counting:
            attempt.busy += 1
            future.add_done_callback(_Counted(attempt, _nothing, ()).on_done)

    def _hooked_call_exception_handler(self, context: dict[str, Any]) -> None:
        # What an ended attempt leaves behind, such as a `gather` that nobody awaited, is no news.
        if not is_aftermath(context.get("exception")):
            self._call_exception_handler(context)

    def _hooked_factory(
        self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any
    ) -> asyncio.Future[Any]:
        context: contextvars.Context | None = kwargs.get("context")
        branch = place.get() if context is None else context.get(place)
        is_future = isinstance(coro, DurableFuture)
        if is_future:
            coro = _await(cast("DurableFuture[Any]", coro))
        attempt = None if branch is None else branch.attempt
        if attempt is None or not attempt.is_counting:
            return self._make_task(loop, coro, kwargs)
        assert isinstance(branch, Branch)
        if branch.made_early:
            early = branch.made_early.pop(id(coro), None)
            if early is not None:
                return early
        elif siblings := _siblings_in_as_completed(coro):
            branch.made_early = {
                id(sibling): self._make_branch_task(attempt, branch, sibling, context, kwargs)
                for sibling in siblings
            }
            return branch.made_early.pop(id(coro))
        if is_future:
            return self._make_branch_task(attempt, None, coro, context, kwargs)
        return self._make_branch_task(attempt, branch, coro, context, kwargs)

    def _make_branch_task(
        self,
        attempt: Attempt,
        parent: Branch | None,
        coro: Any,
        context: contextvars.Context | None,
        kwargs: dict[str, Any],
    ) -> asyncio.Future[Any]:
        """Make a task of user code, in a child of `parent`, or in the branch it is made in."""
        # A copy also of a context that was given: it may be shared by tasks that are not siblings.
        context = contextvars.copy_context() if context is None else context.copy()
        if parent is not None:
            context.run(place.set, parent.child(_label(coro)))
        kwargs = {**kwargs, "context": context}
        if self._factory_before is None:
            task: asyncio.Future[Any] = BranchTask(
                attempt.next_seed(), coro, loop=self._loop, **kwargs
            )
        else:
            task = self._factory_before(self._loop, coro, **kwargs)
        attempt.add_task(task)
        return task

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Any, kwargs: dict[str, Any]
    ) -> asyncio.Future[Any]:
        if self._factory_before is None:
            return asyncio.Task(coro, loop=loop, **kwargs)
        task: asyncio.Future[Any] = self._factory_before(loop, coro, **kwargs)
        return task


def hooks_of(loop: asyncio.AbstractEventLoop) -> Hooks:
    """Return the hooks of this loop, and install them if they are not. Idempotent."""
    hooks: Hooks | None = loop.__dict__.get(_INSTALLED)
    if hooks is None:
        return Hooks(loop)
    hooks.chain_factory()
    return hooks


async def _await(future: DurableFuture[Any]) -> Any:
    return await future


def _nothing() -> None: ...


# -- cancellations --------------------------------------------------------------------------------

_group = vars(asyncio.TaskGroup)
_ABORT, _ON_TASK_DONE = _group["_abort"].__code__, _group["_on_task_done"].__code__


def _why_cancelled(frame: FrameType) -> str | None:
    """Return the message of a cancellation that has none, from who makes it.

    A task group cancels its tasks and its parent because of an error, which is in the frame. Who
    cancels others on being cancelled passes on why.
    """
    handled = sys.exception()
    if isinstance(handled, asyncio.CancelledError):
        return None if is_final(handled) else str(handled.args[0])
    if frame.f_code is _ABORT and frame.f_back is not None:
        frame = frame.f_back
    elif frame.f_code is not _ON_TASK_DONE:
        return None
    error = frame.f_locals.get("exc")
    return FAILING if isinstance(error, BaseException) and not is_final(error) else None


# -- children -------------------------------------------------------------------------------------

_AS_COMPLETED = {
    code
    for function in (
        asyncio.as_completed,
        getattr(getattr(asyncio.tasks, "_AsCompletedIterator", None), "__init__", None),
    )
    if (code := getattr(function, "__code__", None)) is not None
}


def _label(coro: Any) -> str:
    return getattr(coro, "__qualname__", None) or type(coro).__qualname__


def _siblings_in_as_completed(coro: Any) -> list[Any]:
    """Return the coroutines that `asyncio.as_completed` makes tasks of, in the caller's order.

    It puts them into a set first. The order of that set depends on addresses in memory, so it would
    differ on replay: then their tasks are made here, all at once and in order.
    """
    frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    for _ in range(5):
        back = frame.f_back
        if back is None:
            return []
        frame = back
        if frame.f_code in _AS_COMPLETED:
            break
    else:
        return []
    values = frame.f_locals
    given: Any = values["fs"] if "fs" in values else values["aws"]
    if not issubclass(type(given), list | tuple):
        return []
    coros = [item for item in dict.fromkeys(given) if not asyncio.isfuture(item)]
    return coros if any(item is coro for item in coros) else []
