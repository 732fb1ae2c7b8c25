"""The body of one step: running it, and turning what it does into an outcome."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from holdfast.domain.errors import UsageError
from holdfast.domain.message import Result, Value
from holdfast.sdk.branch import Leaf, place
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.serde import OCTETS, Serde, SerdeError, serde_for
from holdfast.sdk.unknown import Happened, NotHappened, OnUnknown, idempotency_key


class Step:
    """A step whose body is running, or is about to.

    Args:
        context: A copy of the caller's context; the body's place is set to a leaf in it.
    """

    __slots__ = (
        "_args",
        "_content",
        "_context",
        "_fn",
        "_kwargs",
        "_serde",
        "_value",
        "command_index",
        "completion_id",
        "is_unknown",
        "leaf",
        "name",
        "on_unknown",
        "retry",
        "task",
    )

    def __init__(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        serde: Serde[Any],
        retry: RetryPolicy | None,
        on_unknown: OnUnknown,
    ) -> None:
        self.name = name
        self.retry = retry
        self.on_unknown: OnUnknown = on_unknown
        self.is_unknown = False
        """Whether an earlier try may have happened, and `on_unknown` has not found out yet."""
        self.completion_id = 0
        self.command_index = 0
        self.task: asyncio.Task[None] | None = None
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._serde = serde
        self._context = contextvars.copy_context()
        self.leaf = Leaf(name)
        self._context.run(place.set, self.leaf)
        self._content: bytes | None = None
        self._value: Any = None

    @property
    def key(self) -> str:
        """Journal key."""
        return self.leaf.step_key

    @property
    def is_guarded(self) -> bool:
        """Whether its body may begin only when that is recorded."""
        return self.on_unknown != "retry"

    @property
    def context(self) -> contextvars.Context:
        """In which the body runs."""
        return self._context

    async def execute(self, executor: Callable[[], Executor]) -> Value:
        """Run the body, in a thread if it is no coroutine function, and encode what it returns.

        Raises:
            SerdeError: The result cannot be recorded.
            BaseException: Of the body.
        """
        if self.is_unknown:
            found = await self._verify(executor)
            self.is_unknown = False
            if isinstance(found, Happened):
                return self._record(found.value)
        return self._record(await self._call(executor, self._fn, self._args))

    async def _verify(self, executor: Callable[[], Executor]) -> Happened[Any] | NotHappened:
        """Find out whether it has happened.

        Raises:
            UsageError: HF0583, the answer is none.
            BaseException: Of the function.
        """
        assert callable(self.on_unknown), "others need no body"
        asked = (idempotency_key(), *self._args)
        found: Happened[Any] | NotHappened = await self._call(executor, self.on_unknown, asked)
        # Callers without type checks may return anything.
        if not isinstance(found, Happened | NotHappened):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"The on_unknown= function of step {self.name!r} must return hf.Happened(value) or "
                f"hf.NotHappened(), not {found!r}",
                code="HF0583",
                hint="If it cannot tell, let it raise an exception: it is called again later.",
            )
        return found

    async def _call(
        self, executor: Callable[[], Executor], fn: Callable[..., Any], args: tuple[Any, ...]
    ) -> Any:
        if _is_async(fn):
            return await fn(*args, **self._kwargs)
        call = functools.partial(fn, *args, **self._kwargs)
        # The thread has a context of its own: one cannot be entered twice at a time.
        run = self._context.copy().run
        value = await asyncio.get_running_loop().run_in_executor(executor(), run, call)
        return await value if inspect.isawaitable(value) else value

    def _record(self, value: Any) -> Value:
        try:
            self._content = self._serde.encode(value)
            # What was read back once need not be read again when the record arrives.
            self._value = self._serde.decode(self._content)
        except SerdeError as error:
            raise SerdeError(
                f"The result of step {self.name!r} cannot be recorded: {error.message}",
                hint=error.hint,
            ) from error
        return Value(self._content)

    def recordable_json(self, content: bytes) -> Value:
        """Return as its result what a person says it was: JSON, base64 for a result of bytes.

        Raises:
            SerdeError: It does not fit.
        """
        if self._serde.content_type == OCTETS:
            return self._record(serde_for(bytes | None).decode(content))
        return self._record(self._serde.decode(content))

    def decode(self, result: Result) -> Any:
        """Return the value of a recorded result."""
        content = result.content if isinstance(result, Value) else b""
        if self._content == content:
            return self._value
        try:
            return self._serde.decode(content)
        except SerdeError as error:
            raise SerdeError(
                f"The recorded result of step {self.name!r} does not fit: {error.message}",
                hint="The type changed under a running invocation: keep it readable for open runs.",
            ) from error


def _is_async(fn: Callable[..., Any]) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    code = getattr(fn, "__code__", None)
    if code is not None:
        return bool(code.co_flags & inspect.CO_COROUTINE) or inspect.iscoroutinefunction(fn)
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
