"""Agents of the Agent Development Kit for the tests: their models, runners and questions."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from google.adk.apps import App
from google.adk.models import Gemini
from google.adk.runners import Runner
from google.genai import Client, types

from holdfast.ai.adk import Durable, Sessions
from holdfast.testing.scripted_model import ScriptedModel

from ..contract import MODEL

KITS_OWN_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "Inheritance class",
        ".*EXPERIMENTAL",
        ".*Agent is deprecated",
        "The `plugins` argument is deprecated",
    )
]


class MakeGemini(Protocol):
    """Makes a model that talks to the scripted provider."""

    def __call__(self, server: ScriptedModel, /, model: str = MODEL) -> Gemini: ...


class ScriptedGemini(Gemini):
    """Google's models, at another address."""

    api: Any = None

    @property
    def api_client(self) -> Client:
        return self.api


def make_runner(agent: Any, *plugins: Any, options: Any = None) -> Runner:
    app = App(name="tests", root_agent=agent, plugins=[Durable(options), *plugins])
    return Runner(app=app, session_service=Sessions())


async def ask(runner: Runner, text: str, session_id: str | None = None, **given: Any) -> str:
    """Ask an agent in a session and return what it says last."""
    who: Any = {"app_name": "tests", "user_id": "ada"}
    service = runner.session_service
    session = session_id and await service.get_session(**who, session_id=session_id)
    if not session:
        session = await service.create_session(**who, session_id=session_id)
    message = types.Content(role="user", parts=[types.Part(text=text)])
    said = ""
    async for event in runner.run_async(
        user_id="ada", session_id=session.id, new_message=message, **given
    ):
        if not event.partial:
            parts = (event.content and event.content.parts) or []
            said = "".join(part.text or "" for part in parts) or said
    return said
