"""Approvals in the journal: asked for once, and withdrawn when nobody waits any more. Sans-IO."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from holdfast.domain.message import AskApproval, Command, WithdrawApproval
from holdfast.sdk.journal import Journal


class Asking(Journal):
    """The part of the replay machine that asks people."""

    def __init__(self, invocation_id: str, commands: Iterable[Command]) -> None:
        super().__init__(invocation_id, commands)
        self.asks_given_up: dict[int, str] = {}
        """Approvals that user code gave up, and that were not withdrawn: keys by signal index."""

    def sys_ask(self, path: str, command: AskApproval) -> AskApproval:
        """An approval. Returns it with the deadline that counts; if it is recorded, that one."""
        found = self._claim(path, command.key, "approve", command.name, command.site, AskApproval)
        if found is None:
            self._emit(command)
            return command
        return replace(command, expires_at_ms=found[0].expires_at_ms)

    def give_up_ask(self, index: int, key: str) -> None:
        """User code does not want a decision any more; see `Machine.give_up`.

        Args:
            index: Signal index of the approval.
            key: Journal key of its command.
        """
        self.asks_given_up[index] = key

    def sys_withdraw(self) -> None:
        """Withdraw the approvals that were given up; for when, see `Machine.sys_tell_given_up`."""
        while self.asks_given_up:
            index, ask_key = self.asks_given_up.popitem()
            key = f"{ask_key}/withdraw#0"
            if self._claim(ask_key, key, "withdraw", "", "", WithdrawApproval) is None:
                self._emit(WithdrawApproval(index, "", key))
