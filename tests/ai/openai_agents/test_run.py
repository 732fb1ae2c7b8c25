"""Unmodified agents, made durable."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import agents
import pytest
from agents import (
    Agent,
    GuardrailFunctionOutput,
    RunConfig,
    RunContextWrapper,
    Runner,
    function_tool,
)

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
    Usage,
)

from .durable import durably, outcome, steps
from .sample import TWO_CITIES, get_weather, ran, summary


async def test_model_and_tools_run_once(model: ScriptedModel, config: RunConfig) -> None:
    """A whole run, then its replay: one call per turn, tools in parallel, same result."""
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=1)
    model.scenario("weather", [Turn(tool_calls=TWO_CITIES, usage=usage), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    first, *_, again = await durably(handler)
    assert first.final_output == "Take a coat."
    assert first.last_agent is agent
    assert ran[:2] == ["start Oslo", "start Rome"]
    assert len(model.calls("weather")) == 2
    assert len(ran) == 4
    assert again.to_input_list() == first.to_input_list()
    assert again.raw_responses == first.raw_responses
    assert again.context_wrapper.usage == first.context_wrapper.usage
    assert again.context_wrapper.usage.input_tokens >= 10
    assert agent.tools == [get_weather]


async def test_keys_of_the_journal(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("weather", [Turn(tool_calls=TWO_CITIES), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "Hi", run_config=config)).final_output)

    _, keys = await steps(run)
    assert all(key.startswith("agent:Weather[0]/") for key in keys)
    assert [key for key in keys if "tool:" not in key] == [
        "agent:Weather[0]/run:model call#0",
        "agent:Weather[0]/run:model call#1",
    ]
    tools = [key.split("/") for key in keys if "tool:" in key]
    assert len(tools) == 2
    assert all(tool.startswith("tool:get_weather:call_") for _, tool, _ in tools)
    assert {step for _, _, step in tools} == {"run:get_weather#0"}


async def test_requests_are_the_same_after_replay(model: ScriptedModel, config: RunConfig) -> None:
    """What a resumed run sends next is what the first attempt would have sent."""
    model.scenario("weather", [Turn(text="See:", tool_calls=TWO_CITIES), "a", "b"])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    await durably(handler, crash="during:step 4")
    bodies = [call.body for call in model.calls("weather")]
    assert len(bodies) == 3
    assert bodies[1] == bodies[2]


async def test_random_crashes(model: ScriptedModel, config: RunConfig) -> None:
    """Whatever the order of parallel tools and wherever it dies: right answer, nothing twice."""
    cities = [f"city {number}" for number in range(5)]
    finished: list[str] = []

    @function_tool
    async def slow_weather(city: str) -> str:
        await asyncio.sleep(random.random() / 200)
        finished.append(city)
        return f"weather of {city}"

    calls = tuple(ToolCall("slow_weather", {"city": city}) for city in cities)
    model.scenario("weather", [Turn(tool_calls=calls), Turn(tool_calls=calls), summary])
    agent = Agent(name="Weather", model="weather", tools=[slow_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    for step in range(1, 14, 3):
        finished.clear()
        crash = f"{random.choice(('before', 'after'))}:step {step}"
        (*_, result) = await durably(handler, crash=crash)
        assert result.final_output == " | ".join(f"weather of {city}" for city in cities)
        # Those that ran beside a lost one may have run again.
        assert len(set(finished)) == len(cities)
        assert 2 * len(cities) <= len(finished) < 3 * len(cities), crash


async def test_cyclic_handoffs(model: ScriptedModel, config: RunConfig) -> None:
    """Both ways to declare a handoff; the agents in the result are the user's own."""
    handed: list[str] = []
    front = Agent(name="Front", model="chain", tools=[get_weather])
    back = Agent(name="Back", model="chain", tools=[get_weather])
    front.handoffs.append(agents.handoff(back, on_handoff=lambda _: handed.append("back")))
    back.handoffs.append(front)
    model.scenario(
        "chain",
        [
            Turn(tool_calls=(ToolCall("transfer_to_back"),)),
            Turn(tool_calls=(TWO_CITIES[0],)),
            Turn(tool_calls=(ToolCall("transfer_to_front"),)),
            "done",
        ],
    )

    async def handler() -> agents.RunResult:
        return await durable_agents.run(front, "Hi", run_config=config)

    result, *_, again = await durably(handler)
    assert result.final_output == "done"
    assert result.last_agent is front
    involved = {id(item.agent) for item in result.new_items}
    assert involved == {id(front), id(back)}
    outputs = [item for item in result.new_items if item.type == "handoff_output_item"]
    assert [item.target_agent for item in outputs] == [back, front]
    assert len(model.calls("chain")) == 4
    assert ran == ["start Oslo", "end Oslo"]
    assert set(handed) == {"back"}
    # The result of one run is good for the next one.
    more, *_ = await durably(lambda: durable_agents.run(again.last_agent, "Hi", run_config=config))
    assert more.last_agent is front


async def test_agent_as_tool_is_durable(model: ScriptedModel, config: RunConfig) -> None:
    """The run of a nested agent is recorded call by call."""
    model.scenario("inner", [Turn(tool_calls=(TWO_CITIES[0],)), "cold"])
    model.scenario("outer", [Turn(tool_calls=(ToolCall("expert", {"input": "x"}),)), summary])
    expert = Agent(name="Expert", model="inner", tools=[get_weather])
    outer = Agent(name="Outer", model="outer", tools=[expert.as_tool("expert", "Knows.")])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(outer, "Hi", run_config=config)).final_output)

    for number in (1, 2, 3):
        assert await outcome(run, crash=f"during:step {number + 1}") == "cold"
    # Of the three crashes, two lost an answer of the inner model, and one the call of its tool.
    assert (len(model.calls("inner")), len(model.calls("outer"))) == (8, 6)
    said, keys = await steps(run)
    assert said == "cold"
    assert any("/agent:Expert[0]/" in key and "tool:get_weather:" in key for key in keys)


