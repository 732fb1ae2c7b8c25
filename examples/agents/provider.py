"""The model of the examples: a real one if there is a key, else a scripted one on loopback."""

import os
from collections.abc import Iterable

import openai

from holdfast import ai
from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, ToolCall, Turn

MODEL = os.environ.get("MODEL", "gpt-5-mini")


def use_tools(request: ModelRequest) -> Turn:
    """Play a model: call each tool once, with the last word; then say what the tools said."""
    if request.tools and request.turn_index == 0:
        city = request.prompt.rstrip("?.!").split(" ")[-1]
        return Turn(tool_calls=tuple(ToolCall(name, {"city": city}) for name in request.tools))
    return Turn(text=" ".join(request.tool_outputs) or f"You said: {request.prompt}")


class Provider:
    """Where model calls go. The script is what the model says if there is no key."""

    def __init__(self, script=use_tools) -> None:
        self.key = os.environ.get("OPENAI_API_KEY", "none")
        self.url = None
        self.scripted = None
        if self.key == "none":
            self.scripted = ScriptedModel({MODEL: script})
            self.scripted.start()
            self.url = self.scripted.url
        # For frameworks, whose integrations make calls durable themselves.
        self.http = openai.DefaultAsyncHttpxClient()
        self.openai = openai.AsyncOpenAI(base_url=self.url, api_key=self.key, http_client=self.http)

    async def close(self) -> None:
        """Give back connections. A program that is served ends without it."""
        await self.http.aclose()
        if self.scripted is not None:
            self.scripted.close()

    def client(self) -> openai.AsyncOpenAI:
        """Return a client whose model calls are durable in handlers: each is one recorded step."""
        return openai.AsyncOpenAI(
            base_url=self.url, api_key=self.key, http_client=ai.http_client(), max_retries=0
        )

    async def ask(self, prompt: str, past: Iterable[dict[str, str]] = ()) -> str:
        """Ask once. After a crash the recorded answer is taken, and nobody pays twice."""
        messages = [*past, {"role": "user", "content": prompt}]
        async with self.client() as client:
            said = await client.chat.completions.create(model=MODEL, messages=messages)
        return said.choices[0].message.content or ""
