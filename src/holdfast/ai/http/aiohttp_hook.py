"""The seam of `aiohttp`: the method that each request of a session goes through.

It has no transport to replace, so a recorded answer becomes a `ClientResponse` that is filled by
hand, in the way that the library fills one itself.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.ai.guard import warn_if_outside, whereabouts
from holdfast.ai.http.journal import DECIDED, NO_RETRY, Answer, journaled
from holdfast.ai.http.listener import Listener, StreamBroken
from holdfast.ai.http.perform import Response, inside, is_inside, perform
from holdfast.ai.http.recorded import recorded
from holdfast.ai.provider.route import ModelRequest, model_request

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_BUFFER_SIZE_BYTES = 2**16


def durable_request(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a replacement for `ClientSession._request`."""

    @functools.wraps(original)
    async def request(session: Any, method: str, str_or_url: Any, **options: Any) -> Any:
        found = None if is_inside() else _model_request(session, method, str_or_url, options)
        where = whereabouts()
        if found is None or where in ("outside", "thread"):
            if found is not None:
                warn_if_outside("A model call")
            return await original(session, method, str_or_url, **options)
        if where == "step":
            return await _observed(original, found, session, method, str_or_url, options)
        check = options.pop("raise_for_status", None)

        async def begin() -> Response:
            response = await original(
                session, method, str_or_url, **options, raise_for_status=False
            )
            return Response(
                response.status, _lower(response), _chunks(response), _closing(response)
            )

        answer = await journaled(lambda: perform(found, begin), request=found, is_again=False)
        response = _rebuilt(session, method, str_or_url, answer)
        await _check(session, response, check)
        return response

    return request


def _model_request(
    session: Any, method: str, str_or_url: Any, options: dict[str, Any]
) -> ModelRequest | None:
    if method.upper() != "POST":
        return None
    given = options.get("json")
    if given is not None:
        try:
            content = msgspec.json.encode(given)
        except (TypeError, ValueError):
            # What the session's own encoder may know. It is no model call that we can read.
            return None
    else:
        data = options.get("data")
        if not isinstance(data, str | bytes):
            return None
        content = data.encode() if isinstance(data, str) else data
    url = session._build_url(str_or_url)
    return model_request("POST", url.host or "", url.path, content)


def _lower(response: ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _chunks(response: ClientResponse) -> AsyncIterator[bytes]:
    return response.content.iter_any()


def _closing(response: ClientResponse) -> Callable[[], Any]:
    async def close() -> None:
        # An answer that was read to its end gives its connection back; any other one closes it.
        if response.content.at_eof():
            response.release()
        else:
            response.close()

    return close


async def _check(session: Any, response: ClientResponse, check: Any) -> None:
    """Do what the session or the caller wants done about error statuses."""
    wanted = session._raise_for_status if check is None else check
    if wanted is True:
        response.raise_for_status()
    elif callable(wanted):
        result = wanted(response)
        if inspect.isawaitable(result):
            await result


class _Sent:
    """Stands in for the writer of a request that nobody had to send."""

    output_size = 0


def _rebuilt(session: Any, method: str, str_or_url: Any, answer: Answer) -> ClientResponse:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler
    from multidict import CIMultiDict, CIMultiDictProxy

    loop = asyncio.get_running_loop()
    kept = answer.recorded
    url = session._build_url(str_or_url)
    headers = CIMultiDictProxy(
        CIMultiDict({**kept.headers, **(NO_RETRY if answer.is_decided else {})})
    )
    none: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())
    known: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": None,
        "request_info": aiohttp.RequestInfo(url, method.upper(), none, url),
        "traces": [],
        "loop": loop,
        "session": session,
        "stream_writer": _Sent(),
    }
    # The library has added arguments over time; older versions know fewer.
    taken = inspect.signature(aiohttp.ClientResponse.__init__).parameters
    response: Any = aiohttp.ClientResponse(
        method.upper(), url, **{name: value for name, value in known.items() if name in taken}
    )
    response.version = aiohttp.HttpVersion11
    response.status = kept.status
    response.reason = "" if kept.status < 400 else "model error"
    response._headers = headers
    response._raw_headers = tuple((k.encode(), v.encode()) for k, v in headers.items())
    # Larger than the body: a reader that is full wants its connection to pause, and has none.
    limit = max(_BUFFER_SIZE_BYTES, len(kept.content))
    content = aiohttp.StreamReader(ResponseHandler(loop), limit, loop=loop)
    for chunk in kept.chunks:
        content.feed_data(chunk)
    content.feed_eof()
    response.content = content
    response.extensions = DECIDED if answer.is_decided else {}
    made: ClientResponse = response
    return made


async def _observed(
    original: Callable[..., Any],
    found: ModelRequest,
    session: Any,
    method: str,
    str_or_url: Any,
    options: dict[str, Any],
) -> Any:
    """Make a request in the body of a step, and describe it to that.

    The step takes the whole answer in any case, so it is read here; its text goes to the stream of
    the invocation as it comes.
    """
    check = options.pop("raise_for_status", None)
    listener = Listener(found)
    try:
        with inside():
            response = await original(
                session, method, str_or_url, **options, raise_for_status=False
            )
            headers = _lower(response)
            listener.begin(response.status, headers)
            content = b""
            async for chunk in _chunks(response):
                content += chunk
                _feed(listener, chunk)
    except BaseException as error:
        listener.describe(error)
        raise
    listener.describe()
    answer = Answer(recorded(response.status, headers, content), is_decided=False)
    rebuilt = _rebuilt(session, method, str_or_url, answer)
    await _check(session, rebuilt, check)
    return rebuilt


def _feed(listener: Listener, chunk: bytes) -> None:
    try:
        listener.feed(chunk)
    except StreamBroken:
        # The client reads the same bytes, and says so in its own way.
        return