async def test_guardrail_that_runs_an_agent(model: ScriptedModel, config: RunConfig) -> None:
    """Its model call is recorded too, and its tripwire ends the invocation."""

    @agents.input_guardrail
    async def polite(
        context: RunContextWrapper[Any], agent: Agent[Any], said: Any
    ) -> GuardrailFunctionOutput:
        verdict = await Runner.run(Agent(name="Judge", model="judge"), said, run_config=config)
        return GuardrailFunctionOutput(None, tripwire_triggered=verdict.final_output == "rude")

    model.scenario("judge", [lambda request: "rude" if "stupid" in request.prompt else "fine"])
    model.scenario("main", ["hello"])
    agent = Agent(name="Main", model="main", input_guardrails=[polite])
    result, *_ = await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert result.final_output == "hello"
    assert len(model.calls("judge")) == 1
    with pytest.raises(agents.InputGuardrailTripwireTriggered) as tripped:
        await durably(lambda: durable_agents.run(agent, "stupid", run_config=config))
    assert isinstance(tripped.value, TerminalError)


async def test_errors_of_the_sdk_are_terminal_and_its_own(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("weather", lambda _: Turn(tool_calls=(TWO_CITIES[0],)))
    agent = Agent(name="Weather", model="weather", tools=[get_weather])
    with pytest.raises(agents.MaxTurnsExceeded) as ended:
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config, max_turns=2))
    assert isinstance(ended.value, TerminalError)
    assert ended.value.code == 500
    assert "Max turns (2) exceeded" in ended.value.message
    assert ended.value.run_data is not None
    assert ended.value.run_data.last_agent is agent
    model.scenario("weather", [Turn(tool_calls=(ToolCall("unknown"),))])
    with pytest.raises(agents.ModelBehaviorError) as wrong:
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert isinstance(wrong.value, TerminalError)


async def test_two_runs_in_one_handler(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("echo", [lambda request: f"{request.prompt} {request.call_number}"])
    agent = Agent(name="Echo", model="echo")

    async def handler() -> list[str]:
        first = await durable_agents.run(agent, "a", run_config=config)
        second = await durable_agents.run(agent, "b", run_config=config)
        return [first.final_output, second.final_output]

    assert all(said == ["a 1", "b 2"] for said in await durably(handler))
    keys = [call.body.get("prompt_cache_key") for call in model.calls("echo")]
    assert keys[0] == keys[1]


async def test_plain_runs_are_untouched(model: ScriptedModel, config: RunConfig) -> None:
    """Outside of a durable run the SDK works as before; inside a step it does, too."""
    model.scenario("echo", ["plain"])
    model.scenario("main", [Turn(tool_calls=(ToolCall("ask"),)), summary])
    echo = Agent(name="Echo", model="echo")

    @function_tool
    async def ask() -> str:
        return str((await Runner.run(echo, "x", run_config=config)).final_output)

    agent = Agent(name="Main", model="main", tools=[ask])
    result, *_ = await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert result.final_output == "plain"
    assert len(model.calls("echo")) == 1
    assert (await Runner.run(echo, "x", run_config=config)).final_output == "plain"
    streamed = Runner.run_streamed(echo, "x", run_config=config)
    assert [event.type async for event in streamed.stream_events()]


async def test_run_outside_of_a_handler() -> None:
    with pytest.raises(UsageError, match="outside of a handler"):
        await durable_agents.run(Agent(name="A"), "Hi")


@pytest.mark.parametrize("way_out", ["result", "SDK error", "interrupt", "refusal"])
@pytest.mark.parametrize("closing", ["works", "fails", "hangs"])
async def test_the_provider_of_a_run_is_closed_on_every_way_out(
    way_out: str,
    closing: str,
    model: ScriptedModel,
    config: RunConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed: list[agents.MultiProvider] = []
    opened: list[str] = []
    released = asyncio.Event()

    async def aclose(self: agents.MultiProvider) -> None:
        with pytest.raises(UsageError):
            hf.current()  # Nothing durable can be done here.
        if closing == "hangs":
            await released.wait()
        closed.append(self)
        if closing == "fails":
            raise RuntimeError("cannot close")

    def get_model(_: agents.MultiProvider, name: str | None) -> agents.Model:
        return config.model_provider.get_model(name)

    monkeypatch.setattr(agents.MultiProvider, "aclose", aclose)
    monkeypatch.setattr(agents.MultiProvider, "get_model", get_model)
    model.scenario("weather", [Turn(tool_calls=(TWO_CITIES[0],)), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])
    if way_out == "refusal":
        shell = agents.LocalShellTool(executor=lambda _: "")
        agent = Agent(name="Weather", model="weather", tools=[shell])

    async def handler() -> Any:
        opened.append(way_out)
        max_turns = 1 if way_out == "SDK error" else 10
        return await durable_agents.run(agent, "Hi", max_turns=max_turns)

    async with asyncio.timeout(10):
        match way_out:
            case "result":
                assert (await durably(handler))[0].final_output == "Take a coat."
            case "SDK error":
                with pytest.raises(agents.MaxTurnsExceeded):
                    await durably(handler)
            case "interrupt":
                await durably(handler, crash="during:step 2")
            case _:
                with pytest.raises(UsageError, match="acts on this machine"):
                    await durably(handler)
        released.set()
        while len(closed) < len(opened):
            await asyncio.sleep(0)
    assert len(opened) > 1
    assert len(closed) == len(opened)
    assert ("failed to close a model provider" in caplog.text) == (closing == "fails")
