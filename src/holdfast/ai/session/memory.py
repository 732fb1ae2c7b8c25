"""What a chat remembers, in the state of its object.

Each message and each turn is a state entry of its own: a turn writes what is new, and not the
conversation. Numbers only grow; trimming removes whole turns at the old end, because a call of a
tool must not lose its result.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import holdfast as hf
from holdfast.ai.session.message import Head, Turn, TurnStatus
from holdfast.domain.errors import TerminalError, UsageError

Summarise: TypeAlias = Callable[[list[Any]], Awaitable[Any]]

_HEAD = "head"
_SUMMARY = "summary"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """When a chat forgets its oldest turns, and what it keeps of them.

    Args:
        above: With more turns than this, the oldest go, at the end of a turn.
        to: How many turns are left then. Smaller than `above`, it is done less often.
        summarise: Gets the messages that go, the former summary first, and returns the message
            that stands for them. It runs in the handler: its model calls must be durable. None:
            they are forgotten.

    Raises:
        UsageError: HF0630, unless `0 <= to <= above`.
    """

    above: int
    to: int
    summarise: Summarise | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.to <= self.above:
            raise UsageError(
                f"Trim(above={self.above}, to={self.to}) cannot be: it takes 0 <= to <= above",
                code="HF0630",
            )


class Memory:
    """The memory of one conversation, as one turn sees and changes it."""

    def __init__(self, ctx: hf.Context, head: Head, messages: list[Any]) -> None:
        self._ctx = ctx
        self._head = head
        self.messages = messages
        """The summary, if there is one, and all messages since, oldest first."""
        self._turn: Turn | None = None

    @classmethod
    async def load(cls, ctx: hf.Context) -> Memory:
        """Read what there is."""
        head = await ctx.get(_HEAD, type=Head) or Head()
        # All are asked for before one is awaited: they are read in one go.
        reading = [ctx.get(_message(n)) for n in range(head.first_message, head.next_message)]
        summary = await ctx.get(_SUMMARY)
        messages = [await one for one in reading]
        return cls(ctx, head, messages if summary is None else [summary, *messages])

    def begin(self, text: str) -> None:
        """Open a turn."""
        number = self._head.next_turn
        self._head = replace(self._head, next_turn=number + 1)
        self._keep_head()
        self._keep_turn(Turn(text, self._ctx.id, first_message=self._head.next_message))

    def append(self, messages: tuple[Any, ...]) -> None:
        """Add messages at the end."""
        for number, message in enumerate(messages, self._head.next_message):
            self._ctx.set(_message(number), message, type=Any)
        self.messages.extend(messages)
        self._head = replace(self._head, next_message=self._head.next_message + len(messages))
        self._keep_head()

    def steer(self, texts: list[str]) -> None:
        """Note what the open turn has taken in."""
        turn = self._open_turn()
        self._keep_turn(replace(turn, steered=[*turn.steered, *texts]))

    def end(self, status: TurnStatus, reply: str | None = None) -> None:
        """End the open turn."""
        self._keep_turn(replace(self._open_turn(), status=status, reply=reply))

    async def unanswered(self) -> list[str]:
        """Return what was said in the latest turns that ended before they appended anything."""
        found: list[str] = []
        for number in reversed(range(self._head.first_turn, self._head.next_turn)):
            turn = await self._read_turn(number)
            if turn is None or turn.status == "done":
                break
            if turn.first_message < self._head.next_message:
                break
            found[:0] = [turn.text, *turn.steered]
        return found

    async def last_reply(self) -> str | None:
        """Return what the latest turn said."""
        turn = await self._read_turn(self._head.next_turn - 1)
        return None if turn is None else turn.reply

    async def trim(self, trim: Trim) -> None:
        """Forget the oldest turns. If they cannot be summarised they stay until the next turn."""
        head = self._head
        if head.next_turn - head.first_turn <= trim.above:
            return
        first_turn = head.next_turn - trim.to
        kept = await self._read_turn(first_turn)
        first_message = head.next_message if kept is None else kept.first_message
        stay = head.next_message - first_message
        gone = self.messages[: len(self.messages) - stay]
        if trim.summarise is not None and gone:
            try:
                summary = await trim.summarise(gone)
            except TerminalError as error:
                _logger.warning("a chat could not be summarised: %s", error.message)
                return
            self._ctx.set(_SUMMARY, summary, type=Any)
        for number in range(head.first_turn, first_turn):
            self._ctx.clear(_turn(number))
        for number in range(head.first_message, first_message):
            self._ctx.clear(_message(number))
        self._head = replace(head, first_turn=first_turn, first_message=first_message)
        self._keep_head()

    def _open_turn(self) -> Turn:
        assert self._turn is not None, "no turn was begun"
        return self._turn

    async def _read_turn(self, number: int) -> Turn | None:
        return await self._ctx.get(_turn(number), type=Turn)

    def _keep_turn(self, turn: Turn) -> None:
        self._turn = turn
        self._ctx.set(_turn(self._head.next_turn - 1), turn, type=Turn)

    def _keep_head(self) -> None:
        self._ctx.set(_HEAD, self._head, type=Head)


async def read_turns(ctx: hf.Context) -> list[Turn]:
    """Return the turns that are remembered, oldest first."""
    head = await ctx.get(_HEAD, type=Head) or Head()
    reading = [ctx.get(_turn(n), type=Turn) for n in range(head.first_turn, head.next_turn)]
    return [turn for one in reading if (turn := await one) is not None]


def _message(number: int) -> str:
    return f"message:{number:08}"


def _turn(number: int) -> str:
    return f"turn:{number:08}"
