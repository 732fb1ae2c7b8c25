"""A chat: a virtual object whose key is the conversation.

A turn holds the lock of its key, so turns never overlap. With `on_message="queue"`, `send` is the
turn. Otherwise somebody must listen while a turn runs: `send` is shared, hands the message to the
mailbox, and waits for the turn that the mailbox has started.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias, Unpack, get_args

import holdfast as hf
from holdfast.ai.session.mailbox import INTERRUPT, claim, put
from holdfast.ai.session.memory import Memory, Trim, read_turns
from holdfast.ai.session.message import Letter, Reply, Said, Turn
from holdfast.ai.session.session import Session
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.sdk.interrupt import Cancelled
from holdfast.sdk.option import HandlerOptions

OnMessage: TypeAlias = Literal["queue", "interrupt", "steer"]
TurnFunction: TypeAlias = Callable[[Session, str], Awaitable[str]]


class Chat(hf.VirtualObject):
    """Conversations with memory. Handlers: `send`, `history`, `clear`; the key names one.

    Args:
        name: Of the service.
        turn: Takes the session and what was said, and returns the reply. It is a handler's code:
            durable calls, frameworks and streams work in it as in any other.
        on_message: What a message does that comes while a turn runs. "queue": it waits.
            "interrupt": the turn is stopped, with the model call and the tools that it waits for,
            and what it appended stays. "steer": the turn gets it from `session.steering()`; if it
            does not ask any more, it is the next turn. The app also serves `mailbox`, unless it is
            "queue".
        trim: When the oldest turns are forgotten; None: never.
        options: As for `hf.VirtualObject`.

    Raises:
        UsageError: HF0630, `turn` or `on_message` cannot be; HF0504 and HF0530 as for any object.
    """

    def __init__(
        self,
        name: str,
        turn: TurnFunction,
        *,
        on_message: OnMessage = "queue",
        trim: Trim | None = None,
        **options: Unpack[HandlerOptions],
    ) -> None:
        super().__init__(name, **options)
        if on_message not in get_args(OnMessage):
            raise UsageError(
                f"on_message of chat {name!r} must be one of "
                f"{', '.join(map(repr, get_args(OnMessage)))}, not {on_message!r}",
                code="HF0630",
            )
        if not inspect.iscoroutinefunction(turn):
            raise UsageError(
                f"A turn of chat {name!r} must be an async function, not {turn!r}",
                code="HF0630",
                hint="Write async def turn(session: Session, text: str) -> str.",
            )
        self._turn = turn
        self._on_message: OnMessage = on_message
        self._trim = trim
        self._define()

    def _define(self) -> None:
        if self._on_message == "queue":

            @self.handler
            async def send(ctx: hf.Context, text: str) -> Reply:
                return await self._run(ctx, text)

        else:

            @self.shared
            async def send(ctx: hf.Context, text: str) -> Reply:
                letter = Letter(self.name, ctx.key, text, ctx.id, self._on_message == "interrupt")
                turn_id = await ctx.call(put, letter, key=self._box(ctx))
                return await ctx.attach(turn_id, type=Reply)

            @self.handler(private=True)
            async def turn(ctx: hf.Context, said: Said) -> Reply:
                if self._on_message == "steer" and not await ctx.call(
                    claim, said.number, key=self._box(ctx)
                ):
                    memory = await Memory.load(ctx)
                    return Reply(await memory.last_reply(), "steered")
                return await self._run(ctx, said.text)

        @self.shared
        async def history(ctx: hf.Context) -> list[Turn]:
            return await read_turns(ctx)

        @self.handler
        async def clear(ctx: hf.Context) -> None:
            ctx.clear_all()

    def _box(self, ctx: hf.Context) -> str:
        return f"{self.name}/{ctx.key}"

    async def _run(self, ctx: hf.Context, text: str) -> Reply:
        memory = await Memory.load(ctx)
        unanswered = await memory.unanswered()
        memory.begin(text)
        box = self._box(ctx) if self._on_message == "steer" else None
        session = Session(ctx, memory, text, unanswered, box)
        try:
            reply = await self._answer(session)
        except TerminalError as error:
            memory.end("interrupted" if isinstance(error, Cancelled) else "failed")
            raise
        memory.end("interrupted" if reply.text is None else "done", reply.text)
        if self._trim is not None:
            await memory.trim(self._trim)
        return reply

    async def _answer(self, session: Session) -> Reply:
        if self._on_message != "interrupt":
            return Reply(await self._turn(session, session.text))
        turn = _awaited(self._turn, session)
        winner = await hf.race(turn, session.ctx.signal(INTERRUPT, int))
        # The answer goes first: it is not thrown away for a signal that came at the same time.
        return Reply(winner.value) if isinstance(winner.value, str) else Reply(None, "interrupted")


async def _awaited(turn: TurnFunction, session: Session) -> str:
    return await turn(session, session.text)
