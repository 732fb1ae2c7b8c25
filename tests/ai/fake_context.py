"""A durable context over a dictionary, to test integrations without engine and SDK.

It keeps the rules that integrations rely on: results go through JSON, keys come from scopes and
occurrence, nothing durable works inside a step, and what ends an attempt is a `BaseException`.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from holdfast.domain.errors import TerminalError, UsageError

Journal = dict[str, dict[str, Any]]


class Crash(BaseException):
    """The process dies here."""


class AttemptFailed(BaseException):
    """A step failed in a way that is retried with a new attempt."""


@dataclass(frozen=True)
class Retry:
    max_attempts: int = 1


_context: ContextVar[FakeContext | None] = ContextVar("fake_context", default=None)
_path: ContextVar[str] = ContextVar("fake_path", default="")
_in_step: ContextVar[bool] = ContextVar("fake_in_step", default=False)


def current() -> FakeContext:
    """What `hf.current()` is in these tests."""
    context = _context.get()
    if context is None or _in_step.get():
        raise UsageError("there is no durable context here")
    return context


@dataclass
class FakeContext:
    journal: Journal
    id: str = "inv_1"
    crash_after: int | None = None
    """Crash when that many new entries are recorded."""
    executed: list[str] = field(default_factory=list)
    """Keys of the steps whose body ran in this attempt."""
    promises: dict[str, Any] = field(default_factory=dict)
    replayed: set[str] = field(default_factory=set)
    _counts: Counter[str] = field(default_factory=Counter)

    def _key(self, name: str) -> str:
        place = f"{_path.get()}/{name}"
        self._counts[place] += 1
        return f"{place}#{self._counts[place]}"

    async def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[Any]],
        /,
        *args: Any,
        retry: Retry | None = None,
        type: Any = None,
        **kwargs: Any,
    ) -> Any:
        if _in_step.get():
            raise UsageError("a step cannot contain a step")
        key = self._key(name)
        if key in self.journal:
            self.replayed.add(key)
            await asyncio.sleep(0)
        else:
            self.executed.append(key)
            self._commit(key, await self._execute(lambda: fn(*args, **kwargs), retry))
        entry = json.loads(json.dumps(self.journal[key]))
        if "failure" in entry:
            raise TerminalError(entry["failure"], code=entry["code"])
        return entry["value"]

    def _commit(self, key: str, entry: dict[str, Any]) -> None:
        if self.crash_after == 0:
            raise Crash
        self.journal[key] = json.loads(json.dumps(entry))
        if self.crash_after is not None:
            self.crash_after -= 1

    async def _execute(
        self, fn: Callable[[], Awaitable[Any]], retry: Retry | None
    ) -> dict[str, Any]:
        token = _in_step.set(True)
        try:
            for left in reversed(range(retry.max_attempts if retry else 1)):
                try:
                    return {"value": await fn()}
                except TerminalError as error:
                    return {"failure": error.message, "code": error.code}
                except Exception as error:
                    if not left and retry is not None:
                        return {"failure": str(error), "code": 500}
                    if not left:
                        raise AttemptFailed(repr(error)) from error
        finally:
            _in_step.reset(token)
        raise AssertionError

    @contextmanager
    def scope(self, label: str) -> Iterator[None]:
        token = _path.set(self._key(label))
        try:
            yield
        finally:
            _path.reset(token)

    def promise(self, name: str) -> Any:
        """What was decided outside; ends the attempt while there is nothing."""
        if name not in self.promises:
            raise Crash
        return self.promises[name]

    def awakeable(self, *, type: Any) -> FakeAwakeable:
        return FakeAwakeable(self, f"awk_{self._key('awakeable')}")


@dataclass
class FakeAwakeable:
    context: FakeContext
    id: str

    def __await__(self) -> Generator[Any, None, Any]:
        yield from asyncio.sleep(0).__await__()
        return self.context.promise(self.id)


async def attempt(context: FakeContext, handler: Callable[[], Awaitable[Any]]) -> Any:
    """Run one attempt of a handler."""

    async def body() -> Any:
        _context.set(context)
        return await handler()

    return await asyncio.create_task(body())
