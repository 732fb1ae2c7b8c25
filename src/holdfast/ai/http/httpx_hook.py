"""The seam of `httpx` and `httpx2`, which have the same shape: `send` of their clients.

Nothing is imported here: the libraries are those that the program has loaded.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

from holdfast.ai.guard import warn_if_outside, warn_once, whereabouts
from holdfast.ai.http.journal import DECIDED, NO_RETRY, Answer, journaled
from holdfast.ai.http.listener import Listener
from holdfast.ai.http.perform import (
    Response,
    SyncResponse,
    inside,
    is_inside,
    perform,
    perform_sync,
)
from holdfast.ai.http.recorded import Recorded
from holdfast.ai.provider.route import ModelRequest, model_request
from holdfast.ai.record import observation
from holdfast.sdk.sync import running
from holdfast.sdk.thread import call_from_thread, can_call

_AGAIN_HEADER = "x-stainless-retry-count"
"""Says which try of the client it is, from 0."""
_ENCODING_HEADERS = frozenset({"content-encoding", "content-length", "transfer-encoding"})

Send = Callable[..., Any]
"""`send` of a client, unbound."""


def durable_send(original: Send, module: Any) -> Send:
    """Return a replacement for `AsyncClient.send` of a module."""

    @functools.wraps(original)
    async def send(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        found = None if is_inside() else _model_request(request)
        if found is None:
            return await original(client, request, stream=stream, **options)
        where = whereabouts()
        if where == "step":
            return await _observed(original, module, found, client, request, stream, options)
        if where != "handler":
            _warn(where)
            return await original(client, request, stream=stream, **options)

        async def begin() -> Response:
            response = await original(client, request, stream=True, **options)
            return Response(
                response.status_code, _lower(response), response.aiter_bytes(), response.aclose
            )

        answer = await journaled(
            lambda: perform(found, begin), request=found, is_again=_is_again(request)
        )
        response = _rebuilt(module, client, request, answer, AsyncBody)
        if not stream:
            await response.aread()
        return response

    return send


def durable_send_sync(original: Send, module: Any) -> Send:
    """Return a replacement for `Client.send` of a module."""

    @functools.wraps(original)
    def send(client: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        found = None if is_inside() else _model_request(request)
        if found is None:
            return original(client, request, stream=stream, **options)
        if whereabouts() == "step":
            return _observed_sync(original, module, found, client, request, stream, options)

        def begin() -> SyncResponse:
            response = original(client, request, stream=True, **options)
            return SyncResponse(
                response.status_code, _lower(response), response.iter_bytes(), response.close
            )

        async def make() -> Answer:
            return await journaled(
                lambda: asyncio.to_thread(perform_sync, found, begin),
                request=found,
                is_again=_is_again(request),
            )

        ctx = running.get()
        if ctx is not None and ctx.is_here:
            answer = ctx.do(lambda _: make())
        elif can_call():
            answer = call_from_thread(_label(request), make)
        else:
            _warn(whereabouts())
            return original(client, request, stream=stream, **options)
        response = _rebuilt(module, client, request, answer, SyncBody)
        if not stream:
            response.read()
        return response

    return send


def _model_request(request: Any) -> ModelRequest | None:
    if request.method != "POST":
        return None
    try:
        content: bytes = request.content
    except Exception:
        # A body that is produced while it is sent: an upload, and no model call.
        return None
    return model_request(request.method, request.url.host, request.url.path, content)


def _is_again(request: Any) -> bool:
    return str(request.headers.get(_AGAIN_HEADER, "0")) != "0"


def _label(request: Any) -> str:
    digest = hashlib.blake2b(request.content, digest_size=8).hexdigest()
    return f"thread:{digest}"


def _lower(response: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _warn(where: str) -> None:
    if where == "outside":
        warn_if_outside("A model call")
    elif where == "handler":
        warn_once(
            "a blocking client makes a model call on the event loop of an async handler: it holds "
            "up everything else, and it is not recorded. Use the async client, or a handler that "
            "is no `async def`"
        )
    else:
        warn_once(
            "a model call in a thread of its own below a handler is not recorded: make it in the "
            "handler, or in a thread of asyncio.to_thread"
        )


# -- responses ------------------------------------------------------------------------------------


class AsyncBody:
    """A recorded body as an `AsyncByteStream`."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._recorded.chunks:
            yield chunk

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


