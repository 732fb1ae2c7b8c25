"""Synchronous handlers: a function in a thread of its own, whose durable calls block.

The handler's task on the event loop and the thread take turns. The thread posts a durable call and
blocks; the task makes it in the handler's branch, awaits it and posts the answer. So all durable
calls come from one task, in program order, and replay like those of an `async def` handler. While
the thread runs, user code counts as busy, so nothing is handed over and nothing suspends.

A thread of its own, and not of the pool for steps: handlers that wait for steps would fill that
pool. What ends an attempt is raised in the thread, at the durable call where it blocks.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import queue
import threading
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from holdfast.domain.errors import UsageError
from holdfast.domain.stream_name import STREAM_DEFAULT
from holdfast.sdk.branch import place
from holdfast.sdk.handler import Handler
from holdfast.sdk.interrupt import Aborted
from holdfast.sdk.loop import hooks_of
from holdfast.sdk.retry import Duration

if TYPE_CHECKING:
    from holdfast.sdk.context import Context

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741
T = TypeVar("T")


running: ContextVar[SyncContext | None] = ContextVar("holdfast_sync_context", default=None)
"""Context of the synchronous handler whose thread this is, or a thread that it made."""


class _Answer(NamedTuple):
    value: Any
    error: BaseException | None


class _Turns:
    """Between the thread of a handler and its task."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self._loop = asyncio.get_running_loop()
        self._posted: asyncio.Future[Callable[[Context], Any] | _Answer] | None = None
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_over = False

    # -- on the event loop -----------------------------------------------------------------------

    async def run(self, fn: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Run a function in a thread, and its durable calls here."""
        context = contextvars.copy_context()
        context.run(place.set, None)
        self._thread = threading.Thread(
            target=context.run, args=(self._run_in_thread, fn, args), daemon=True,
            name=f"holdfast-handler-{self.ctx.id}",
        )  # fmt: skip
        posted = self._expect()
        self._thread.start()
        try:
            while not isinstance(asked := await posted, _Answer):
                answer = await self._perform(asked)
                posted = self._expect()
                self._answers.put(answer)
        finally:
            # If this task was cancelled, the thread hears of it where it blocks, or blocks next.
            self._is_over = True
            self._answers.put(_Answer(None, Aborted("the handler has ended")))
        if asked.error is not None:
            raise asked.error
        value: T = asked.value
        return value

    def _expect(self) -> asyncio.Future[Callable[[Context], Any] | _Answer]:
        self._posted = self._loop.create_future()
        hooks_of(self._loop).count_until_done(self._posted)
        return self._posted

    async def _perform(self, call: Callable[[Context], Any]) -> _Answer:
        try:
            value = call(self.ctx)
            return _Answer(await value if inspect.isawaitable(value) else value, None)
        except GeneratorExit:
            raise
        except BaseException as error:
            return _Answer(None, error)

    def _on_posted(self, what: Callable[[Context], Any] | _Answer) -> None:
        if self._posted is not None and not self._posted.done():
            self._posted.set_result(what)

    # -- in the thread ---------------------------------------------------------------------------

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the handler."""
        return threading.current_thread() is self._thread

    def ask(self, call: Callable[[Context], Any]) -> Any:
        """Make a durable call on the event loop and block until it has its result."""
        if not self.is_here:
            raise UsageError(
                "A durable call in a thread of its own",
                code="HF0502",
                hint="Make it in the thread of the handler, and run blocking functions as steps.",
            )
        if self._is_over:
            raise Aborted("the handler has ended")
        self._post(call)
        answer = self._answers.get()
        if answer.error is not None:
            raise answer.error
        return answer.value

    def _run_in_thread(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            ctx = SyncContext(self)
            running.set(ctx)
            answer = _Answer(fn(ctx, *args), None)
        except BaseException as error:
            answer = _Answer(None, error)
        self._post(answer)

    def _post(self, what: Callable[[Context], Any] | _Answer) -> None:
        try:
            self._loop.call_soon_threadsafe(self._on_posted, what)
        except RuntimeError:  # The loop has been closed: nobody waits for this thread any more.
            self._answers.put(_Answer(None, Aborted("the event loop has ended")))


async def run_in_thread(fn: Callable[..., T], ctx: Context, args: tuple[Any, ...]) -> T:
    """Run a synchronous handler."""
    return await _Turns(ctx).run(fn, args)


class SyncContext:
    """What a synchronous handler gets: the verbs of `Context`, blocking.

    For verbs that are not here, and for several at once, use `do`.
    """

    def __init__(self, turns: _Turns) -> None:
        self._turns = turns

    def do(self, call: Callable[[Context], Awaitable[T]], /) -> T:
        """Make durable calls on the event loop and wait: `ctx.do(lambda c: c.awakeable(name="a"))`.

        The function is called there with the `Context`. It must not block.
        """
        value: T = self._turns.ask(call)
        return value

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the handler, the only one that can make durable calls."""
        return self._turns.is_here

    @property
    def id(self) -> str:
        """See `Context.id`."""
        return self._turns.ctx.id

    @property
    def key(self) -> str:
        """See `Context.key`."""
        return self._turns.ctx.key

    @property
    def headers(self) -> Mapping[str, str]:
        """See `Context.headers`."""
        return self._turns.ctx.headers

    @overload
    def run(
        self, name: str, fn: Callable[..., Awaitable[T]], /, *args: Any, **options: Any
    ) -> T: ...

    @overload
    def run(self, name: str, fn: Callable[..., T], /, *args: Any, **options: Any) -> T: ...

    def run(self, name: str, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        """See `Context.run`, also for the options. The function runs in a thread for steps."""
        return self.do(lambda ctx: ctx.run(name, fn, *args, **options))

    def sleep(self, delay: Duration, name: str = "") -> None:
        """See `Context.sleep`."""
        self.do(lambda ctx: ctx.sleep(delay, name))

    @overload
    def call(self, handler: Handler[None, O], /, **options: Any) -> O: ...

    @overload
    def call(self, handler: Handler[I, O], arg: I, /, **options: Any) -> O: ...

    @overload
    def call(self, handler: str, arg: object = None, /, **options: Any) -> Any: ...

    def call(self, handler: Any, arg: Any = None, /, **options: Any) -> Any:
        """See `Context.call`, also for the options."""
        return self.do(lambda ctx: ctx.call(handler, arg, **options))

    def send(self, handler: Handler[Any, Any] | str, arg: Any = None, /, **options: Any) -> str:
        """See `Context.send`. Returns the id of the new invocation."""
        return self.do(lambda ctx: ctx.send(handler, arg, **options))

    @overload
    def get(self, name: str, /, *, type: type[T]) -> T | None: ...

    @overload
    def get(self, name: str, /, *, type: Any = None) -> Any: ...

    def get(self, name: str, /, *, type: Any = None) -> Any:
        """See `Context.get`."""
        return self.do(lambda ctx: ctx.get(name, type=type))

    def set(self, name: str, value: object, /, **options: Any) -> None:
        """See `Context.set`."""
        self.do(lambda ctx: ctx.set(name, value, **options))

    def clear(self, name: str, /) -> None:
        """See `Context.clear`."""
        self.do(lambda ctx: ctx.clear(name))

    def emit(self, chunk: object, *, stream: str = STREAM_DEFAULT) -> None:
        """Write a chunk to a stream, and wait while the server is behind; see `Context.emit`."""
        self.do(lambda ctx: ctx.stream(stream).emit(chunk))

    def now(self) -> datetime:
        """See `Context.now`."""
        now: datetime = self._turns.ask(lambda ctx: ctx.now())
        return now

    @property
    def random(self) -> Random:
        """See `Context.random`."""
        random: Random = self._turns.ask(lambda ctx: ctx.random)
        return random

    def uuid(self) -> uuid.UUID:
        """See `Context.uuid`."""
        made: uuid.UUID = self._turns.ask(lambda ctx: ctx.uuid())
        return made

    def patched(self, patch_id: str) -> bool:
        """See `Context.patched`."""
        is_patched: bool = self._turns.ask(lambda ctx: ctx.patched(patch_id))
        return is_patched
