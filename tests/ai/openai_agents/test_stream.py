"""Runs that are followed."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import pytest
from agents import Agent, RunConfig

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.ai import Options
from holdfast.domain.errors import TerminalError
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, ToolCall, Turn

from .durable import outcome, served, steps
from .sample import TWO_CITIES, get_weather, ran, summary


def shown(event: Any) -> Any:
    """Return what is comparable of an event."""
    match event.type:
        case "raw_response_event":
            return event.data.model_dump(mode="json", exclude_unset=True)
        case "run_item_stream_event":
            return [event.name, type(event.item).__name__, event.item.agent.name]
        case _:
            return event.new_agent.name


async def test_events_are_those_of_the_sdk(model: ScriptedModel, config: RunConfig) -> None:
    """The same events as without Holdfast, at the first time and at each replay."""
    model.scenario("weather", [Turn(text="Look:", tool_calls=TWO_CITIES), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])
    plain = agents.Runner.run_streamed(agent, "Hi", run_config=config)
    expected = [event async for event in plain.stream_events()]
    seen: list[Any] = []

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        events = [event async for event in result.stream_events()]
        assert result.last_agent is agent
        assert all(event.item.agent is agent for event in events if hasattr(event, "item"))
        assert result.context_wrapper.usage == plain.context_wrapper.usage
        assert [type(getattr(e, "data", e)) for e in events] == [
            type(getattr(e, "data", e)) for e in expected
        ]
        seen.append([shown(event) for event in events])
        await ctx.sleep(1)
        return str(result.final_output)

    said, keys = await steps(run)
    assert said == "Take a coat."
    assert len(keys) == 4
    assert len(seen) > 1, "nothing was replayed"
    assert all(events == seen[0] for events in seen)
    assert [e[:2] for e in seen[0] if isinstance(e, list)] == [
        shown(e)[:2] for e in expected if e.type == "run_item_stream_event"
    ]
    assert len(model.calls("weather")) == 4
    assert ran.count("end Oslo") == 2


async def test_text_is_in_the_durable_stream_before_the_answer_is_recorded(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("tale", ["Once upon a time."])
    agent = Agent(name="Teller", model="tale")

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    async with environment(served(run)) as env:
        env.crash_at("after:step 1")
        sent = await env.client.send("Agent/handle")
        said = [c async for c in env.client.read_stream(sent.invocation_id)]
        assert await env.client.attach(sent.invocation_id) == "Once upon a time."
    text = "".join(c.value["delta"] for c in said if c.value["type"] == "text")  # type: ignore[union-attr]
    assert text == "Once upon a time."
    assert len(said) > 1, "it came in one piece"
    assert len(model.calls("tale")) == 1


async def test_no_stream_is_written_if_none_is_wanted(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("tale", ["Once upon a time."])
    agent = Agent(name="Teller", model="tale")

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(
            agent, "Hi", run_config=config, options=Options(stream=None)
        )
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    async with environment(served(run)) as env:
        sent = await env.client.send("Agent/handle")
        assert [c async for c in env.client.read_stream(sent.invocation_id)] == []


async def test_a_stream_that_breaks_off_is_asked_for_again(
    model: ScriptedModel, config: RunConfig
) -> None:
    turn = Turn(text="One two three.", faults=(Fault(status=500), Fault(drop=True)))
    model.scenario("tale", [turn])
    agent = Agent(name="Teller", model="tale")

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    assert await outcome(run) == "One two three."
    assert len(model.calls("tale")) == 3


async def test_errors_come_out_of_the_events(model: ScriptedModel, config: RunConfig) -> None:
    """What the SDK decided is its own error and terminal; a refused request is, too."""
    model.scenario("weather", lambda _: Turn(tool_calls=(TWO_CITIES[0],)))
    for name, expected in (("weather", "MaxTurnsExceeded"), ("nobody", "NotFoundError")):
        agent = Agent(name="Weather", model=name, tools=[get_weather])

        async def run(ctx: hf.Context, agent: Agent[Any] = agent) -> str:
            result = durable_agents.run_streamed(agent, "Hi", run_config=config, max_turns=2)
            with pytest.raises(TerminalError) as failed:
                async for _ in result.stream_events():
                    pass
            await ctx.sleep(1)
            return type(failed.value).__name__

        assert await outcome(run) == expected


async def test_what_the_handler_does_meanwhile_is_not_part_of_the_run(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("weather", [Turn(tool_calls=(TWO_CITIES[0],)), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        async for event in result.stream_events():
            if event.type == "run_item_stream_event":
                await ctx.run("note", str)
        return str(result.final_output)

    said, keys = await steps(run)
    assert said == "Take a coat."
    assert [key for key in keys if key.endswith("note#0")] == ["run:note#0"]
    assert sum("agent:Weather[0]" in key for key in keys) == 3


async def test_a_nested_run_that_is_followed(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("inner", [Turn(tool_calls=(TWO_CITIES[0],)), "cold"])
    model.scenario("outer", [Turn(tool_calls=(ToolCall("expert", {"input": "x"}),)), summary])
    seen: list[str] = []
    expert = Agent(name="Expert", model="inner", tools=[get_weather])
    tool = expert.as_tool("expert", "Knows.", on_stream=lambda e: seen.append(e["event"].type))
    agent = Agent(name="Outer", model="outer", tools=[tool])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "Hi", run_config=config)).final_output)

    said, keys = await steps(run)
    assert said == "cold"
    assert seen
    assert any("agent:Expert[0]" in key and "tool:get_weather:" in key for key in keys)
    assert (len(model.calls("inner")), len(model.calls("outer"))) == (2, 2)


async def test_cancelling_ends_a_run_that_is_followed(
    model: ScriptedModel, config: RunConfig
) -> None:
    """Nothing makes a text of it, and the model is not asked any more."""
    started = asyncio.Event()

    @agents.function_tool
    @durable_agents.scoped
    async def wait() -> str:
        started.set()
        await hf.current().sleep(3600)
        return "late"

    model.scenario("slow", [Turn(tool_calls=(ToolCall("wait"),)), "never"])
    agent = Agent(name="Slow", model="slow", tools=[wait])

    async def run(ctx: hf.Context) -> str:
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    async with environment(served(run), autojump=False) as env:
        sent = await env.client.send("Agent/handle")
        await started.wait()
        await env.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError) as ended:
            await env.client.attach(sent.invocation_id)
    assert ended.value.code == 409
    assert len(model.calls("slow")) == 1
