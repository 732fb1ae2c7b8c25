"""The port between the server and the processes that run handlers.

One stream per attempt. Messages arrive in order; a stream may be cut, never holed. All calls are
made on one event loop, return at once and never raise for what the other side did: that is reported
through the callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from holdfast.domain.deployment import Endpoint, HttpVersion
from holdfast.domain.errors import TransportError
from holdfast.domain.message import Entry, FromHandler, Start, ToHandler
from holdfast.domain.target import Manifest


class ServerStream(Protocol):
    """What the handler's side of a carrier calls: the server's end of one attempt."""

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """Take messages of the handler, in order. One call is applied as one record."""
        ...

    def on_closed(self, reason: str | None) -> None:
        """The stream is over; `reason` is None after a terminal message. Called once."""
        ...


class Refusal(NamedTuple):
    """The handler's side answered, and did not run the handler."""

    code: int
    """HTTP status, or the one that comes nearest."""
    retry_after_ms: int | None = None
    """The wait that it asked for; None leaves it to the retry policy."""
    is_counted: bool = True
    """Whether the handler counts it as an attempt of its own (`Start.retry_count`)."""


class AttemptStream(ServerStream, Protocol):
    """The server's end of an attempt for carriers to peers that are not ours."""

    protocol_version: int | None
    """Of the service protocol: what the invocation is pinned to, 0 if that was not kept; None: it
    is free. A carrier that speaks several versions says here which one the attempt has."""

    def on_messages_recorded(
        self, messages: Sequence[FromHandler], then: Callable[[], None]
    ) -> None:
        """Like `on_messages`; `then` is called when they are durable, or never."""
        ...

    def on_refused(self, reason: str, refusal: Refusal) -> None:
        """Like `on_closed`, for an attempt that never began. Called once, instead of it."""
        ...

    def on_unheard(self) -> None:
        """A cancellation came too late for this attempt to hear of it.

        The next attempt finds it in its journal, and should begin at once.
        """
        ...


class HandlerStream(Protocol):
    """What the server calls: the handler's end of one attempt."""

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """Deliver recorded notifications, and what else was stored, in order."""
        ...

    def close_input(self) -> None:
        """Ask the handler to suspend as soon as it waits for nothing but notifications.

        While a step runs it does not, and what comes in that time may stop the step: a
        cancellation, a time limit. The worker socket and the carrier in process still deliver that;
        over HTTP it ends the attempt, and the next one hears of it (`AttemptStream.on_unheard`).
        """
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


class AttemptPort(Protocol):
    """What the server opens attempts on: every `HandlerPort`, and those that need more of it."""

    deployment_name: str
    manifest: Manifest

    @property
    def is_draining(self) -> bool:
        """Whether no new attempts should be opened here."""
        ...

    def open(self, start: Start, entries: Sequence[Entry], stream: AttemptStream) -> HandlerStream:
        """See `HandlerPort`."""
        ...


class EndpointPort(AttemptPort, Protocol):
    """The handlers of one registered endpoint."""

    def update(self, endpoint: Endpoint, manifest: Manifest) -> None:
        """Reach them as registered anew. Open attempts go on as they began."""
        ...

    async def close(self) -> None:
        """Break open attempts and close connections. Idempotent."""
        ...


Sign = Callable[[str, str | None], list[tuple[str, str]]]
"""Returns the headers that prove to an endpoint who asks: of a path below the endpoint's address,
such as `/discover`, and the key of the object, if there is one. They are valid for a short time, so
each request is signed by itself."""


class Dialer(Protocol):
    """What reaches endpoints that are registered by address."""

    async def discover(
        self, uri: str, headers: dict[str, str], http_version: HttpVersion | None
    ) -> tuple[Endpoint, Manifest]:
        """Ask an endpoint what it serves.

        Args:
            uri: As `Endpoint.uri`; need not be normalised.
            headers: Sent with the request, and with every later one.
            http_version: None takes HTTP/2, with TLS the best that both know.

        Raises:
            UsageError: HF1281 or HF1282, this is not asked at all.
            EndpointError: It cannot be asked, or does not answer as endpoints do.
            DiscoveryError: What it says about itself cannot be used.
        """
        ...

    def connect(self, name: str, endpoint: Endpoint, manifest: Manifest) -> EndpointPort:
        """Return the port to an endpoint; nothing is sent before an attempt is opened."""
        ...


class EndpointError(TransportError):
    """An endpoint did not answer its discovery as endpoints do. Try again once it is mended.

    Args:
        message: What happened.
        code: Ours.
        restate_code: What a Restate server calls it, `META…`.
        status: HTTP status with which a registration fails.
        hint: What to do.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        restate_code: str | None = None,
        status: int = 500,
        hint: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.restate_code = restate_code
        self.status = status
