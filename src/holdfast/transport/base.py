"""The port between the server and the processes that run handlers.

One stream per attempt. Messages arrive in order; a stream may be cut, never holed. All calls are
made on one event loop, return at once and never raise for what the other side did: that is reported
through the callbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from holdfast.domain.message import Entry, FromHandler, Notification, Start
from holdfast.domain.target import Manifest


class ServerStream(Protocol):
    """What the handler's side of a carrier calls: the server's end of one attempt."""

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """Take messages of the handler, in order. One call is applied as one record."""
        ...

    def on_closed(self, reason: str | None) -> None:
        """The stream is over; `reason` is None after a terminal message. Called once."""
        ...


class HandlerStream(Protocol):
    """What the server calls: the handler's end of one attempt."""

    def send(self, notifications: Sequence[Notification]) -> None:
        """Deliver recorded notifications, in order."""
        ...

    def close_input(self) -> None:
        """Say that no more notifications will come: a handler that waits must now suspend."""
        ...

    def abort(self) -> None:
        """Stop the attempt. Nothing that it still sends will be read.

        The carrier calls the server's end of this stream no more, `on_closed` included.
        """
        ...


class HandlerPort(Protocol):
    """A process, or this one, that runs handlers of one deployment."""

    deployment_name: str
    """Stable name; connections of one name serve the same handlers."""
    manifest: Manifest

    @property
    def is_draining(self) -> bool:
        """Whether no new attempts should be opened here."""
        ...

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        """Begin an attempt: `entries` is the journal so far, `start.known_entries` of them."""
        ...
