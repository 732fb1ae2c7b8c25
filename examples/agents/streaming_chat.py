"""A chat in the browser: words as the model says them, from a durable stream.

Everything is in this program, the server too. Run it, and open http://127.0.0.1:8000:

    python examples/agents/streaming_chat.py

Kill it while it answers, start it again, and load the page: the turn has gone on.
"""

import json
from contextlib import AsyncExitStack
from pathlib import Path

import uvicorn
from provider import MODEL, Provider

import holdfast as hf
from holdfast.ai.session import Chat, Session
from holdfast.client import Chunk, Replaced
from holdfast.testing.scripted_model import Turn

PAGE = Path(__file__).with_name("streaming_chat.html")


async def turn(session: Session, text: str) -> str:
    asked = [*session.messages, {"role": "user", "content": session.prompt}]
    said = ""
    async with llm.client() as client:
        # The text goes to the stream of the invocation as it comes.
        stream = await client.chat.completions.create(model=MODEL, messages=asked, stream=True)
        async for event in stream:
            said += (event.choices[0].delta.content or "") if event.choices else ""
    session.append(asked[-1], {"role": "assistant", "content": said})
    return said


class Web:
    """Two routes for the browser: the page, and what is said, with the answer as lines of JSON."""

    def __init__(self, store: str = "sqlite:./holdfast-data/streaming_chat.db") -> None:
        self.store = store
        self.open = AsyncExitStack()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            await self.live(receive, send)
        elif (scope["method"], scope["path"]) == ("GET", "/"):
            await respond(send, 200, "text/html; charset=utf-8", PAGE.read_bytes())
        elif (scope["method"], scope["path"]) == ("POST", "/say"):
            await self.say((await receive())["body"].decode(), send)
        else:
            await respond(send, 404, "text/plain", b"not here")

    async def live(self, receive, send) -> None:
        await receive()
        self.client = await self.open.enter_async_context(hf.embedded(app, store=self.store))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.open.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def say(self, text: str, send) -> None:
        await respond(send, 200, "application/x-ndjson", b"", more=True)
        async for event in self.client.stream("Chat/send", text, key="me"):
            match event:
                case Chunk(value={"type": "text", "delta": text}):
                    line = {"lane": event.lane, "text": text}
                case Replaced():  # the model call runs again: forget what the lost one said
                    line = {"lane": event.lane, "text": None}
                case _:  # such as what a model says before it answers
                    continue
            body = json.dumps(line).encode() + b"\n"
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})


async def respond(send, status: int, media: str, body: bytes, *, more: bool = False) -> None:
    headers = [(b"content-type", media.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})


def talk(request) -> Turn:
    return Turn(text=f"You said {request.prompt!r}, one word at a time.", event_delay_s=0.02)


llm = Provider(talk)
app = hf.App(Chat("Chat", turn))

if __name__ == "__main__":
    uvicorn.run(Web(), host="127.0.0.1", port=8000)
