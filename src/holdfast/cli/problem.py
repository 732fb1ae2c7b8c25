"""What can go wrong with a command, and how it is told: exit codes and three lines of text."""

from __future__ import annotations

from enum import IntEnum

import click

from holdfast.domain.errors import (
    ConflictError,
    CorruptState,
    HoldfastError,
    NotFoundError,
    StorageError,
    TransportError,
    UsageError,
)


class ExitCode(IntEnum):
    """What a command tells its caller."""

    OK = 0
    RUN_FAILED = 1
    """The invocation ended with a failure, or Holdfast itself did."""
    USAGE = 2
    """The command, its arguments or its surroundings must be changed first."""
    NOT_FOUND = 3
    """What was asked for does not exist; of a server: its store is corrupt."""
    CONFLICT = 4
    """Refused now, because of the state that things are in."""
    UNREACHABLE = 5
    """No server answered, or it could not serve."""
    TIMEOUT = 6
    """The given time passed while waiting."""
    NOT_ALLOWED = 7
    """The server wants another token."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CommandError(HoldfastError):
    """A command failed.

    Args:
        message: What happened.
        code: Stable code with a page in `docs/errors/`.
        exit_code: What the process exits with.
        cause: Why; may have several lines.
        hint: What to do.
    """

    def __init__(
        self, message: str, *, code: str, exit_code: ExitCode, cause: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.exit_code = exit_code
        self.cause = cause


def usage_error(message: str, *, code: str, cause: str = "", hint: str = "") -> CommandError:
    """Return an error that the caller of the command can mend."""
    return CommandError(message, code=code, exit_code=ExitCode.USAGE, cause=cause, hint=hint)


def exit_code_of(error: HoldfastError) -> ExitCode:
    """Return what the process exits with after an error."""
    match error:
        case CommandError():
            return error.exit_code
        case NotFoundError() | CorruptState():
            return ExitCode.NOT_FOUND
        case UsageError() | StorageError():
            return ExitCode.USAGE
        case ConflictError():
            return ExitCode.CONFLICT
        case TransportError():
            return ExitCode.UNREACHABLE
        case _:
            return ExitCode.RUN_FAILED


def describe(error: HoldfastError) -> str:
    """Return an error as lines for a person: what, why, what next."""
    head = click.style(f"error[{error.code}]", fg="red", bold=True)
    lines = [f"{head}: {error.message}"]
    cause = error.cause if isinstance(error, CommandError) else _cause_of(error)
    if cause:
        lines.append(f"  cause: {_indented(cause)}")
    if error.hint:
        lines.append(f"  hint:  {_indented(error.hint)}")
    return "\n".join(lines)


def _cause_of(error: HoldfastError) -> str:
    cause = error.__cause__
    text = str(cause) if cause is not None else ""
    # Messages of the store and the server often quote their cause already.
    return "" if text in error.message else text


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n         ")
