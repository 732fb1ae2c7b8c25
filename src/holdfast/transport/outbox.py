"""Frames on their way to one peer of a worker socket; both sides use it.

Frames are encoded when they are put in, so the number of waiting bytes is known. All that were
put in during one turn of the event loop are sent as one message: past the library, where the socket
can do that and the peer reads; else by a single writer, a task. While the peer does not read, the
writer waits inside `write` and frames add up: whoever puts them in watches `size_bytes` and stops,
or gives the peer up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from holdfast.protocol.frame import FRAME_SIZE_BYTES_MAX, HEARTBEAT_S, SILENCE_BEATS, join_frames
from holdfast.transport.websocket_tap import DirectSocket

_BATCH_SIZE_BYTES = 1024 * 1024
"""A message is closed when it has grown over this, so that the peer can begin to work."""


class Outbox:
    """A bounded-by-its-owner queue of encoded frames with one writer.

    Args:
        write: Sends one binary message; may wait for the peer.
        on_written: Called after each message that left.
        direct: The socket past its library; None: all goes through `write`.
    """

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        on_written: Callable[[], None],
        direct: DirectSocket | None = None,
    ) -> None:
        self._write = write
        self._on_written = on_written
        self._direct = direct
        self._is_scheduled = False
        self._is_beat_due = False
        self._frames: deque[bytes] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._was_used = False
        self._is_writing = False
        self.size_bytes = 0
        """Bytes of all frames that have not left, the ones being written included."""

    def put(self, frame: bytes) -> None:
        """Send a frame with the next message."""
        assert len(frame) <= FRAME_SIZE_BYTES_MAX, "an oversize frame would end the connection"
        self._frames.append(frame)
        self.size_bytes += len(frame)
        self._wake()

    def beat(self) -> None:
        """Send a sign of life, unless something was sent since the last call or is under way."""
        if not self._was_used and not self._is_writing:
            self._is_beat_due = True
            self._wake()
        self._was_used = False

    async def drained(self) -> None:
        """Return once everything has left."""
        if self._frames or self._is_writing:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def run(self) -> None:
        """Write what cannot leave directly, until cancelled. Raises what `write` raises."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._frames:
                self._note_drained()
                self._waiter = loop.create_future()
                # Waking up takes one turn of the loop: what is put in meanwhile goes along.
                await self._waiter
            self._is_beat_due = False
            frames, size_bytes = self._take()
            self._is_writing = True
            await self._write(join_frames(frames))
            self._is_writing = False
            self._note_written(size_bytes)

    def _wake(self) -> None:
        """Have what waits leave in the next turn of the loop."""
        # Before `run` there is nobody to take over where the direct way is blocked.
        if self._waiter is None or self._waiter.done():
            return
        if self._direct is None:
            self._waiter.set_result(None)
        elif not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._write_directly)

    def _write_directly(self) -> None:
        self._is_scheduled = False
        if self._waiter is None or self._waiter.done():
            return
        while self._frames or self._is_beat_due:
            if self._direct is None or not self._direct.is_writable:
                self._waiter.set_result(None)
                return
            self._is_beat_due = False
            frames, size_bytes = self._take()
            self._direct.write(join_frames(frames))
            self._note_written(size_bytes)
        self._note_drained()

    def _note_written(self, size_bytes: int) -> None:
        self._was_used = True
        self.size_bytes -= size_bytes
        self._on_written()

    def _note_drained(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _take(self) -> tuple[list[bytes], int]:
        frames: list[bytes] = []
        size_bytes = 0
        while self._frames and size_bytes < _BATCH_SIZE_BYTES:
            frame = self._frames[0]
            # The sum stays below the limit of one message: a big frame travels alone.
            if frames and len(frame) > _BATCH_SIZE_BYTES:
                break
            frames.append(self._frames.popleft())
            size_bytes += len(frame)
        return frames, size_bytes


class Pulse:
    """Notices a peer that fell silent, and keeps the peer from thinking the same of us."""

    def __init__(self, outbox: Outbox, *, interval_s: float = HEARTBEAT_S) -> None:
        self._outbox = outbox
        self._interval_s = interval_s
        self._silent_beats = 0

    def heard(self) -> None:
        """Take note that the peer sent something."""
        self._silent_beats = 0

    async def run(self) -> None:
        """Return when the peer has been silent for too long.

        Counts its own beats and not the clock: after this process was stopped for a while, what the
        peer sent meanwhile is read before the next beat.
        """
        while self._silent_beats < SILENCE_BEATS:
            await asyncio.sleep(self._interval_s)
            self._silent_beats += 1
            self._outbox.beat()
