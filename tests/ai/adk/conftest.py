"""What the tests of the Agent Development Kit share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from holdfast.testing.scripted_model import ScriptedModel

from ..contract import MODEL

if TYPE_CHECKING:
    from google.adk.models import Gemini
    from google.genai import Client

    from .sample import MakeGemini


@pytest.fixture
async def gemini() -> AsyncIterator[MakeGemini]:
    # Not above: the main environment has no kit, and its tests are skipped there.
    from google.genai import Client, types

    from .sample import ScriptedGemini

    clients: list[Client] = []

    def make(server: ScriptedModel, /, model: str = MODEL) -> Gemini:
        http = types.HttpOptions(base_url=server.root_url)
        clients.append(Client(api_key="any", http_options=http))
        return ScriptedGemini(model=model, api=clients[-1])

    yield make
    for client in clients:
        await client.aio.aclose()
        client.close()
