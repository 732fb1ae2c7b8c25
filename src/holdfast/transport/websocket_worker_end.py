"""The worker's end of a worker socket: a connection of websockets, with a tap."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

from holdfast.protocol.frame import MESSAGE_SIZE_BYTES_MAX
from holdfast.transport.websocket_tap import Tap, binary_frame

_MASK_POOL_BYTES = 4096


class WorkerEnd(ClientConnection):
    """Implements `DirectSocket`, for `websockets.connect`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tap: Tap | None = None
        self._masks = b""

    def begin(self) -> None:
        """Put the tap in. Call when the handshake is over, before the server may send anything."""
        self._tap = Tap(
            is_masked=False,
            size_bytes_max=MESSAGE_SIZE_BYTES_MAX,
            pass_on=super().data_received,
        )

    def take(self, sink: Callable[[bytes], None], seen_count: int) -> bool:
        """See `DirectSocket`."""
        return self._tap is not None and self._tap.take(sink, seen_count)

    def data_received(self, data: bytes) -> None:
        """Take in bytes: first the response, then frames."""
        if self._tap is None:
            super().data_received(data)
        else:
            self._tap.feed(data)

    @property
    def is_writable(self) -> bool:
        """See `DirectSocket`."""
        is_open = self.protocol.state is State.OPEN
        return is_open and not self.paused and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """See `DirectSocket`."""
        if not self._masks:
            self._masks = os.urandom(_MASK_POOL_BYTES)
        mask, self._masks = self._masks[:4], self._masks[4:]
        self.transport.write(binary_frame(data, mask))
