"""What is said to a chat, what it says, and what it keeps. All of it is JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

TurnStatus: TypeAlias = Literal["running", "done", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What `send` returns."""

    text: str | None
    """What the chat said; `None` if it was interrupted before."""
    status: Literal["done", "interrupted", "steered"] = "done"
    """`"steered"`: the turn that was running took the message in, and this is its reply."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation, as `history` shows it."""

    text: str
    """What was said to the chat."""
    invocation_id: str
    """Of the turn. The text of streamed answers is in its durable stream."""
    status: TurnStatus = "running"
    reply: str | None = None
    steered: list[str] = field(default_factory=list[str])
    """What was said while it ran and taken in by it."""
    first_message: int = 0
    """Number of the first message that the turn appended, or of the next turn if it did not."""


@dataclass(frozen=True, slots=True)
class Head:
    """Which turns and messages there are: those from `first_…` up to, and without, `next_…`."""

    first_turn: int = 0
    next_turn: int = 0
    first_message: int = 0
    next_message: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """What a turn is started with."""

    text: str
    number: int
    """Counts the messages of the conversation, from 0; the mailbox knows them by it."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message on its way to a chat, as the mailbox takes it."""

    chat: str
    """Name of the service."""
    key: str
    text: str
    unique: str
    """Equal for the same message; other messages have other ones."""
    interrupts: bool
    """Whether the turn before is told to stop; if not, it may take the message in."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message whose turn has not begun."""

    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """The state of a mailbox."""

    count: int = 0
    last_turn: str = ""
    """Invocation id of the turn that was started last."""
    waiting: list[Waiting] = field(default_factory=list[Waiting])
