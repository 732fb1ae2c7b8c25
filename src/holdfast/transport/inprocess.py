"""Server and handlers in one process: messages are handed over as objects, not bytes.

Every call is passed on in a later turn of the event loop. So neither side is ever called from
inside its own call, as it would be if they were wired together directly; and order is kept, because
the loop runs what it was given first come, first served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from holdfast.domain.message import Entry, FromHandler, Start, ToHandler
from holdfast.transport.base import HandlerPort, HandlerStream, ServerStream

_logger = logging.getLogger(__name__)


class InProcessPort:
    """A handler port that calls another one on the same event loop, without re-entering it."""

    def __init__(self, inner: HandlerPort) -> None:
        self.deployment_name = inner.deployment_name
        self.manifest = inner.manifest
        self._inner = inner
        self._joints: set[_Joint] = set()
        self._is_draining = False
        self._is_closed = False

    @property
    def is_draining(self) -> bool:
        """Whether this port was closed, or the wrapped one takes nothing new."""
        return self._is_draining or self._inner.is_draining

    @is_draining.setter
    def is_draining(self, is_draining: bool) -> None:
        self._is_draining = is_draining

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        """Begin an attempt in the next turn of the loop."""
        joint = _Joint(stream, self._joints.discard)
        self._joints.add(joint)
        loop = asyncio.get_running_loop()
        if self._is_closed:
            loop.call_soon(joint.end, "worker connection lost")
        else:
            loop.call_soon(joint.begin, self._inner, start, entries)
        return joint

    def close(self) -> None:
        """Abort what is open and tell the server, as when a connection is lost. Idempotent."""
        self._is_draining = self._is_closed = True
        for joint in list(self._joints):
            joint.cut("worker connection lost")


class _Joint:
    """Both ends of one attempt. Says nothing to either side once that side is done."""

    def __init__(self, server: ServerStream, forget: Callable[[_Joint], None]) -> None:
        self._server = server
        self._forget = forget
        self._handler: HandlerStream | None = None
        self._loop = asyncio.get_running_loop()
        self._is_over = False

    # Called by the server's side.

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`."""
        self._loop.call_soon(self._to_handler, _send, tuple(notifications))

    def close_input(self) -> None:
        """See `HandlerStream`."""
        self._loop.call_soon(self._to_handler, _close_input, ())

    def abort(self) -> None:
        """See `HandlerStream`."""
        if not self._is_over:
            self._over()
            # In its own turn, so that it comes after `begin` and after what was sent before.
            self._loop.call_soon(self._abort_handler)

    # Called by the handler's side.

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """See `ServerStream`."""
        self._loop.call_soon(self._to_server, tuple(messages))

    def on_closed(self, reason: str | None) -> None:
        """See `ServerStream`."""
        self._loop.call_soon(self.end, reason)

    # Called by the loop, and by the port.

    def begin(self, port: HandlerPort, start: Start, entries: Sequence[Entry]) -> None:
        """Open the attempt at the wrapped port."""
        if self._is_over:
            return
        try:
            self._handler = port.open(start, entries, self)
        except Exception:
            _logger.exception("a handler port failed to open an attempt")
            self.end("the worker failed to open the attempt; see its log")

    def end(self, reason: str | None) -> None:
        """Tell the server that the stream is over."""
        if not self._is_over:
            self._over()
            self._server.on_closed(reason)

    def cut(self, reason: str) -> None:
        """End both sides."""
        if not self._is_over:
            self._abort_handler()
            self.end(reason)

    def _over(self) -> None:
        self._is_over = True
        self._forget(self)

    def _to_handler(
        self,
        call: Callable[[HandlerStream, tuple[ToHandler, ...]], None],
        notifications: tuple[ToHandler, ...],
    ) -> None:
        if self._handler is not None and not self._is_over:
            call(self._handler, notifications)

    def _to_server(self, messages: tuple[FromHandler, ...]) -> None:
        if not self._is_over:
            self._server.on_messages(messages)

    def _abort_handler(self) -> None:
        if self._handler is not None:
            self._handler.abort()


def _send(handler: HandlerStream, notifications: tuple[ToHandler, ...]) -> None:
    handler.send(notifications)


def _close_input(handler: HandlerStream, _: tuple[ToHandler, ...]) -> None:
    handler.close_input()
