"""What the tests of Pydantic AI share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import openai
import pytest
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from holdfast.testing.scripted_model import ScriptedModel

from ..contract import MODEL


class MakeChat(Protocol):
    """Makes a chat model that talks to the scripted provider."""

    def __call__(self, server: ScriptedModel, /, model: str = MODEL) -> OpenAIChatModel: ...


@pytest.fixture
async def chat() -> AsyncIterator[MakeChat]:
    async with openai.DefaultAsyncHttpxClient() as client:

        def make(server: ScriptedModel, /, model: str = MODEL) -> OpenAIChatModel:
            own = openai.AsyncOpenAI(base_url=server.url, api_key="any", http_client=client)
            return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=own))

        yield make
