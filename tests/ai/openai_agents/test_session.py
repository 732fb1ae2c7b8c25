"""Conversations in the state of a virtual object."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Agent, RunConfig, Session
from agents.memory import SessionSettings

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.ai.openai_agents import HoldfastSession
from holdfast.testing import environment
from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, Turn

from .sample import TWO_CITIES, get_weather


def heard(request: ModelRequest) -> str:
    return f"answer to {request.prompt}"


def chat_app(config: RunConfig, *, is_streamed: bool = False) -> hf.App:
    chat = hf.VirtualObject("Chat")
    agent = Agent(name="Chat", model="chat", tools=[get_weather])

    @chat.handler
    async def say(ctx: hf.Context, text: str) -> str:
        session = HoldfastSession()
        if not is_streamed:
            result = await durable_agents.run(agent, text, run_config=config, session=session)
            return str(result.final_output)
        streamed = durable_agents.run_streamed(agent, text, run_config=config, session=session)
        async for _ in streamed.stream_events():
            pass
        return str(streamed.final_output)

    @chat.handler
    async def edit(ctx: hf.Context) -> Any:
        session = HoldfastSession()
        popped = await session.pop_item()
        left = await session.get_items()
        latest = await HoldfastSession(session_settings=SessionSettings(limit=1)).get_items()
        assert latest == left[-1:]
        assert await session.get_items(2) == left[-2:]
        await session.clear_session()
        assert await session.pop_item() is None
        return [popped, len(left), await session.get_items(), await ctx.keys()]

    @chat.shared
    async def entries(ctx: hf.Context) -> list[str]:
        return await ctx.keys()

    return hf.App(chat)


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("crash", [None, "after:step 1", "during:step 2", "before:step 3"])
async def test_a_conversation_goes_on(
    model: ScriptedModel, config: RunConfig, crash: str | None, is_streamed: bool
) -> None:
    """Each turn sees the ones before, once, whatever crashed; keys have sessions of their own."""
    model.scenario("chat", [Turn(tool_calls=(TWO_CITIES[0],)), "cold", "fine"])
    app = chat_app(config, is_streamed=is_streamed)
    async with environment(app, always_replay=crash is None) as env:
        if crash is not None:
            env.crash_at(crash)
        assert await env.client.call("Chat/say", "weather?", key="a") == "cold"
        assert await env.client.call("Chat/say", "thanks", key="a") == "fine"
        names = await env.client.call("Chat/entries", key="a")
        assert await env.client.call("Chat/say", "hello", key="b") == "cold"
    # What was asked, the call, its output, the answer; what was asked and the answer.
    assert names == ["session:00000000", *(f"session:{n:08}" for n in range(1, 6)), "session:count"]
    asked = [str(call.body) for call in model.calls("chat")]
    last = next(body for body in asked if "thanks" in body)
    assert last.count("weather?") == last.count("3 degrees in Oslo") == 1
    assert "cold" in last
    assert all("weather?" not in body for body in asked if "hello" in body)


async def test_a_turn_writes_what_is_new(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("chat", heard)
    async with environment(chat_app(config)) as env:
        for number in range(5):
            await env.client.call("Chat/say", f"turn {number}", key="a")
        sent = await env.client.send("Chat/say", "last", key="a")
        await env.client.attach(sent.invocation_id)
        kinds = [entry["kind"] for entry in await env.journal(sent.invocation_id)]
    # What was asked, the answer, and how many items there are after each of them.
    assert 0 < kinds.count("Command: SetState") <= 4, kinds


async def test_editing_a_session(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("chat", heard)
    async with environment(chat_app(config), always_replay=True) as env:
        await env.client.call("Chat/say", "one", key="a")
        await env.client.call("Chat/say", "two", key="a")
        popped, left, after, keys = await env.client.call("Chat/edit", key="a")
    assert "answer to two" in str(popped)
    assert (left, after, keys) == (3, [], [])


def test_it_is_a_session_of_the_sdk() -> None:
    assert isinstance(HoldfastSession(), Session)
