"""A chat with memory: one virtual object per conversation, on a plain client.

Run it, say two things, and look at what it remembers:

    holdfast dev examples/agents/chat.py:app
    curl localhost:8080/Chat/ada/send --json '"I am Ada."'
    curl localhost:8080/Chat/ada/send --json '"Who am I?"'
    curl -X POST localhost:8080/Chat/ada/history
"""

from provider import Provider

import holdfast as hf
from holdfast.ai.session import Chat, Session, Trim


async def turn(session: Session, text: str) -> str:
    reply = await llm.ask(session.prompt, session.messages)
    session.append(
        {"role": "user", "content": session.prompt},
        {"role": "assistant", "content": reply},
    )
    return reply


def remember(request) -> str:
    said = [m["content"] for m in request.body["messages"] if m["role"] == "user"]
    return f"I remember: {' '.join(said)}"


llm = Provider(remember)
app = hf.App(Chat("Chat", turn, trim=Trim(above=40, to=20)))
