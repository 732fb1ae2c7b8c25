"""Unmodified clients of model providers: killed at each entry, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from holdfast.testing import environment
from holdfast.testing.scripted_model import ScriptedModel

from . import trip

# The async client of Gemini derives from a class of aiohttp that does not like it.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")

Client = Callable[[str], Awaitable[str]]


async def _run(client: Client, model: ScriptedModel, crash_at: str | None) -> tuple[str, list[str]]:
    """Run the agent once. Returns its answer and the names of its steps."""
    async with environment(trip.app_of(client)) as env:
        if crash_at is not None:
            env.crash_at(crash_at, every=crash_at.endswith("step"))
        sent = await env.client.send("Trip/run", model.root_url)
        answer = await env.client.attach(sent.invocation_id, type=str)
        return answer, await env.steps(sent.invocation_id)


@pytest.mark.parametrize("client", trip.CLIENTS, ids=lambda client: client.__name__)
async def test_crash_after_every_entry(client: Client, model: ScriptedModel) -> None:
    """One attempt for each entry: all is in the journal, and nothing runs twice."""
    answer, steps = await _run(client, model, "after:step")
    assert answer == trip.ANSWER
    assert steps.count("model call") == trip.MODEL_CALLS
    assert [call.request.turn_index for call in model.calls("trip")] == [0, 1, 2]
    assert set(trip.ran.values()) == {1}
    assert len(trip.ran) == 6


@pytest.mark.parametrize("client", trip.CLIENTS, ids=lambda client: client.__name__)
async def test_crash_during_every_entry(client: Client, model: ScriptedModel) -> None:
    """What was not recorded runs again, and nothing else does."""
    answer, _ = await _run(client, model, "during:step")
    assert answer == trip.ANSWER
    assert [call.request.turn_index for call in model.calls("trip")] == [0, 0, 1, 1, 2, 2]
    # Steps of the other of two parallel tools may be lost with it: that crashes three times.
    assert min(trip.ran.values()) >= 2
    assert max(trip.ran.values()) <= 5


@pytest.mark.nightly
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("client", trip.CLIENTS, ids=lambda client: client.__name__)
async def test_crash_at_each_entry(client: Client, when: str, model: ScriptedModel) -> None:
    """One crash at each place: the right answer; only what was not recorded runs again."""
    _, steps = await _run(client, model, None)
    for number in range(1, len(steps) + 1):
        trip.ran.clear()
        asked = len(model.calls("trip"))
        answer, _ = await _run(client, model, f"{when}:step {number}")
        assert answer == trip.ANSWER
        asked_again = len(model.calls("trip")) - asked - trip.MODEL_CALLS
        ran_again = sum(trip.ran.values()) - len(trip.ran)
        assert asked_again <= (when != "after")
        assert asked_again + ran_again <= 2
