"""The exceptions of Holdfast.

    Exception
    ├── HoldfastError              has a stable `code`, with a page in docs/errors
    │   ├── UsageError             the caller is wrong: fix the call
    │   │   └── NotFoundError      what it names does not exist
    │   ├── ConflictError          right call, wrong moment
    │   ├── ProtocolError
    │   │   ├── LocalProtocolError     we broke the protocol
    │   │   └── RemoteProtocolError    the peer broke it
    │   ├── TransportError         a connection failed: retry
    │   └── StorageError
    │       ├── StorageUnavailable     not now: retry
    │       ├── Unstorable             a value cannot be stored, nothing was written: change it
    │       ├── Fenced                 another leader has taken over: step down
    │       └── CorruptState           what is stored contradicts itself: stop
    ├── TerminalError              user-facing: ends an invocation, or is caught by its caller
    └── RetryableError             user-facing: fails an attempt, says when to try again (`sdk`)

Every HoldfastError is written for a tired person: what happened, where, expected versus found, what
to do.
"""

from __future__ import annotations


class HoldfastError(Exception):
    """Base of all errors that Holdfast raises about itself."""

    code = "HF0000"
    """Stable, documented in `docs/errors/`."""

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{self.message} [{self.code}]{hint}"


class UsageError(HoldfastError):
    """The call cannot work as it is written. Not retryable."""

    code = "HF1000"


class NotFoundError(UsageError):
    """The service, handler or invocation does not exist."""

    code = "HF1404"


class ConflictError(HoldfastError):
    """The invocation is not in a state that allows this."""

    code = "HF1409"


class ProtocolError(HoldfastError):
    """The stream between server and handler broke its rules."""

    code = "HF2000"


class LocalProtocolError(ProtocolError):
    """This side is about to break the protocol: a bug here."""

    code = "HF2001"


class RemoteProtocolError(ProtocolError):
    """The other side broke the protocol."""

    code = "HF2002"


class TransportError(HoldfastError):
    """A connection failed or was lost. Retryable."""

    code = "HF3000"


class StorageError(HoldfastError):
    """The store did not do what it was asked."""

    code = "HF4000"


class StorageUnavailable(StorageError):
    """The store cannot be reached or is busy. Retryable; the outcome of a commit is unknown."""

    code = "HF4001"


class Unstorable(StorageError):
    """A value cannot be stored, and nothing of its batch was. Not retryable as it is."""

    code = "HF4111"


class Fenced(StorageError):
    """The commit was refused: a newer epoch holds the partition. Step down, never retry."""

    code = "HF4002"


class CorruptState(StorageError):
    """Stored rows contradict each other, or the file is damaged. Stop; restore a backup."""

    code = "HF4003"


class TerminalError(Exception):
    """Ends an invocation with a failure that is never retried, or is caught by its caller.

    Args:
        message: For people.
        code: HTTP-like status that the caller sees, 100..999; 500 by default.
        metadata: Passed to callers unchanged.
    """

    # For subclasses that do not call `__init__`.
    message: str = ""
    code: int = 500

    def __init__(
        self, message: str = "", *, code: int = 500, metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.metadata = metadata or {}
