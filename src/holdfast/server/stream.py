"""Streams as readers see them: from memory at their end, from the store before it.

A `Feed` is one stream that somebody reads. It keeps what was published lately; whoever is further
behind gets pages from the store. A page belongs to a place in the stream, so all readers that are
there get the same one: it is read once, and what a front door makes of it is made once
(`Page.shown`). A reader that does not keep up falls back to the store and costs no memory.

Nothing is published before its commit, and what is published comes after the store has it. So a
reader that finds nothing in the store misses nothing if it waits for the next publication.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable

from holdfast.domain.errors import StorageUnavailable
from holdfast.engine.decision import Publish
from holdfast.engine.row import StreamRow
from holdfast.server.handle import Finished
from holdfast.server.stream_port import Page, last_id_of, size_of

PAGE_SIZE_BYTES = 64 * 1024
"""About what is read from the store at once."""
_RECENT_SIZE_BYTES = 256 * 1024
"""What is kept of the end of a stream."""
_PAGES_SIZE_BYTES = 1024 * 1024
"""Of pages that are kept for other readers at the same place."""
_ROW_SIZE_BYTES = 64
"""What a row counts besides its chunks."""
_WAKE_COUNT = 64
"""Readers that are woken in one turn of the loop, so that others have theirs."""

ReadRows = Callable[[int, int], Awaitable[list[tuple[int, StreamRow]]]]


class Feed:
    """One stream with readers. For one event loop."""

    def __init__(self, read: ReadRows) -> None:
        """Begin with nothing in memory.

        Args:
            read: Reads rows from the store: those after an id, about so many bytes.
        """
        self.reader_count = 0
        self.begun: asyncio.Task[None] | None = None
        """Finds out whether it has ended before anybody read it."""
        self._read = read
        self._recent: deque[tuple[int, StreamRow]] = deque()
        self._recent_size_bytes = 0
        self._recent_after: int | None = None
        """`_recent` has all that comes after this id; None: nothing was published yet."""
        self._pages: OrderedDict[int, Page] = OrderedDict()
        """By the id that they come after; least recently made first."""
        self._pages_size_bytes = 0
        self._reads: dict[int, asyncio.Task[Page | None]] = {}
        self._waiters: dict[asyncio.Future[None], None] = {}
        self._finished: Finished | None = None
        self._is_closed = False

    # -- the server calls ------------------------------------------------------------------------

    def publish(self, first_id: int, row: StreamRow) -> None:
        """A row is durable."""
        if self._recent_after is None:
            self._recent_after = first_id - 1
        if not row.chunks:
            kept = [(i, r) for i, r in self._recent if r.lane != row.lane]
            self._recent = deque(kept)
            self._recent_size_bytes = sum(size_of(r) for _, r in kept)
        self._recent.append((first_id, row))
        self._recent_size_bytes += size_of(row)
        while self._recent_size_bytes > _RECENT_SIZE_BYTES and len(self._recent) > 1:
            oldest_id, oldest = self._recent.popleft()
            self._recent_size_bytes -= size_of(oldest)
            self._recent_after = last_id_of(oldest_id, oldest)
        self._wake()

    def finish(self, finished: Finished) -> None:
        """The invocation has its outcome: nothing is published any more."""
        self._finished = finished
        self._wake()

    def close(self) -> None:
        """The server stops: readers must come back to another one."""
        self._is_closed = True
        self._wake()

    # -- readers call ----------------------------------------------------------------------------

    async def next(self, after: int, timeout_s: float) -> Page | Finished | None:
        """Return what comes after an id, or the end; None when nothing did for a while.

        Raises:
            StorageUnavailable: HF4011, the server is stopping; or it cannot be read.
        """
        has_waited = False
        while True:
            if self._is_closed:
                raise StorageUnavailable("The server is stopping.", code="HF4011")
            # Looked at before the store is read: all that was written is there then.
            finished, known_after = self._finished, self._recent_after
            page = await self.page(after)
            if page is not None:
                return page
            if self._recent and after < last_id_of(*self._recent[-1]):
                # It was published while the store was read, or what came before it is deleted.
                if known_after == self._recent_after:
                    page = await self._load(after)
                    return page or self._keep(Page(after, list(self._recent)))
            elif finished is not None:
                return finished
            elif self._finished is None:
                if has_waited:
                    return None
                has_waited = True
                await self._changed(timeout_s)

    async def page(self, after: int) -> Page | None:
        """Return what comes after an id, as much as fits a page; None when that is nothing now."""
        page = self._pages.get(after)
        if page is not None:
            return page
        if self._recent_after is not None and after >= self._recent_after:
            rows = [(i, row) for i, row in self._recent if last_id_of(i, row) > after]
            return self._keep(Page(after, rows)) if rows else None
        task = self._reads.get(after)
        if task is None:
            task = asyncio.ensure_future(self._load(after))
            self._reads[after] = task
            task.add_done_callback(lambda _: self._reads.pop(after, None))
        return await asyncio.shield(task)

    async def _load(self, after: int) -> Page | None:
        rows = await self._read(after, PAGE_SIZE_BYTES)
        rows = [(first_id, row) for first_id, row in rows if last_id_of(first_id, row) > after]
        return self._keep(Page(after, rows)) if rows else None

    def _keep(self, page: Page) -> Page:
        known = self._pages.pop(page.after, None)
        self._pages_size_bytes -= known.size_bytes if known is not None else 0
        self._pages[page.after] = page
        self._pages_size_bytes += page.size_bytes
        while self._pages_size_bytes > _PAGES_SIZE_BYTES and len(self._pages) > 1:
            _, oldest = self._pages.popitem(last=False)
            self._pages_size_bytes -= oldest.size_bytes
        return page

    async def _changed(self, timeout_s: float) -> None:
        """Wait for the next publication, the end, or until the time is over."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters[waiter] = None
        alarm = loop.call_later(timeout_s, _set, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            self._waiters.pop(waiter, None)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, {}
        self._wake_some(deque(waiters))

    def _wake_some(self, waiters: deque[asyncio.Future[None]]) -> None:
        for _ in range(min(_WAKE_COUNT, len(waiters))):
            _set(waiters.popleft())
        if waiters:
            asyncio.get_running_loop().call_soon(self._wake_some, waiters)


class Feeds:
    """All streams of a server that somebody reads."""

    def __init__(
        self,
        read: Callable[[str, str, int, int], Awaitable[list[tuple[int, StreamRow]]]],
        output: Callable[[str], Awaitable[Finished | None]],
    ) -> None:
        """Begin without any.

        Args:
            read: Reads rows of an invocation's stream; see `Feed`.
            output: Returns the outcome of an invocation, if it has one.
        """
        self._read = read
        self._output = output
        self._feeds: dict[str, dict[str, Feed]] = {}
        self._is_closed = False

    def publish(self, action: Publish) -> None:
        """Show a row to those who read its stream."""
        feeds = self._feeds.get(action.invocation_id)
        feed = None if feeds is None else feeds.get(action.stream)
        if feed is not None:
            feed.publish(action.first_id, action.row)

    def finish(self, finished: Finished) -> None:
        """Tell readers that an invocation has its outcome."""
        for feed in self._feeds.get(finished.invocation_id, {}).values():
            feed.finish(finished)

    def close(self) -> None:
        """Send all readers away."""
        self._is_closed = True
        for feeds in self._feeds.values():
            for feed in feeds.values():
                feed.close()

    async def open(self, invocation_id: str, stream: str) -> StreamReader:
        """Begin to read. Close the reader when it is done.

        Raises:
            NotFoundError: HF1004, there is no such invocation.
            StorageUnavailable: HF4011, the server is stopping.
        """
        feeds = self._feeds.setdefault(invocation_id, {})
        feed = feeds.get(stream)
        if feed is None:
            feed = feeds[stream] = Feed(
                lambda after, size_bytes: self._read(invocation_id, stream, after, size_bytes)
            )
            # Begun after it can be told: what ends meanwhile is told, what ended before is found.
            feed.begun = asyncio.ensure_future(self._begin(invocation_id, feed))
            feed.begun.add_done_callback(_look_at)
        feed.reader_count += 1
        reader = StreamReader(self, invocation_id, stream, feed)
        try:
            if self._is_closed:
                raise StorageUnavailable("The server is stopping.", code="HF4011")
            assert feed.begun is not None, "set when it was made"
            await asyncio.shield(feed.begun)
        except BaseException:
            reader.close()
            raise
        return reader

    async def _begin(self, invocation_id: str, feed: Feed) -> None:
        finished = await self._output(invocation_id)
        if finished is not None:
            feed.finish(finished)

    def leave(self, invocation_id: str, stream: str, feed: Feed) -> None:
        """A reader has left: forget what nobody reads."""
        feed.reader_count -= 1
        if feed.reader_count:
            return
        feeds = self._feeds[invocation_id]
        del feeds[stream]
        if not feeds:
            del self._feeds[invocation_id]


class StreamReader:
    """One reader of a stream: `holdfast.server.handle.StreamSource`."""

    def __init__(self, feeds: Feeds, invocation_id: str, stream: str, feed: Feed) -> None:
        self.invocation_id = invocation_id
        self.stream = stream
        self._feeds = feeds
        self._feed = feed
        self._is_closed = False

    async def next(self, after: int, timeout_s: float) -> Page | Finished | None:
        """See `Feed.next`."""
        return await self._feed.next(after, timeout_s)

    async def page(self, after: int) -> Page | None:
        """See `Feed.page`."""
        return await self._feed.page(after)

    def close(self) -> None:
        """Leave. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._feeds.leave(self.invocation_id, self.stream, self._feed)


def _look_at(task: asyncio.Task[None]) -> None:
    # All who waited for it may have left; then nobody else sees its error.
    if not task.cancelled():
        task.exception()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
