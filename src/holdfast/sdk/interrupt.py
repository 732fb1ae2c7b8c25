"""What is raised at awaits when an attempt ends, or when its invocation is cancelled.

Interrupts derive from `BaseException`, so that an `except Exception` in user code, or in a
framework, does not swallow them.
"""

from __future__ import annotations

import asyncio
from typing import Any

from holdfast.domain.errors import TerminalError


class Interrupt(BaseException):
    """The attempt is over for this code; it will go on, or not, in another attempt."""


class Suspended(Interrupt):
    """The invocation waits, and has left memory while it does."""

    def __init__(self) -> None:
        super().__init__(
            "The invocation is suspended: it continues here, with all recorded results, when what "
            "it waits for has arrived. This is not an error. Never catch BaseException, and never "
            "use a bare `except:`, around durable calls; clean-up in `finally` must not be durable."
        )


class Aborted(Interrupt):
    """The attempt was stopped; another one may repeat it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The attempt was stopped: {reason}. Another attempt continues from the journal. Never "
            "catch BaseException, and never use a bare `except:`, around durable calls."
        )


class Carried(BaseException):
    """Carries an error past the `except Exception` of a framework, to whoever takes it out.

    A handler that ends with it ends with the error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"{type(error).__name__}: {error}. Never catch BaseException around durable calls."
        )
        self.error = error


class Cancelled(TerminalError):
    """How a cancellation of the invocation is raised where it waits."""

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message, code=409)


ENDED = "the attempt has ended"
"""Message of cancellations that clean up after an attempt."""
FAILING = "another task has failed, and the attempt will be repeated"
"""Message of cancellations whose cause no journal has: the next attempt may not see them."""


def is_aftermath(error: Any) -> bool:
    """Return whether an exception only says that its attempt ends: then nobody needs to see it.

    Tasks that nobody awaits any more would otherwise be reported by the event loop.
    """
    if issubclass(type(error), BaseExceptionGroup):
        return all(map(is_aftermath, error.exceptions))
    if isinstance(error, asyncio.CancelledError):
        return error.args == (ENDED,)
    if isinstance(error, Carried):
        return is_aftermath(error.error)
    return isinstance(error, Interrupt | Cancelled)
