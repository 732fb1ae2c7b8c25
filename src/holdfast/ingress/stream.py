"""The routes for streams: what an invocation writes while it runs, as server-sent events.

`GET /holdfast/v1/invocations/{id}/stream` reads a stream, `POST /holdfast/v1/stream/…` makes an
invocation and reads at once. A reader that lost its connection asks again with the id of the last
event that it has, `Last-Event-ID`, and misses nothing and gets nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Hashable
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs

import msgspec

from holdfast.domain.errors import StorageError, StorageUnavailable
from holdfast.domain.stream_name import STREAM_DEFAULT, checked_stream_name
from holdfast.engine.row import StreamRow
from holdfast.ingress.head import Head
from holdfast.ingress.invoke import read_request
from holdfast.ingress.path import found, no_route
from holdfast.ingress.stream_ag_ui import AgUiMapper
from holdfast.ingress.stream_ai_sdk import AiSdkMapper
from holdfast.ingress.stream_format import HEARTBEAT, Format, MappedFormat, RawFormat, State
from holdfast.ingress.wait import wait_for_client
from holdfast.server.handle import Finished, ServerHandle
from holdfast.server.stream_port import Page, StreamSource
from holdfast.web.asgi import Headers, Receive, Response, Send, StreamedResponse, send_streamed
from holdfast.web.printed_id import checked_invocation_id
from holdfast.web.problem import Refusal, method_refusal, shown

_logger = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
"""A quiet stream says this often that it is there."""

_PLACE = re.compile(r"(\d{1,18})(?:-(\d{1,18}|end))?")
_FORMATS = ("sse", "ag-ui", "ai-sdk")


class _Query(NamedTuple):
    """What a reader asks for besides the invocation."""

    stream: str
    format: str
    after: int
    """Id of the last event that the reader has."""
    is_over: bool
    """Whether that was the end."""


class EventStream:
    """A response that goes on until the invocation ends, the client leaves or the server stops."""

    def __init__(self, source: StreamSource, format: Format, after: int) -> None:
        self._source = source
        self._format = format
        self._after = after

    async def send_to(self, receive: Receive, send: Send) -> None:
        """Send it.

        Raises:
            ClientGone: The client has left.
        """
        headers: Headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache, no-transform"),
            # Proxies such as nginx would wait for more.
            (b"x-accel-buffering", b"no"),
            (b"x-restate-id", self._source.invocation_id.encode()),
            *self._format.headers,
        ]
        response = StreamedResponse(200, headers, self._pieces())
        try:
            # A client that takes nothing is cut off, and comes back where it was.
            with contextlib.suppress(TimeoutError):
                await wait_for_client(receive, send_streamed(send, response), watch_after_s=0)
        finally:
            self._source.close()

    async def _pieces(self) -> AsyncGenerator[bytes]:
        try:
            yield b"retry: 1000\n\n" + (self._format.begin() if self._after == 0 else b"")
            async with contextlib.aclosing(self._events()) as events:
                async for piece in events:
                    yield piece
        except StorageUnavailable:
            # The server stops. That is not the end: the client asks again, here or elsewhere.
            return
        except StorageError as error:
            _logger.warning("a stream cannot be read: %s", error)

    async def _events(self) -> AsyncGenerator[bytes]:
        after = self._after
        state = await self._state_at(after)
        while True:
            item = await self._source.next(after, HEARTBEAT_S)
            if item is None:
                yield HEARTBEAT
            elif isinstance(item, Finished):
                yield self._format.end(after, item.outcome, state)
                return
            else:
                after = item.last_id
                events, state = self._shown(item, state)
                if events:
                    yield events

    def _shown(self, page: Page, state: State) -> tuple[bytes, State]:
        """Return the events of a page: made once for all readers that know the same."""
        place: Hashable = (self._format.key, state)
        known = page.shown.get(place)
        if known is None:
            known = page.shown[place] = self._format.show(page, state)
        return cast("tuple[bytes, State]", known)

    async def _state_at(self, place: int) -> State:
        """Return what is known at a place in the middle, by going through what is before it."""
        state: State = None
        if isinstance(self._format, RawFormat):
            return state
        after = 0
        while after < place and (page := await self._source.page(after)) is not None:
            after = page.last_id
            if page.last_id <= place:
                _, state = self._shown(page, state)
            elif rows := _until(place, page):
                _, state = self._format.show(Page(page.after, rows), state)
        return state


def is_stream_route(segments: list[str]) -> bool:
    """Return whether a path is one of these routes."""
    match segments:
        case ["holdfast", "v1", "invocations", _, "stream"]:
            return True
        case ["holdfast", "v1", "stream", *_]:
            return True
        case _:
            return False


async def open_stream(
    handle: ServerHandle, method: str, segments: list[str], head: Head, receive: Receive
) -> EventStream | Response:
    """Begin to read a stream, of an invocation that is there or that is made now.

    Raises:
        Refusal: HF1480 not a place, HF1481 not a format; and as for calls.
        UsageError: HF0562, not a name.
        NotFoundError: HF1004, there is no such invocation.
    """
    query = _read_query(head)
    match segments[2:]:
        case ["invocations", printed_id, "stream"]:
            if method != "GET":
                raise method_refusal(method, "GET, OPTIONS")
            invocation_id = checked_invocation_id(printed_id)
            names: dict[str, str] = {}
        case ["stream", service, *key, handler] if len(key) < 2:
            if method != "POST":
                raise method_refusal(method, "POST, OPTIONS")
            there = found(handle, service, key[0] if key else None, handler, False)
            request = await read_request(handle, there, head._replace(query=b""), receive)
            names = _run_names(request.body) if query.format == "ag-ui" else {}
            invocation_id = (await handle.send(request)).invocation_id
        case _:
            raise no_route("/".join(["", *segments]), 404)
    if query.is_over:
        # To browsers this says: do not connect again.
        return Response(204, [], b"")
    source = await handle.streams.open(invocation_id, query.stream)
    return EventStream(source, _format(query.format, invocation_id, names), query.after)


def _format(name: str, invocation_id: str, names: dict[str, str]) -> Format:
    match name:
        case "ag-ui":
            thread_id = names.get("threadId", invocation_id)
            return MappedFormat(AgUiMapper(thread_id, names.get("runId", invocation_id)))
        case "ai-sdk":
            return MappedFormat(AiSdkMapper(invocation_id))
        case _:
            return RawFormat()


def _run_names(body: bytes) -> dict[str, str]:
    """Return what an AG-UI client calls thread and run, if it says so."""
    try:
        found: Any = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return {}
    if not isinstance(found, dict):
        return {}
    fields = cast("dict[str, object]", found)
    names = ((name, fields.get(name)) for name in ("threadId", "runId"))
    return {name: value for name, value in names if isinstance(value, str) and value}


def _read_query(head: Head) -> _Query:
    fields = parse_qs(head.query.decode("latin-1"), keep_blank_values=True)
    stream = checked_stream_name(fields.get("stream", [STREAM_DEFAULT])[-1])
    format = fields.get("format", ["sse"])[-1]
    if format not in _FORMATS:
        raise Refusal(
            400,
            "HF1481",
            f"{shown(format)} is no format of streams.",
            hint=f"Use one of: {', '.join(_FORMATS)}.",
        )
    # Browsers send the header when they connect again, with the query of the first time.
    place = next((v for n, v in head.visible if n == "last-event-id"), None)
    place = place or fields.get("last_event_id", [""])[-1]
    match = _PLACE.fullmatch(place) if place else None
    if place and match is None:
        raise Refusal(
            400,
            "HF1480",
            f"{shown(place)} is no place in a stream.",
            hint="Send the id of an event as it came, or leave it out to begin at the start.",
        )
    if match is None:
        return _Query(stream, format, 0, False)
    return _Query(stream, format, int(match[1]), match[2] == "end")


def _until(place: int, page: Page) -> list[tuple[int, StreamRow]]:
    """Return the rows of a page up to an id."""
    rows = [(i, r) for i, r in page.rows if i <= place]
    return [(i, StreamRow(r.lane, r.chunks[: place - i + 1], r.lost_from_id)) for i, r in rows]
