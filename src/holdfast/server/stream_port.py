"""What the front doors may ask about streams; a part of `holdfast.server.handle`."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Protocol

from holdfast.engine.row import StreamRow

if TYPE_CHECKING:
    from holdfast.server.handle import Finished


class Page:
    """What comes after an id of a stream, up to another one. All readers there get the same one.

    Args:
        after: Everything in it has a greater id.
        rows: (id of the first chunk, row), in order, at least one. The first may begin before.
    """

    __slots__ = ("after", "last_id", "rows", "shown", "size_bytes")

    def __init__(self, after: int, rows: list[tuple[int, StreamRow]]) -> None:
        self.after = after
        self.last_id = last_id_of(*rows[-1])
        self.size_bytes = sum(size_of(row) for _, row in rows)
        self.rows = [_clipped(after, *row) for row in rows]
        self.shown: dict[Hashable, object] = {}
        """What readers have made of it, by what that is: made once."""


class StreamSource(Protocol):
    """One reader's hold on a stream."""

    invocation_id: str

    async def next(self, after: int, timeout_s: float) -> Page | Finished | None:
        """Return what comes after an id, or the end; None when nothing did for a while.

        Raises:
            StorageUnavailable: HF4011, the server is stopping: come back later.
            StorageError: The stream cannot be read.
        """
        ...

    async def page(self, after: int) -> Page | None:
        """Return what comes after an id now; None when that is nothing."""
        ...

    def close(self) -> None:
        """Leave. Idempotent."""
        ...


class Streams(Protocol):
    """The streams that invocations write."""

    async def open(self, invocation_id: str, stream: str) -> StreamSource:
        """Begin to read a stream, from any place; it need not have been written to.

        Raises:
            NotFoundError: HF1004, there is no such invocation.
            StorageUnavailable: HF4011, the server is stopping.
        """
        ...


def last_id_of(first_id: int, row: StreamRow) -> int:
    """Return the last id that a row takes."""
    return first_id + max(len(row.chunks), 1) - 1


def size_of(row: StreamRow) -> int:
    """Return about how much memory a row takes."""
    return 64 + sum(map(len, row.chunks))


def _clipped(after: int, first_id: int, row: StreamRow) -> tuple[int, StreamRow]:
    if first_id > after:
        return first_id, row
    return after + 1, StreamRow(row.lane, row.chunks[after + 1 - first_id :])
