"""The body of one step: running it, and turning what it does into an outcome."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from holdfast.domain.message import Result, Value
from holdfast.sdk.branch import Leaf, place
from holdfast.sdk.retry import RetryPolicy
from holdfast.sdk.serde import Serde, SerdeError


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
        "name",
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
    ) -> None:
        self.name = name
        self.retry = retry
        self.completion_id = 0
        self.command_index = 0
        self.task: asyncio.Task[None] | None = None
        self._fn = fn
        self._args = args
        self._kwargs = kwargs
        self._serde = serde
        self._context = contextvars.copy_context()
        self._context.run(place.set, Leaf(name))
        self._content: bytes | None = None
        self._value: Any = None

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
        if _is_async(self._fn):
            value = await self._fn(*self._args, **self._kwargs)
        else:
            call = functools.partial(self._fn, *self._args, **self._kwargs)
            # The thread has a context of its own: one cannot be entered twice at a time.
            run = self._context.copy().run
            value = await asyncio.get_running_loop().run_in_executor(executor(), run, call)
            if inspect.isawaitable(value):
                value = await value
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
