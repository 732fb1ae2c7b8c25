"""One query, from its arrival to its last row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from holdfast.admin.sql.arrow import ArrowStream, JsonStream, RecordBatch
from holdfast.admin.sql.column import Reader
from holdfast.admin.sql.limit import SqlLimits
from holdfast.admin.sql.session import Result, begin, check_size, plan, read
from holdfast.server.handle import ServerHandle
from holdfast.web.problem import Refusal

T = TypeVar("T")


class Run:
    """A query that runs.

    Raises:
        Refusal: HF1408, it is too long.
    """

    def __init__(self, handle: ServerHandle, limits: SqlLimits, query: str) -> None:
        check_size(query)
        self.columns: list[str] = []
        """Names of the columns of the answer; known when its first piece is."""
        self._handle = handle
        self._limits = limits
        self._query = query
        self._ends_at_s = asyncio.get_running_loop().time() + limits.timeout_ms / 1000
        self._has_ended = False
        self._thread: asyncio.Future[Any] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it works any more: a thread that plans cannot be stopped."""
        return self._has_ended and (self._thread is None or self._thread.done())

    async def pieces(self, *, is_json: bool) -> AsyncGenerator[bytes]:
        """Iterate over the answer.

        Raises:
            Refusal: HF1401, HF1403, HF1405, HF1406.
            QueryFailed: HF1402.
            StorageError: The store cannot be read.
        """
        try:
            result = await self._in_time(self._begin())
            self.columns = list(result.schema.names)
            stream = JsonStream(result.schema) if is_json else ArrowStream(result.schema)
            batches = result.batches
            while (batch := await self._in_time(_next(batches))) is not None:
                piece = await asyncio.to_thread(stream.add, batch)
                if piece:
                    yield piece
            yield stream.end()
        finally:
            self._has_ended = True

    async def _begin(self) -> Result:
        wanted = await self._threaded(plan(self._query))
        reader = Reader(self._handle, self._handle.now_ms(), self._handle.known_attempts())
        batches = await read(reader, wanted, self._limits.rows_max)
        return await self._threaded(begin(self._query, batches))

    async def _threaded(self, work: asyncio.Future[T]) -> T:
        self._thread = work
        # When this is cancelled, nobody asks for the outcome any more.
        work.add_done_callback(lambda done: done.exception())
        return await asyncio.shield(work)

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._ends_at_s):
                return await work
        except TimeoutError as error:
            raise Refusal(
                504,
                "HF1406",
                f"The query did not end within {self._limits.timeout_ms / 1000:g} s.",
                hint="Add a condition that the store can check, such as id = '…' or"
                " status != 'completed', or a LIMIT.",
            ) from error


async def _next(batches: AsyncGenerator[RecordBatch]) -> RecordBatch | None:
    return await anext(batches, None)
