"""Makes one real request and follows its answer, on the event loop or in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import NamedTuple

from holdfast.ai.http.journal import ModelRefused
from holdfast.ai.http.listener import Listener
from holdfast.ai.http.recorded import Recorded
from holdfast.ai.provider.route import ModelRequest

_DRAIN_S = 0.05
"""For what comes behind the end of a stream, so that its connection can be used again."""


class Response(NamedTuple):
    """An answer that has begun to arrive."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    chunks: AsyncIterator[bytes]
    """The body without its encodings."""
    close: Callable[[], Awaitable[object]]


class SyncResponse(NamedTuple):
    """The same, for code that blocks."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]
    close: Callable[[], object]


_is_inside: ContextVar[bool] = ContextVar("holdfast_http_inside", default=False)


def is_inside() -> bool:
    """Return whether a request is on its way already: one client may work through another."""
    return _is_inside.get()


@contextmanager
def inside() -> Generator[None]:
    """Let the requests of the code in it pass as they are."""
    token = _is_inside.set(True)
    try:
        yield
    finally:
        _is_inside.reset(token)


async def perform(request: ModelRequest, send: Callable[[], Awaitable[Response]]) -> Recorded:
    """Make a request. Its connection is closed when this is cancelled.

    Raises:
        ModelRefused: The answer is an error.
        StreamBroken: A stream ended before its answer did.
        Exception: Of the HTTP library.
    """
    listener = Listener(request)
    with inside(), _described(listener):
        response = await send()
        try:
            listener.begin(response.status, response.headers)
            async for chunk in response.chunks:
                if listener.feed(chunk):
                    await _drain(response.chunks)
                    break
        finally:
            await response.close()
        return _checked(listener.close())


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    with suppress(Exception):
        # The answer is whole; whatever happens to its connection now is no failure of it.
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                continue


def perform_sync(request: ModelRequest, send: Callable[[], SyncResponse]) -> Recorded:
    """Make a request in this thread. Raises what `perform` does."""
    listener = Listener(request)
    with inside(), _described(listener):
        response = send()
        try:
            listener.begin(response.status, response.headers)
            for chunk in response.chunks:
                if listener.feed(chunk):
                    break
        finally:
            response.close()
        return _checked(listener.close())


@contextmanager
def _described(listener: Listener) -> Generator[None]:
    try:
        yield
    except BaseException as error:
        listener.describe(error)
        raise
    listener.describe()


def _checked(answer: Recorded) -> Recorded:
    if answer.status >= 400:
        raise ModelRefused(answer)
    return answer
