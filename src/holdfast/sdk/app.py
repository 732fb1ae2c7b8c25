"""The application: services, ready to be run by a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

from holdfast.domain.errors import HoldfastError, UsageError
from holdfast.domain.message import Entry, Error, FromHandler, Notification, Start
from holdfast.domain.target import Manifest
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.service import Service, VirtualObject
from holdfast.transport.base import HandlerStream, ServerStream

_CODE_UNKNOWN_HANDLER = 404
_CODE_PROTOCOL = 571


def _wall_clock_ms() -> int:
    return time.time_ns() // 1_000_000


class App:
    """Services and objects, to be given to `holdfast dev`, `holdfast worker` or `embedded`.

    Also a `transport.base.HandlerPort`.

    Args:
        services: Definitions; names must differ.
        deployment_name: Workers with equal names serve the same handlers.
        step_threads: How many bodies of synchronous steps run at once.
        clock: Milliseconds since the epoch; tests with virtual time replace it.

    Raises:
        UsageError: HF0504, a service or handler cannot be served; says which and why.
    """

    def __init__(
        self,
        *services: Service | VirtualObject,
        deployment_name: str = "default",
        step_threads: int = 32,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.services: dict[str, Service | VirtualObject] = {}
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
        self._step_threads = step_threads
        self._executor: Executor | None = None

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

    def send(self, notifications: Sequence[Notification]) -> None:
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
