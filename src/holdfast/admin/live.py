"""What changes, as it changes: the WebSocket of the UI at `/holdfast/v1/live`.

    server → page    {"rev": 7, "now": …, "rows": […], "gone": […], "more": 0}

The first frame comes at once and is empty. A page that reads a list after it has that frame, and
then applies all later ones, misses nothing; so it does again whenever a frame is not the next one.
Rows are those of `summary`. `more` counts changes that had no room: read the list again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from holdfast.admin.summary import summary
from holdfast.server.changes import Frame
from holdfast.server.handle import ServerHandle
from holdfast.web.asgi import ASGIApp, Receive, Scope, Send

PATH = "/holdfast/v1/live"

_QUEUE_FRAMES_MAX = 50
"""Frames that wait for a slow page. Then it is cut off, and comes back with a look at the list."""
_TRY_AGAIN_LATER = 1013

_encode = msgspec.json.Encoder().encode


def create_live_app(handle: ServerHandle) -> ASGIApp:
    """Make the application; mount it at `PATH`."""
    return _Live(handle)


class _Live:
    """The application. Each frame is encoded once for all pages."""

    def __init__(self, handle: ServerHandle) -> None:
        self._handle = handle
        self._encoded: tuple[Frame, str] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            headers = [(b"content-type", b"text/plain"), (b"upgrade", b"websocket")]
            await send({"type": "http.response.start", "status": 426, "headers": headers})
            await send({"type": "http.response.body", "body": b"A WebSocket is served here.\n"})
            return
        message = await receive()
        if message["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        queue: asyncio.Queue[Frame | None] = asyncio.Queue()

        def on_frame(frame: Frame) -> None:
            if queue.qsize() < _QUEUE_FRAMES_MAX:
                queue.put_nowait(frame)
            elif queue.qsize() == _QUEUE_FRAMES_MAX:
                queue.put_nowait(None)

        with self._handle.changes.watched(on_frame) as revision:
            await _say(send, self._text(Frame(revision, (), (), 0)))
            sender = asyncio.get_running_loop().create_task(self._pump(queue, send))
            try:
                await _until_closed(receive)
            finally:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)

    async def _pump(self, queue: asyncio.Queue[Frame | None], send: Send) -> None:
        while (frame := await queue.get()) is not None:
            await _say(send, self._text(frame))
        await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER})

    def _text(self, frame: Frame) -> str:
        if self._encoded is None or self._encoded[0] is not frame:
            shown: dict[str, Any] = {
                "rev": frame.revision,
                "now": self._handle.now_ms(),
                "rows": [summary(row) for row in frame.rows],
                "gone": frame.gone,
                "more": frame.more,
            }
            self._encoded = (frame, _encode(shown).decode())
        return self._encoded[1]


async def _say(send: Send, text: str) -> None:
    await send({"type": "websocket.send", "text": text})


async def _until_closed(receive: Receive) -> None:
    # Pages have nothing to say: whatever comes is read, so that the connection stays alive.
    while (await receive())["type"] != "websocket.disconnect":
        pass
