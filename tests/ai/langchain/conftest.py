"""What the tests of LangChain share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import openai
import pytest
from langchain_openai import ChatOpenAI

from holdfast.testing.scripted_model import ScriptedModel

from ..contract import MODEL


class MakeChat(Protocol):
    """Makes a chat model that talks to the scripted provider."""

    def __call__(self, server: ScriptedModel, /, **settings: Any) -> ChatOpenAI: ...


@pytest.fixture
async def chat() -> AsyncIterator[MakeChat]:
    # LangChain's own clients live as long as the process, with their connections.
    async with openai.DefaultAsyncHttpxClient() as client:

        def make(server: ScriptedModel, /, **settings: Any) -> ChatOpenAI:
            given = {"model": MODEL, "base_url": server.url, "api_key": "any", **settings}
            return ChatOpenAI(http_async_client=client, **given)

        yield make
