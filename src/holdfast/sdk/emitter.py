"""Chunks on their way from one attempt to the server.

While a batch is on its way to the disk the next chunks collect, so there is at most one commit of
them under way: a lone chunk leaves at the end of the turn of the loop in which it was written, and
a flood travels in few large batches. What was written before a result, an output or the end of an
attempt goes with it, in front.

The server says how many chunks are stored. Whoever awaits a chunk while much is on its way waits;
a function in a thread is held up. Code that does neither is refused at some point.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from holdfast.domain.errors import UsageError
from holdfast.domain.message import Emit, Emitted, Error, FromHandler, Notification, ToHandler
from holdfast.sdk.interrupt import Interrupt
from holdfast.sdk.journal import CODE_MISMATCH
from holdfast.sdk.loop import hooks_of

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

_logger = logging.getLogger(__name__)

WINDOW_SIZE_BYTES = 256 * 1024
"""While more than this is not stored, writers that can wait do."""
BACKLOG_SIZE_BYTES_MAX = 16 * 1024 * 1024
"""What may wait if nobody waits for it."""
_CHUNK_SIZE_BYTES = 64
"""What a chunk counts besides its own bytes, so that many empty ones count, too."""
_MESSAGE_CHUNKS_MAX = 4096

_warned: set[str] = set()
"""What was said once in this process."""


class Source(NamedTuple):
    """A writer, in one of its runs."""

    writer: str
    """Path of a branch, or journal key of a step."""
    run: int
    """0: code of the handler, which replay repeats; else the number of the attempt."""


class StepWriter(NamedTuple):
    """What the body of a step writes with."""

    emitter: Emitter
    source: Source
    is_repeated: bool
    """Whether an earlier attempt began this step."""


class Emitter:
    """The chunks of one attempt. All calls come from its event loop, but for those that say so."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._thread = threading.get_ident()
        self._recorded_count = attempt.machine.command_count
        self._is_muted = False
        self._waiting: dict[tuple[str, Source], list[bytes]] = {}
        """By stream and writer, in order of their first chunk."""
        self._numbers: dict[tuple[str, Source], int] = {}
        """Of the chunk that is next."""
        self._begun: list[Source] = []
        """Runs that replace earlier ones, which the server has not been told."""
        self._under_way: deque[int] = deque()
        """Sizes of the chunks that were sent and are not stored."""
        self._unstored_size_bytes = 0
        self._room: list[asyncio.Future[None]] = []
        self._ended: Interrupt | None = None

    def mute(self) -> None:
        """Send nothing, whatever is written."""
        self._is_muted = True

    @property
    def is_due(self) -> bool:
        """Whether something waits that may leave now."""
        return bool(self._begun) or (bool(self._waiting) and not self._under_way)

    @property
    def is_idle(self) -> bool:
        """Whether all that was written is stored."""
        return not (self._begun or self._waiting or self._under_way)

    @property
    def has_room(self) -> bool:
        """Whether writers need not wait."""
        return self._unstored_size_bytes <= WINDOW_SIZE_BYTES or self._ended is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the attempt. For any thread."""
        return self._attempt.loop

    def is_here(self) -> bool:
        """Whether this is the thread of that loop. For any thread."""
        return threading.get_ident() == self._thread

    def is_of(self, attempt: Attempt) -> bool:
        """Whether these are the chunks of an attempt. For any thread."""
        return self._attempt is attempt

    def check_open(self) -> None:
        """Raise what ended the attempt, if something did. For any thread."""
        if self._ended is not None:
            raise self._ended

    def writer_of(self, step_key: str, command_index: int) -> StepWriter:
        """Return what the body of a step writes with."""
        source = Source(step_key, self._attempt.machine.start.attempt)
        return StepWriter(self, source, command_index < self._recorded_count)

    def begin(self, writer: StepWriter | None) -> None:
        """The body of a step begins: what it wrote in earlier attempts is replaced."""
        if writer is not None and writer.is_repeated and self._is_heard(is_loud=False):
            self._begun.append(writer.source)
            self._attempt.schedule_tick()

    def add(self, stream: str, source: Source, chunk: bytes) -> None:
        """Write a chunk.

        Raises:
            UsageError: HF0563, too much waits.
        """
        if self._ended is not None or not self._is_heard():
            return
        size_bytes = len(chunk) + _CHUNK_SIZE_BYTES
        if self._unstored_size_bytes + size_bytes > BACKLOG_SIZE_BYTES_MAX:
            raise UsageError(
                f"{self._unstored_size_bytes} bytes of chunks wait to be stored",
                code="HF0563",
                hint="Await what emit returns: it waits while the server is behind.",
            )
        self._unstored_size_bytes += size_bytes
        self._waiting.setdefault((stream, source), []).append(chunk)
        if not self._under_way:
            self._attempt.schedule_tick()

    async def room(self) -> None:
        """Wait until the server has caught up. Code of the handler counts as busy meanwhile.

        So waiting changes nothing about the order in which results are handed over: on replay, when
        there is nothing to wait for, it is the same.
        """
        while not self.has_room:
            future: asyncio.Future[None] = self._attempt.loop.create_future()
            self._room.append(future)
            hooks_of(self._attempt.loop).count_until_done(future)
            await future
        self.check_open()

    def put_before(self, messages: list[FromHandler]) -> list[FromHandler]:
        """Return what is to be sent now: chunks if they are due, and always before `messages`."""
        last = messages[-1] if messages else None
        if isinstance(last, Error) and last.code == CODE_MISMATCH:
            # The program that wrote what waits is not the one whose journal this is.
            self._begun.clear()
            self._waiting.clear()
        return [*self._take(), *messages] if messages or self.is_due else []

    def _take(self) -> list[Emit]:
        messages = [Emit("", source.writer, source.run, 0, ()) for source in self._begun]
        self._begun.clear()
        waiting, self._waiting = self._waiting, {}
        for (stream, source), chunks in waiting.items():
            number = self._numbers.get((stream, source), 0)
            self._numbers[stream, source] = number + len(chunks)
            for begin in range(0, len(chunks), _MESSAGE_CHUNKS_MAX):
                part = tuple(chunks[begin : begin + _MESSAGE_CHUNKS_MAX])
                messages.append(Emit(stream, source.writer, source.run, number + begin, part))
            self._under_way.extend(len(chunk) + _CHUNK_SIZE_BYTES for chunk in chunks)
        return messages

    def sift(self, messages: Sequence[ToHandler]) -> list[Notification]:
        """Take what is about chunks out of what the server has sent."""
        notifications: list[Notification] = []
        for message in messages:
            if isinstance(message, Emitted):
                self._on_stored(message.chunk_count)
            else:
                notifications.append(message)
        return notifications

    def _on_stored(self, chunk_count: int) -> None:
        """The oldest of the chunks that are under way are stored."""
        for _ in range(min(chunk_count, len(self._under_way))):
            self._unstored_size_bytes -= self._under_way.popleft()
        if self.has_room:
            self._release()
        if self.is_due:
            self._attempt.schedule_tick()

    def end(self, interrupt: Interrupt) -> None:
        """The attempt is over: nobody waits any more."""
        self._ended = interrupt
        self._release()

    def _release(self) -> None:
        room, self._room = self._room, []
        for future in room:
            if not future.done():
                future.set_result(None)

    def _is_heard(self, *, is_loud: bool = True) -> bool:
        if self._is_muted:
            return False
        if self._attempt.machine.start.has_extensions:
            return True
        if is_loud and "extensions" not in _warned:
            _warned.add("extensions")
            _logger.warning(
                "handlers that are served over HTTP have no streams: what they emit is dropped",
                extra={"invocation_id": self._attempt.machine.start.invocation_id},
            )
        return False
