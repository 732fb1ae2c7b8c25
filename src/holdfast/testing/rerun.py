"""Replays recorded runs against the code as it is now. Nothing is sent, and no step runs."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.domain.errors import HoldfastError
from holdfast.domain.message import (
    Command,
    Emit,
    End,
    Error,
    FromHandler,
    Input,
    Outcome,
    Output,
    ProposeRunCompletion,
    Suspension,
)
from holdfast.domain.recording import Recording, decode_recording
from holdfast.sdk.app import App
from holdfast.sdk.attempt import Attempt
from holdfast.sdk.bodies import Bodies
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.journal import CODE_MISMATCH, branch_of, describe_command, is_gate
from holdfast.sdk.step import Step
from holdfast.testing.strict import Watch

_PATIENCE_S = 5.0
_SIDES = re.compile(r"branch: (.*)\.\n  recorded:  (.*)\n  attempted: (.*)\n")
_ITSELF = "the handler itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What came of a replay."""

    invocation_id: str
    target: str
    """`Service/handler`."""
    is_ok: bool
    """Whether the code asks for all that is recorded, as it was recorded."""
    end: str
    """Where the replay ended, such as `waits behind the last entry`."""
    entry_count: int
    recorded: str = ""
    """What is recorded where the code differs first; empty if it does not."""
    attempted: str = ""
    """What the code did instead."""
    branch: str = ""
    """Where: `the handler itself`, or the path of a task or scope."""
    differences: tuple[str, ...] = ()
    """What is not as recorded, and is allowed to be: parameters of calls, the result."""
    error: HoldfastError | None = field(default=None, compare=False)
    """What strict mode refused."""

    def __str__(self) -> str:
        lines = [f"{self.invocation_id} {self.target}: {'ok' if self.is_ok else 'diverged'}"]
        if self.is_ok:
            lines[0] += f", {self.end}"
        else:
            lines.append(f"  branch:    {self.branch}")
            lines.append(f"  recorded:  {self.recorded}")
            lines.append(f"  attempted: {self.attempted}")
        return "\n".join([*lines, *(f"  differs:   {each}" for each in self.differences)])


class _HeldBodies(Bodies):
    """Runs no body: where a step has no result, the recording ends."""

    def start(self, step: Step, future: DurableFuture[Any]) -> None:
        """Do not."""


class _Replay(Attempt):
    """An attempt that does nothing to the world."""

    outcome: Outcome | None = None

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bodies = _HeldBodies(self)

    def _finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        super()._finish(outcome)


class _Stream:
    """A server that listens, and does nothing."""

    def __init__(self) -> None:
        self.messages: list[FromHandler] = []
        self.is_closed = asyncio.Event()

    def on_messages(self, messages: Sequence[FromHandler]) -> None:
        """See `ServerStream`."""
        self.messages += messages

    def on_closed(self, reason: str | None) -> None:
        """See `ServerStream`."""
        self.is_closed.set()


def read_recording(path: str | Path) -> Recording:
    """Read a file that `holdfast invocations export` wrote.

    Raises:
        UsageError: HF0553, the file is no recording.
        OSError: The file cannot be read.
    """
    return decode_recording(Path(path).read_bytes())


async def replay(
    recording: Recording | str | Path, app: App, *, strict: bool = False
) -> ReplayReport:
    """Replay a recorded run against the code of an app, and say where it goes another way first.

    Bodies of steps do not run. The replay ends where the recording does.

    Args:
        recording: From `env.recording(id)`; or the path of a file that
            `holdfast invocations export` wrote.
        app: The code.
        strict: Also refuse what strict mode refuses: see `environment`.

    Raises:
        UsageError: HF0553, the file is no recording.
        OSError: The file cannot be read.
    """
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    start = recording.start
    service = app.services.get(start.service)
    handler = None if service is None else service.handlers.get(start.handler)
    if handler is None:
        known = sorted(str(h) for each in app.services.values() for h in each.handlers.values())
        return _diverged(
            recording, recording.target, f"not served here; there is: {', '.join(known)}"
        )
    stream = _Stream()
    refused: list[HoldfastError] = []
    with contextlib.ExitStack() as stack:
        if strict:
            stack.enter_context(Watch(refused.append))
        try:
            attempt = _Replay(handler, start, recording.entries, stream, app)
        except HoldfastError as error:
            return _diverged(recording, "a journal of another SDK", error.message)
        attempt.emitter.mute()
        attempt.close_input()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stream.is_closed.wait(), _PATIENCE_S)
        if not stream.is_closed.is_set():
            attempt.abort()
            await stream.is_closed.wait()
            text = "waits for something that is not durable, such as a socket or a thread"
            return _diverged(recording, _next_of(attempt), text)
    return _judge(recording, attempt, stream.messages, refused)


def _judge(
    recording: Recording,
    attempt: _Replay,
    messages: Sequence[FromHandler],
    refused: Sequence[HoldfastError],
) -> ReplayReport:
    if refused:
        return _diverged(recording, _next_of(attempt), refused[0].message, error=refused[0])
    last = messages[-1]
    if isinstance(last, Error) and last.code == CODE_MISMATCH:
        sides = _SIDES.search(last.message)
        branch, recorded, attempted = sides.groups() if sides else (_ITSELF, "", last.message)
        return _diverged(recording, recorded, attempted, branch)
    match last:
        case End():
            end = "the handler ended"
        case Error():
            end = f"the handler failed: {last.message}"
        case _:
            end = "waits behind the last entry"
    left = attempt.machine.unclaimed()
    if left:
        # The recording goes on where the code, having heard all that was recorded, does not.
        new = [m for m in messages if _is_new(m)]
        attempted = _describe(new[0]) if new else end
        return _diverged(recording, _describe(left[0]), attempted, _branch_of(left[0]))
    differences = list(attempt.machine.differences)
    outputs = [entry for entry in recording.entries if isinstance(entry, Output)]
    if outputs and attempt.outcome not in (None, outputs[-1].result):
        differences.append("another result than the recorded one")
    return ReplayReport(
        invocation_id=recording.invocation_id,
        target=recording.target,
        is_ok=True,
        end=end,
        entry_count=len(recording.entries),
        differences=tuple(differences),
    )


def _diverged(
    recording: Recording,
    recorded: str,
    attempted: str,
    branch: str = _ITSELF,
    *,
    error: HoldfastError | None = None,
) -> ReplayReport:
    return ReplayReport(
        invocation_id=recording.invocation_id,
        target=recording.target,
        is_ok=False,
        end="diverged",
        entry_count=len(recording.entries),
        recorded=recorded,
        attempted=attempted,
        branch=branch,
        error=error,
    )


def _next_of(attempt: Attempt) -> str:
    left = attempt.machine.unclaimed()
    return _describe(left[0]) if left else "nothing more"


def _is_new(message: FromHandler) -> bool:
    """Return whether this is something that the program asks for and that is not recorded."""
    if isinstance(message, Input | End | Error | Suspension | ProposeRunCompletion | Emit):
        return False
    return not is_gate(message.key)


def _describe(command: FromHandler) -> str:
    assert not isinstance(command, End | Error | Suspension | ProposeRunCompletion | Emit)
    branch = branch_of(command.key)
    where = f" in branch {branch}" if branch else ""
    return describe_command(command) + where


def _branch_of(command: Command) -> str:
    return branch_of(command.key) or _ITSELF
