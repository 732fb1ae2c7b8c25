"""The application: services, ready to be run by a server."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.domain.message import Entry, Error, FromHandler, Start, ToHandler
from holdfast.domain.retry import RetrySchedule
from holdfast.domain.target import Manifest
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.detail import DetailPolicy, Redact
from holdfast.sdk.handler import Handler
from holdfast.sdk.service import Service, VirtualObject
from holdfast.sdk.workflow import Workflow
from holdfast.transport.base import HandlerStream, ServerStream

if TYPE_CHECKING:
    from holdfast.transport.http.endpoint import HandlerEndpoint
    from holdfast.transport.http.handler_exchange import Receive, Scope, Send

IDENTITY_KEYS_VARIABLE = "HOLDFAST_IDENTITY_KEYS"

_CODE_UNKNOWN_HANDLER = 404
_CODE_PROTOCOL = 571


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class App:
    """Services, objects and workflows, for `holdfast dev`, `holdfast worker` or `embedded`.

    Also a `transport.base.HandlerPort`, and an ASGI application: an endpoint that is registered at
    a server by its address. Mount it under any path.

    Args:
        services: Definitions; names must differ.
        deployment_name: Workers with equal names serve the same handlers.
        step_threads: How many bodies of synchronous steps run at once.
        clock: Milliseconds since the epoch; tests with virtual time replace it.
        identity_keys: Of an endpoint: public keys of the servers that may invoke, `publickeyv1_…`.
            None takes those in HOLDFAST_IDENTITY_KEYS, separated by spaces; without any, whoever
            reaches the endpoint may invoke.
        capture_prompts: Whether the server keeps prompts and answers of model calls, arguments and
            results of tools. None asks HOLDFAST_CAPTURE_PROMPTS, which is `on` unless it is set.
        redact: Sees each call before it leaves, and returns what may be kept of it.

    Raises:
        UsageError: HF0504, a service or handler cannot be served; says which and why. HF0612,
            HOLDFAST_CAPTURE_PROMPTS is neither `on` nor `off`.
    """

    def __init__(
        self,
        *services: Service | VirtualObject | Workflow,
        deployment_name: str = "default",
        step_threads: int = 32,
        clock: Callable[[], int] | None = None,
        identity_keys: Sequence[str] | None = None,
        capture_prompts: bool | None = None,
        redact: Redact | None = None,
    ) -> None:
        self.services: dict[str, Service | VirtualObject | Workflow] = {}
        """By name."""
        for service in services:
            if service.name in self.services:
                raise UsageError(f"Two services are named {service.name!r}", code="HF0504")
            self.services[service.name] = service
        self.deployment_name = deployment_name
        self.manifest = Manifest(services=tuple(s.manifest() for s in self.services.values()))
        self.is_draining = False
        self.clock = clock or _wall_clock_ms
        """Milliseconds since the epoch."""
        self.details = DetailPolicy(capture_prompts, redact)
        """What is let out of model calls."""
        self._step_threads = step_threads
        self._executor: Executor | None = None
        self._identity_keys = identity_keys
        self._endpoint: HandlerEndpoint | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request of an ASGI server."""
        if self._endpoint is None:
            self._endpoint = self.endpoint()
        await self._endpoint(scope, receive, send)

    def endpoint(self, identity_keys: Sequence[str] = ()) -> HandlerEndpoint:
        """Return an endpoint with these handlers, to be served as an ASGI application.

        Args:
            identity_keys: Besides those of the app.

        Raises:
            UsageError: HF1372, one of the keys is none.
        """
        # Late: programs that do not serve HTTP do not pay for protobuf and cryptography.
        from holdfast.transport.http.endpoint import HandlerEndpoint

        own = self._identity_keys
        if own is None:
            own = os.environ.get(IDENTITY_KEYS_VARIABLE, "").split()
        return HandlerEndpoint(self, (*own, *identity_keys), self.now_ms)

    def open(self, start: Start, entries: Sequence[Entry], stream: ServerStream) -> HandlerStream:
        """Begin an attempt on the running event loop. See `HandlerPort`."""
        service = self.services.get(start.service)
        handler = None if service is None else service.handlers.get(start.handler)
        if handler is None:
            known = ", ".join(
                sorted(str(h) for s in self.services.values() for h in s.handlers.values())
            )
            return _Refusal(
                stream,
                Error(
                    _CODE_UNKNOWN_HANDLER,
                    f"{start.service}/{start.handler} is not served here; there is: {known}",
                ),
            )
        try:
            return Attempt(handler, start, entries, stream, self)
        except HoldfastError as error:
            return _Refusal(stream, Error(_CODE_PROTOCOL, str(error)))

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds since the epoch."""
        return self.clock()

    def retry_of(self, handler: Handler[Any, Any]) -> RetrySchedule | None:
        """Return the retry policy of a handler, or that of its service."""
        found = (h for s in self.manifest.services if s.name == handler.service for h in s.handlers)
        return next(h.retry for h in found if h.name == handler.name)

    def executor(self) -> Executor:
        """Return where the bodies of synchronous steps run."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._step_threads, "holdfast-step")
        return self._executor


class _Refusal:
    """An attempt that cannot begin."""

    def __init__(self, stream: ServerStream, error: Error) -> None:
        self._stream = stream
        self._is_over = False
        asyncio.get_running_loop().call_soon(self._end, (error,), None)

    def send(self, notifications: Sequence[ToHandler]) -> None:
        """See `HandlerStream`."""

    def close_input(self) -> None:
        """See `HandlerStream`."""

    def abort(self) -> None:
        """See `HandlerStream`."""
        self._end((), "aborted")

    def _end(self, messages: tuple[FromHandler, ...], reason: str | None) -> None:
        if not self._is_over:
            self._is_over = True
            if messages:
                self._stream.on_messages(messages)
            self._stream.on_closed(reason)
