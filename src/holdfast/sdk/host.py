"""What an attempt needs of the application that it runs in."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.domain.retry import RetrySchedule

if TYPE_CHECKING:
    from holdfast.sdk.detail import DetailPolicy
    from holdfast.sdk.handler import Handler


class Host(Protocol):
    """What an attempt needs of the application."""

    details: DetailPolicy

    def now_ms(self) -> int:
        """Return the wall clock in milliseconds since the epoch."""
        ...

    def executor(self) -> Executor:
        """Return where the bodies of synchronous steps run."""
        ...

    def retry_of(self, handler: Handler[Any, Any]) -> RetrySchedule | None:
        """Return the retry policy of a handler, or that of its service."""
        ...
