"""Chats that remember: one virtual object per conversation, for any framework.

    from holdfast.ai.session import Chat, Session, mailbox

    async def turn(session: Session, text: str) -> str:
        reply = await answer([*session.messages, {"role": "user", "content": text}])
        session.append({"role": "user", "content": text}, {"role": "assistant", "content": reply})
        return reply

    chat = Chat("Chat", turn, on_message="interrupt")
    app = hf.App(chat, mailbox)

`Chat/{key}/send` says something and returns the reply, `history` shows the turns, `clear` forgets
them. `on_message` says what a message does that comes while a turn runs.
"""

from __future__ import annotations

from holdfast.ai.session.chat import Chat, OnMessage, TurnFunction
from holdfast.ai.session.mailbox import mailbox
from holdfast.ai.session.memory import Summarise, Trim
from holdfast.ai.session.message import Reply, Turn
from holdfast.ai.session.session import Session

__all__ = [
    "Chat",
    "OnMessage",
    "Reply",
    "Session",
    "Summarise",
    "Trim",
    "Turn",
    "TurnFunction",
    "mailbox",
]
