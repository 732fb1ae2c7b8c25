"""The server's end of a worker socket: uvicorn's protocol for WebSockets, with a tap."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from holdfast.protocol.frame import MESSAGE_SIZE_BYTES_MAX
from holdfast.transport.websocket_tap import Tap, binary_frame

EXTENSION = "holdfast.direct"
"""Where an application finds its `DirectSocket` among the extensions of its ASGI scope."""


class ServerEnd(WebSocketsSansIOProtocol):
    """Implements `DirectSocket`, for `uvicorn.Config`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tap = Tap(
            is_masked=True,
            size_bytes_max=MESSAGE_SIZE_BYTES_MAX,
            pass_on=super().data_received,
        )
        self.take = self._tap.take

    async def run_asgi(self) -> None:
        """Run the application, which finds this among the extensions of its scope."""
        extensions: Any = self.scope.setdefault("extensions", {})
        extensions[EXTENSION] = self
        await super().run_asgi()

    def data_received(self, data: bytes) -> None:
        """Take in bytes: first the request, alone, then frames."""
        if self.handshake_initiated:
            self._tap.feed(data)
        else:
            super().data_received(data)

    @property
    def is_writable(self) -> bool:
        """See `DirectSocket`."""
        is_open = self.handshake_complete and not self.close_sent and not self.disconnected
        return is_open and self.writable.is_set() and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """See `DirectSocket`."""
        self.transport.write(binary_frame(data))
