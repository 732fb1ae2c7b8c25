"""What all clients have in common besides crashes: streams, retries, cancellations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import holdfast as hf
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, Turn

from ..http.shown import shown_text
from . import trip

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class:DeprecationWarning")

Client = Callable[[str], Awaitable[str]]
STREAMING = [client for client in trip.CLIENTS if client.__name__.endswith("_stream")]
NAMED: Any = {"ids": lambda client: client.__name__}


@pytest.mark.parametrize("client", STREAMING, **NAMED)
async def test_readers_see_what_the_model_says_once(client: Client, model: ScriptedModel) -> None:
    """Also when its stream breaks off, and when its step is lost and runs again."""
    first = trip.SCENARIO[0]
    broken = Turn(
        text=first.text, tool_calls=first.tool_calls, faults=(Fault(drop_after_events=4),)
    )
    model.scenario("trip", [broken, *trip.SCENARIO[1:]])
    async with environment(trip.app_of(client)) as env:
        env.crash_at("during:step 1")
        sent = await env.client.send("Trip/run", model.root_url)
        assert await env.client.attach(sent.invocation_id, type=str) == trip.ANSWER
        shown = await shown_text(env, sent.invocation_id)
    assert shown == f"{first.text}{trip.ANSWER}"


@pytest.mark.parametrize("client", trip.CLIENTS, **NAMED)
async def test_a_failure_costs_one_request(client: Client, model: ScriptedModel) -> None:
    """No client multiplies the attempts: each fault is met once."""
    faults = (Fault(status=503), Fault(status=429, retry_after_s=120), Fault(drop=True))
    first = trip.SCENARIO[0]
    busy = Turn(text=first.text, tool_calls=first.tool_calls, faults=faults)
    model.scenario("trip", [busy, *trip.SCENARIO[1:]])
    async with environment(trip.app_of(client)) as env:
        begun = env.now
        sent = await env.client.send("Trip/run", model.root_url)
        assert await env.client.attach(sent.invocation_id, type=str) == trip.ANSWER
        assert (env.now - begun).total_seconds() >= 120
    assert [call.request.turn_index for call in model.calls("trip")] == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("client", trip.CLIENTS, **NAMED)
async def test_a_refused_request_ends_the_invocation(client: Client) -> None:
    """By the exception of the client, and at once."""
    with ScriptedModel() as empty:
        async with environment(trip.app_of(client)) as env:
            with pytest.raises(hf.TerminalError, match="has no scenario"):
                await env.client.call("Trip/run", empty.root_url)


@pytest.mark.parametrize("client", trip.CLIENTS, **NAMED)
async def test_a_cancellation_closes_the_connection(client: Client, model: ScriptedModel) -> None:
    """Whether the answer has not begun or is on its way; no client catches it and goes on."""
    model.scenario("trip", [Turn(text="a b c d", delay_s=0.05, event_delay_s=30)])
    if client not in STREAMING:
        model.scenario("trip", [Turn(text="late", delay_s=60)])
    async with hf.embedded(trip.app_of(client), store="memory:") as embedded:
        sent = await embedded.send("Trip/run", model.root_url)
        await asyncio.to_thread(model.wait_for_calls, "trip", 1)
        await embedded.cancel(sent.invocation_id)
        await asyncio.to_thread(model.wait_for_hang_ups, "trip", 1)
        with pytest.raises(hf.TerminalError, match="cancelled") as ended:
            await embedded.attach(sent.invocation_id)
    assert ended.value.code == 409
    assert len(model.calls("trip")) == 1
