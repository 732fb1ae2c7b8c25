"""SIGKILL for the worker while a model answers: what was recorded is not done again."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from holdfast.testing.scripted_model import ScriptedModel, ToolCall, Turn

from ...e2e.harness import Holdfast, Ledger
from . import trip

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs POSIX signals")


@pytest.mark.parametrize(
    "client",
    ["openai_chat_stream", "anthropic_tool_runner", "google_genai", "litellm_completion"],
)
def test_a_killed_worker(client: str, tmp_path: Path) -> None:
    hotels = tuple(ToolCall("hotel", {"city": city}) for city in trip.CITIES)
    slow = Turn(tool_calls=hotels, delay_s=1.0)
    ledger = Ledger(tmp_path / "ledger")
    with ScriptedModel({"trip": [trip.SCENARIO[0], slow, trip.summary]}) as model:
        env = {
            **ledger.env,
            "MODEL_URL": model.root_url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        app = f"{Path(__file__).parent / 'kill_app.py'}:app"
        with Holdfast(tmp_path, app, env) as holdfast:
            holdfast.up()
            invocation_id = holdfast.send("Trip/run", client)
            model.wait_for_calls("trip", 2, timeout_s=60)
            holdfast.current("worker").kill()
            holdfast.worker()
            assert holdfast.attach(invocation_id).ok() == trip.ANSWER
        assert [call.request.turn_index for call in model.calls("trip")] == [0, 1, 1, 2]
    assert Counter(ledger.lines()) == {
        f"{what} {city}": 1 for what in ("weather", "wind", "hotel") for city in trip.CITIES
    }
