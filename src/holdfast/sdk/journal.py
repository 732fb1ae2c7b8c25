"""The recorded commands of one attempt's journal, by key, and how new ones are matched with them.

A key is branch path, kind, name and occurrence; `machine` says what is compared and why. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from holdfast.domain.errors import HoldfastError, LocalProtocolError
from holdfast.domain.message import (
    AskApproval,
    AttachInvocation,
    Call,
    ClearAllState,
    ClearState,
    Command,
    CompleteAwakeable,
    CompletePromise,
    Error,
    FromHandler,
    GetEagerState,
    GetEagerStateKeys,
    GetInvocationOutput,
    GetLazyState,
    GetLazyStateKeys,
    GetPromise,
    Input,
    OneWayCall,
    Output,
    PeekPromise,
    ProposeRunCompletion,
    Run,
    SendSignal,
    SetState,
    Sleep,
    Value,
    WithdrawApproval,
    message_type,
)
from holdfast.sdk.program_clock import is_reading
from holdfast.sdk.step_try import is_try

C = TypeVar("C", bound=Command)

Types = type[C] | tuple[type[C], ...]

CODE_MISMATCH = 570

PATCHED = "patched:"
"""How the keys of `ctx.patched` begin. They are in no branch: an invocation has one answer."""


class JournalMismatch(HoldfastError):
    """The program does something else than it did when the journal was recorded."""

    code = "HF0570"
    recorded: Command | None = None
    """What the journal has in that place."""
    recorded_index: int | None = None
    """Its number among the commands; None: it was claimed before it was compared."""

    def to_error(self) -> Error:
        """Return what the server is told."""
        recorded = self.recorded
        return Error(
            CODE_MISMATCH,
            str(self),
            related_command_index=self.recorded_index,
            related_command_name=None if recorded is None else recorded.name,
            related_command_type=None if recorded is None else message_type(recorded),
        )


class Journal:
    """What an attempt has recorded and not yet claimed, and what it adds.

    Args:
        invocation_id: For messages.
        commands: The commands of the journal so far, in recorded order; the first is Input.
    """

    def __init__(self, invocation_id: str, commands: Iterable[Command]) -> None:
        self.input = Input(Value())
        self.outgoing: list[FromHandler] = []
        """Taken, and sent in order, by the shell."""
        self.differences: list[str] = []
        self.command_count = 0
        self._invocation_id = invocation_id
        self._recorded: dict[str, tuple[Command, int]] = {}
        """Commands not claimed yet, with their index, by key."""
        self._unclaimed: dict[str, int] = {}
        """Number of them, by branch."""
        self._patches: dict[str, bool] = {}
        """What `ctx.patched` has answered, by key; what is recorded was True."""
        self._readings: dict[str, int] = {}
        """Completion ids of recorded readings of the clock, by key."""
        self._tries: list[Run] = []
        """Records of tries of steps."""
        self._next_completion_id = 1
        self._load(commands)

    def _load(self, commands: Iterable[Command]) -> None:
        last_id = 0
        for index, command in enumerate(commands):
            self.command_count += 1
            if isinstance(command, Input):
                self.input = command
                continue
            if not command.key:
                raise LocalProtocolError(
                    f"Command {index} of {self._invocation_id} has no journal key",
                    hint="The journal was written by another SDK, or through a server that does "
                    "not keep keys.",
                )
            last_id = max(
                last_id,
                getattr(command, "completion_id", 0),
                getattr(command, "invocation_id_completion_id", 0),
            )
            if is_gate(command.key):
                # Not to be claimed: the gate may leave the program before the invocation ends.
                self._patches[command.key] = True
                continue
            if isinstance(command, Run) and is_reading(command.key):
                # Nor these: whether the clock is read depends on what is known of the time.
                self._readings[command.key] = command.completion_id
                continue
            if isinstance(command, Run) and is_try(command.key):
                # Nor these: they belong to a step, and are there for it and not for the program.
                self._tries.append(command)
                continue
            self._recorded[command.key] = (command, index)
            branch = branch_of(command.key)
            self._unclaimed[branch] = self._unclaimed.get(branch, 0) + 1
        self._next_completion_id = last_id + 1

    # -- matching ---------------------------------------------------------------------------------

    def _claim(
        self, path: str, key: str, kind: str, name: str, site: str, types: Types[C]
    ) -> tuple[C, int] | None:
        if not self._recorded:
            return None
        found = self._recorded.get(key)
        if found is None:
            if self._unclaimed.get(path):
                raise self._mismatch(path, _describe(kind, name, site))
            return None
        command, index = found
        if not isinstance(command, types):
            raise self._mismatch(path, _describe(kind, name, site), command)
        del self._recorded[key]
        self._unclaimed[branch_of(key)] -= 1
        return command, index

    def _compare_call(self, path: str, recorded: Call | OneWayCall, new: Call | OneWayCall) -> None:
        fields = ("service", "handler", "object_key")
        if any(getattr(recorded, field) != getattr(new, field) for field in fields):
            raise self._mismatch(path, describe_command(new), recorded)
        if recorded.parameter != new.parameter:
            self.differences.append(f"{new.key}: another parameter than the recorded one")

    def _mismatch(self, path: str, attempted: str, recorded: Command | None = None) -> Exception:
        if recorded is None:
            candidates = (c for c, _ in self._recorded.values() if branch_of(c.key) == path)
            recorded = next(candidates)
        branch = path or "the handler itself"
        error = JournalMismatch(
            f"Journal mismatch in {self._invocation_id}, branch: {branch}.\n"
            f"  recorded:  {describe_command(recorded)}\n"
            f"  attempted: {attempted}\n"
            "The handler changed under a running invocation. Give steps and the functions of tasks "
            "their old names back, or resume it on a deployment that can replay it (holdfast inv "
            "resume ID --deployment latest), or kill it and call the handler again."
        )
        error.recorded = recorded
        error.recorded_index = self._recorded.get(recorded.key, (recorded, None))[1]
        return error

    def sys_patched(self, patch_id: str, site: str) -> bool:
        """Return whether this invocation takes the way that a patch has opened.

        The first answer holds. It is True if nothing recorded is left to claim, which is to say: no
        earlier attempt has done anything behind this place. It is recorded as a step that is done.
        """
        key = f"{PATCHED}{patch_id.replace('/', '|')}#0"
        is_patched = self._patches.get(key)
        if is_patched is None:
            is_patched = self._patches[key] = not self._recorded
            if is_patched:
                self._write(key, f"{PATCHED}{patch_id}", b"true", site)
        return is_patched

    def unclaimed_step(self, key: str) -> Run | None:
        """Return a recorded step that nobody has asked for yet."""
        found = self._recorded.get(key)
        return found[0] if found is not None and isinstance(found[0], Run) else None

    def skip(self, path: str, kept: str) -> None:
        """Claim all that is recorded in a branch and below it, but the command with this key."""
        for key in [key for key in self._recorded if key.startswith(f"{path}/") and key != kept]:
            del self._recorded[key]
            self._unclaimed[branch_of(key)] -= 1

    def unclaimed(self) -> list[Command]:
        """Return the recorded commands that the program has not asked for, in recorded order."""
        return [command for command, _ in self._recorded.values()]

    def _write(self, key: str, name: str, content: bytes, site: str = "") -> int:
        """Record a step that is done. Returns its completion id."""
        number = self._allocate()
        self._emit(Run(number, name, key, site))
        self.outgoing.append(ProposeRunCompletion(number, Value(content)))
        return number

    def _allocate(self) -> int:
        number = self._next_completion_id
        self._next_completion_id = number + 1
        return number

    def _emit(self, command: Command) -> int:
        self.outgoing.append(command)
        index = self.command_count
        self.command_count = index + 1
        return index


def is_gate(key: str) -> bool:
    """Return whether a journal key is that of `ctx.patched`, and not one in a branch so named."""
    return key.startswith(PATCHED) and not branch_of(key)


def is_own(key: str) -> bool:
    """Return whether a journal key is that of a record that no program asks for by its key."""
    return is_gate(key) or is_reading(key) or is_try(key)


def branch_of(key: str) -> str:
    """Return the path of the branch in which a journal key was made."""
    return key.rpartition("/")[0]


_KINDS: dict[type, str] = {
    GetLazyState: "get",
    GetEagerState: "get",
    GetLazyStateKeys: "keys",
    GetEagerStateKeys: "keys",
    SetState: "set",
    ClearState: "clear",
    ClearAllState: "clear_all",
    Sleep: "sleep",
    Call: "call",
    OneWayCall: "send",
    SendSignal: "cancel or send_signal",
    Run: "run",
    AttachInvocation: "attach",
    GetInvocationOutput: "output",
    CompleteAwakeable: "resolve or reject",
    GetPromise: "promise",
    PeekPromise: "peek_promise",
    CompletePromise: "resolve_promise or reject_promise",
    AskApproval: "approve",
    WithdrawApproval: "withdraw",
    Output: "output",
}


def describe_command(command: Command) -> str:
    """Return kind, name and place of a command."""
    kind = _KINDS.get(type(command), type(command).__name__)
    match command:
        case Call() | OneWayCall():
            key = "" if command.object_key is None else f"{command.object_key}/"
            name = f"{command.service}/{key}{command.handler}"
        case GetEagerState() | GetLazyState() | SetState() | ClearState():
            name = command.state_key
        case AttachInvocation() | GetInvocationOutput() | SendSignal():
            name = command.target_invocation_id
        case CompleteAwakeable():
            name = command.awakeable_id
        case GetPromise() | PeekPromise() | CompletePromise():
            name = command.promise_name
        case _:
            name = command.name
    return _describe(kind, name, command.site)


def _describe(kind: str, name: str, site: str) -> str:
    what = f"{kind} {name!r}" if name else kind
    return f"{what} at {site}" if site else what
