"""What `ctx.approve` gives back: something to await, with an id and links; and the decision."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from holdfast.domain.approval import DecisionContent, decode_decision
from holdfast.domain.approval_link import link_path
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.domain.message import AskApproval, Failure, Result, Value
from holdfast.sdk.future import DurableFuture
from holdfast.sdk.serde import Serde, SerdeError

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMED_OUT_CODE = 408
_MISFIT_CODE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision(Generic[T]):
    """What a person has decided. True when it is approved: `if await ctx.approve(…):`."""

    approved: bool
    value: T | None = None
    """What was filled into the form; None: nothing, or there was none."""
    arguments: dict[str, Any] = field(default_factory=dict[str, Any])
    """All arguments, with the changes of the person."""
    by: str = ""
    """Who, as far as the one who decided said or the link did."""
    comment: str = ""
    at: datetime = _EPOCH
    """When, in UTC."""
    timed_out: bool = False
    """Nobody decided in time, and `on_timeout` did."""

    def __bool__(self) -> bool:
        return self.approved


class Approval(DurableFuture[Decision[T]]):
    """A question to a person. Await it for the decision.

    Cancelling it withdraws the question.
    """

    id: str
    """Of the approval, and of its awakeable. Stable: the same on every attempt."""
    asked: AskApproval
    _key: str
    _helpers: tuple[asyncio.Task[None] | asyncio.TimerHandle, ...] = ()

    @property
    def link(self) -> str | None:
        """A signed link that opens this approval, for whoever has it or for its one assignee.

        It closes at the deadline. None: the server has no inbox. A path without host: nobody has
        told the server where people reach it.
        """
        assignees = self.asked.assignees
        return self.link_for(assignees[0] if len(assignees) == 1 else "")

    def link_for(self, assignee: str) -> str | None:
        """Return a signed link for one of the assignees: who decides by it is `Decision.by`.

        Raises:
            UsageError: HF0590, there are others, and this is none of them.
        """
        if assignee and self.asked.assignees and assignee not in self.asked.assignees:
            raise UsageError(
                f"{assignee!r} is none of those who may decide: {', '.join(self.asked.assignees)}",
                code="HF0590",
            )
        start = self._attempt.machine.start
        if not start.approval_key:
            return None
        path = link_path(start.approval_key, self.id, assignee, self.asked.expires_at_ms)
        return f"{start.public_url}{path}"

    def helped_by(self, helper: asyncio.Task[None] | asyncio.TimerHandle) -> None:
        """Cancel something when there is a decision, or nobody waits for one."""
        self._helpers = (*self._helpers, helper)

    def time_out(self) -> None:
        """Decide by `on_timeout`. Only where the server does not do that."""
        self._attempt.machine.forget_signal(self._number)
        content = DecisionContent(
            approved=self.asked.on_timeout == "approve",
            at_ms=self._attempt.machine.now_ms,
            timed_out=True,
        )
        self.on_result(Value(msgspec.json.encode(content)))

    def on_result(self, result: Result) -> None:
        """See `machine.Waiter`."""
        self._dismiss()
        if type(result) is Failure:
            # Whoever rejects an awakeable rejects what it asks for.
            content = DecisionContent(approved=False, comment=result.message)
            result = Value(msgspec.json.encode(content))
        super().on_result(result)

    def on_failure(self, error: BaseException) -> None:
        """See `machine.Waiter`."""
        self._dismiss()
        super().on_failure(error)

    def release(self) -> None:
        """Nobody wants the decision any more: withdraw the question."""
        self._dismiss()
        super().release()
        if self._attempt.is_open and self._attempt.machine.start.has_extensions:
            self._attempt.machine.give_up_ask(self._number, self._key)

    def _dismiss(self) -> None:
        helpers, self._helpers = self._helpers, ()
        for helper in helpers:
            helper.cancel()


def make_approval(
    attempt: Attempt, asked: AskApproval, approval_id: str, form: Serde[T] | None
) -> Approval[T]:
    """Return the approval of a command that counts."""
    approval: Approval[T] = Approval(attempt, asked.index, _reader(asked, form), is_signal=True)
    approval.id = approval_id
    approval.asked = asked
    approval._key = asked.key  # pyright: ignore[reportPrivateUsage]
    return approval


def _reader(asked: AskApproval, form: Serde[T] | None) -> Callable[[Any], Decision[T]]:
    def read(result: Result) -> Decision[T]:
        try:
            content = decode_decision(result.content if isinstance(result, Value) else b"")
            raw = bytes(content.value)
            value: Any = None
            if raw != b"null":
                value = msgspec.json.decode(raw) if form is None else form.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, SerdeError) as error:
            why = error.message if isinstance(error, SerdeError) else str(error)
            raise TerminalError(
                f"The decision of approval {asked.title!r} cannot be used: {why} [HF0592]",
                code=_MISFIT_CODE,
                metadata={"error_code": "HF0592"},
            ) from error
        if content.timed_out and asked.on_timeout == "fail":
            raise TerminalError(
                f"Nobody has decided approval {asked.title!r} in time [HF0593]",
                code=_TIMED_OUT_CODE,
                metadata={"error_code": "HF0593"},
            )
        arguments = bytes(content.arguments)
        if arguments == b"null":
            arguments = asked.arguments or b"{}"
        return Decision(
            approved=content.approved,
            value=value,
            arguments=msgspec.json.decode(arguments, type=dict[str, Any]),
            by=content.by,
            comment=content.comment,
            at=datetime.fromtimestamp(content.at_ms / 1000, UTC),
            timed_out=content.timed_out,
        )

    return read