class SyncBody:
    """A recorded body as a `SyncByteStream`."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded

    def __iter__(self) -> Iterator[bytes]:
        return self._recorded.chunks

    def close(self) -> None:
        """Do nothing: there is no connection."""


def _rebuilt(module: Any, client: Any, request: Any, answer: Answer, body: type[Any]) -> Any:
    kept = answer.recorded
    response = module.Response(
        kept.status,
        headers={**kept.headers, **(NO_RETRY if answer.is_decided else {})},
        stream=_stream(module, body(kept)),
        request=request,
        extensions={"http_version": b"HTTP/1.1", **(DECIDED if answer.is_decided else {})},
    )
    response.elapsed = timedelta(0)
    return response


def _stream(module: Any, body: Any) -> Any:
    """Make a body a stream of the module, which looks at the type."""
    is_async = hasattr(body, "__aiter__")
    base = module.AsyncByteStream if is_async else module.SyncByteStream
    kind = body.__class__
    body.__class__ = _stream_types.setdefault((base, kind), type(kind.__name__, (kind, base), {}))
    return body


_stream_types: dict[tuple[Any, type[Any]], type[Any]] = {}
"""Made once for each kind of body and library."""


# -- in the body of a step ------------------------------------------------------------------------


class _Tee:
    """A live body that a listener follows."""

    def __init__(self, response: Any, listener: Listener) -> None:
        self._response = response
        self._listener = listener
        self._follower = _Follower(listener)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.aiter_bytes():
            self._follower.feed(chunk)
            yield chunk

    async def aclose(self) -> None:
        self._follower.close()
        await self._response.aclose()


class _SyncTee:
    """The same, for code that blocks."""

    def __init__(self, response: Any, listener: Listener) -> None:
        self._response = response
        self._follower = _Follower(listener)

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._response.iter_bytes():
            self._follower.feed(chunk)
            yield chunk

    def close(self) -> None:
        self._follower.close()
        self._response.close()


class _Follower:
    """Lets a listener follow what others read, whatever happens to it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._error: Exception | None = None
        self._is_closed = False

    def feed(self, chunk: bytes) -> None:
        if self._error is None:
            try:
                self._listener.feed(chunk)
            except Exception as error:
                # The client reads the same bytes, and says so in its own way.
                self._error = error

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._listener.describe(self._error)


async def _observed(
    original: Send,
    module: Any,
    found: ModelRequest,
    client: Any,
    request: Any,
    stream: bool,
    options: dict[str, Any],
) -> Any:
    """Make a request, and describe it to the step."""
    listener = Listener(found)
    try:
        with inside():
            response = await original(client, request, stream=True, **options)
    except BaseException as error:
        listener.describe(error)
        raise
    seen = _teed(module, request, response, listener, _Tee)
    if not stream:
        try:
            await seen.aread()
        finally:
            await seen.aclose()
    return seen


def _observed_sync(
    original: Send,
    module: Any,
    found: ModelRequest,
    client: Any,
    request: Any,
    stream: bool,
    options: dict[str, Any],
) -> Any:
    listener = Listener(found)
    try:
        with inside():
            response = original(client, request, stream=True, **options)
    except BaseException as error:
        listener.describe(error)
        raise
    seen = _teed(module, request, response, listener, _SyncTee)
    if not stream:
        try:
            seen.read()
        finally:
            seen.close()
    return seen


def _teed(module: Any, request: Any, response: Any, listener: Listener, body: type[Any]) -> Any:
    listener.begin(response.status_code, _lower(response))
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in _ENCODING_HEADERS
    ]
    if response.status_code >= 400 and observation() is not None:
        # The step tries again, and its client must not multiply that.
        headers += NO_RETRY.items()
    seen = module.Response(
        response.status_code,
        headers=headers,
        stream=_stream(module, body(response, listener)),
        request=request,
        extensions=response.extensions,
        history=response.history,
    )
    seen.elapsed = timedelta(0)
    return seen
