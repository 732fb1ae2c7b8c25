"""How a stream looks to its readers: the format that all can have, and what formats have in common.

Every event is one of server-sent events. Its id is `{id}-{lane}`: the id is the place in the
stream, where a reader goes on; chunks of one lane are forgotten together when that lane is lost.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from holdfast.domain.message import Failure, Outcome
from holdfast.domain.stream_chunk import Chunk, Data, parse_chunk
from holdfast.engine.row import StreamRow
from holdfast.server.stream_port import Page

Header = tuple[bytes, bytes]

HEARTBEAT = b":\n\n"
"""A comment, which readers skip."""

State = Hashable
"""What a format must know of all that came before a place. Immutable; None: nothing."""

_encode = msgspec.json.Encoder().encode
_KINDS = {"message": b"", "replace": b"event: replace\n"}


class Format(Protocol):
    """A format, for one request."""

    key: Hashable
    """Equal for requests that are shown the same."""
    headers: tuple[Header, ...]

    def begin(self) -> bytes:
        """Return what comes before the first chunk of a stream."""
        ...

    def show(self, page: Page, state: State) -> tuple[bytes, State]:
        """Return the events of a page, and what is known behind it."""
        ...

    def end(self, after: int, outcome: Outcome, state: State) -> bytes:
        """Return the events at the end of a stream."""
        ...


class RawFormat:
    """Chunks as they were written; `replace` when a lane is lost, `end` with the outcome."""

    key: Hashable = "sse"
    headers: tuple[Header, ...] = ()

    def begin(self) -> bytes:
        """See `Format`."""
        return b""

    def show(self, page: Page, state: State) -> tuple[bytes, State]:
        """See `Format`."""
        events = (
            b"id: %s\n%sdata: %s\n\n" % (event_id.encode(), _KINDS[kind], data)
            for event_id, kind, data in self.events(page)
        )
        return b"".join(events), None

    @staticmethod
    def events(page: Page) -> Iterator[tuple[str, str, bytes]]:
        """Return id, kind and data of the events of a page."""
        for first_id, row in page.rows:
            for chunk_id, chunk in enumerate(row.chunks, first_id):
                yield f"{chunk_id}-{row.lane}", "message", _one_line(chunk)
            if not row.chunks and is_news(page, row):
                data = {"lane": row.lane, "from": row.lost_from_id, "to": first_id - 1}
                yield f"{first_id}-{row.lane}", "replace", _encode(data)

    def end(self, after: int, outcome: Outcome, state: State) -> bytes:
        """See `Format`."""
        return b"id: %d-end\nevent: end\ndata: %s\n\n" % (after, _encode(outcome_json(outcome)))


class Mapper(Protocol):
    """A protocol whose events are JSON objects that follow from what chunks mean."""

    key: Hashable
    headers: tuple[Header, ...]
    last: bytes
    """What ends a stream, behind all events."""

    def begin(self) -> list[Any]:
        """Return the events before the first chunk."""
        ...

    def chunk(
        self, chunk_id: int, lane: int, chunk: Chunk | Data, state: State
    ) -> tuple[list[Any], State]:
        """Return the events of a chunk, and what is known behind it."""
        ...

    def lost(self, lane: int, state: State) -> tuple[list[Any], State]:
        """Return the events that have readers forget a lane."""
        ...

    def end(self, outcome: Outcome, state: State) -> list[Any]:
        """Return the events at the end."""
        ...


class MappedFormat:
    """A format made of a mapper."""

    def __init__(self, mapper: Mapper) -> None:
        self.key = mapper.key
        self.headers = mapper.headers
        self._mapper = mapper

    def begin(self) -> bytes:
        """See `Format`."""
        return _events(self._mapper.begin(), b"")

    def show(self, page: Page, state: State) -> tuple[bytes, State]:
        """See `Format`."""
        parts: list[bytes] = []
        for first_id, row in page.rows:
            if not row.chunks and is_news(page, row):
                events, state = self._mapper.lost(row.lane, state)
                parts.append(_events(events, b"%d-%d" % (first_id, row.lane)))
            for chunk_id, content in enumerate(row.chunks, first_id):
                chunk = parse_chunk(content)
                events, state = self._mapper.chunk(chunk_id, row.lane, chunk, state)
                parts.append(_events(events, b"%d-%d" % (chunk_id, row.lane)))
        return b"".join(parts), state

    def end(self, after: int, outcome: Outcome, state: State) -> bytes:
        """See `Format`."""
        events = self._mapper.end(outcome, state)
        return _events(events, b"%d-end" % after) + self._mapper.last


def is_news(page: Page, row: StreamRow) -> bool:
    """Return whether readers who were before this page may have chunks of a lane that is lost.

    Others never see them: the chunks are deleted together with writing the note.
    """
    return row.lost_from_id <= page.after


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return how an invocation has ended: `result`, `base64` if that is no JSON, or `error`."""
    if isinstance(outcome, Failure):
        error: dict[str, Any] = {"code": outcome.code, "message": outcome.message}
        if outcome.metadata:
            error["metadata"] = outcome.metadata
        return {"error": error}
    if not outcome.content:
        return {"result": None}
    try:
        return {"result": msgspec.json.decode(outcome.content)}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {"base64": base64.b64encode(outcome.content).decode()}


def _events(events: Iterable[Any], event_id: bytes) -> bytes:
    """Return events of one chunk: only the last has the id, behind which a reader goes on."""
    parts = [b"data: %s\n\n" % _encode(event) for event in events]
    if parts and event_id:
        parts[-1] = b"id: %s\n%s" % (event_id, parts[-1])
    return b"".join(parts)


def _one_line(chunk: bytes) -> bytes:
    # A line break would end the field. In JSON it can only be space between values.
    if b"\n" in chunk or b"\r" in chunk:
        return msgspec.json.format(chunk, indent=-1)
    return chunk
