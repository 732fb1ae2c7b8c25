"""A server's end of streams without a server: rows of one stream, and who reads them."""

from __future__ import annotations

import asyncio

from holdfast.domain.errors import NotFoundError
from holdfast.domain.message import Outcome, Value
from holdfast.engine.decision import Publish
from holdfast.engine.row import StreamRow
from holdfast.server.handle import Finished
from holdfast.server.stream import Feeds
from holdfast.server.stream_port import last_id_of


class Store:
    """Rows of one stream, and the outcome of its invocation."""

    def __init__(self, invocation_id: str = "inv_1") -> None:
        self.invocation_id = invocation_id
        self.rows: list[tuple[int, StreamRow]] = []
        self.outcome: Finished | None = None
        self.is_there = True
        self.reads: list[int] = []
        self.answers: asyncio.Event | None = None
        """If set, what was read is answered only then."""
        self.feeds = Feeds(self.read, self.output)

    async def read(
        self, invocation_id: str, stream: str, after: int, size_bytes: int
    ) -> list[tuple[int, StreamRow]]:
        self.reads.append(after)
        found = [(i, row) for i, row in self.rows if last_id_of(i, row) > after]
        if self.answers is not None:
            await self.answers.wait()
        return found[:2]

    async def output(self, invocation_id: str) -> Finished | None:
        if not self.is_there:
            raise NotFoundError(f"There is no invocation {invocation_id}.", code="HF1004")
        return self.outcome

    def write(self, *texts: str, lane: int = 1, lost_from_id: int = 0) -> None:
        """Store a row of texts, or a note, and publish it."""
        self.write_json(*(f'"{text}"'.encode() for text in texts), lane=lane, lost=lost_from_id)

    def write_json(self, *chunks: bytes, lane: int = 1, lost: int = 0) -> None:
        """Store a row, and publish it."""
        first_id = last_id_of(*self.rows[-1]) + 1 if self.rows else 1
        row = StreamRow(lane, chunks, lost)
        if lost:
            self.rows = [(i, r) for i, r in self.rows if r.lane != lane]
        self.rows.append((first_id, row))
        self.feeds.publish(Publish(self.invocation_id, "default", first_id, row))

    def end(self, outcome: Outcome | None = None) -> None:
        """Store an outcome, and tell it."""
        self.outcome = Finished(self.invocation_id, outcome or Value(b"1"), 0)
        self.feeds.finish(self.outcome)
