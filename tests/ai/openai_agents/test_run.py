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

import holdfast.ai.openai_agents as durable_agents
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
    Usage,
)

from ..fake_context import Crash, FakeContext, Journal, attempt, current
from .sample import TWO_CITIES, get_weather, ran, replay, summary


async def test_model_and_tools_run_once(model: ScriptedModel, config: RunConfig) -> None:
    """A whole run, then its replay: one call per turn, tools in parallel, same result."""
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=1)
    model.scenario("weather", [Turn(tool_calls=TWO_CITIES, usage=usage), "Take a coat."])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    journal: Journal = {}
    first = await attempt(FakeContext(journal), handler)
    assert first.final_output == "Take a coat."
    assert first.last_agent is agent
    assert ran[:2] == ["start Oslo", "start Rome"]
    assert len(model.calls("weather")) == 2
    assert len(journal) == 4
    tools = [key for key in journal if "tool:" in key]
    assert all("/agent:Weather#1/tool:get_weather:call_" in key for key in tools)

    again = await replay(journal, handler)
    assert len(model.calls("weather")) == 2
    assert len(ran) == 4
    assert again.to_input_list() == first.to_input_list()
    assert again.raw_responses == first.raw_responses
    assert again.context_wrapper.usage == first.context_wrapper.usage
    assert again.context_wrapper.usage.input_tokens >= 10
    assert agent.tools == [get_weather]


async def test_requests_are_the_same_after_replay(model: ScriptedModel, config: RunConfig) -> None:
    """What a resumed run sends next is what the first attempt would have sent."""
    model.scenario("weather", [Turn(text="See:", tool_calls=TWO_CITIES), "a", "b"])
    agent = Agent(name="Weather", model="weather", tools=[get_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    journal: Journal = {}
    with pytest.raises(Crash):
        await attempt(FakeContext(journal, crash_after=3), handler)
    await attempt(FakeContext(journal), handler)
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

    for _ in range(5):
        journal: Journal = {}
        finished.clear()
        while True:
            before = len(journal)
            context = FakeContext(journal, crash_after=random.randint(1, 4))
            try:
                result = await attempt(context, handler)
            except Crash:
                assert len(journal) > before
                continue
            break
        assert result.final_output == " | ".join(f"weather of {city}" for city in cities)
        assert len(journal) == 3 + 2 * len(cities)
        await replay(journal, handler)


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

    journal: Journal = {}
    result = await attempt(FakeContext(journal), handler)
    assert result.final_output == "done"
    assert result.last_agent is front
    involved = {id(item.agent) for item in result.new_items}
    assert involved == {id(front), id(back)}
    outputs = [item for item in result.new_items if item.type == "handoff_output_item"]
    assert [item.target_agent for item in outputs] == [back, front]
    again = await replay(journal, handler)
    assert len(model.calls("chain")) == 4
    assert ran == ["start Oslo", "end Oslo"]
    assert handed == ["back", "back"]
    # The result of one run is good for the next one.
    more = await attempt(
        FakeContext({}), lambda: durable_agents.run(again.last_agent, "Hi", run_config=config)
    )
    assert more.last_agent is front


async def test_agent_as_tool_is_durable(model: ScriptedModel, config: RunConfig) -> None:
    """The run of a nested agent is recorded call by call."""
    model.scenario("inner", [Turn(tool_calls=(TWO_CITIES[0],)), "cold"])
    model.scenario("outer", [Turn(tool_calls=(ToolCall("expert", {"input": "x"}),)), summary])
    expert = Agent(name="Expert", model="inner", tools=[get_weather])
    outer = Agent(name="Outer", model="outer", tools=[expert.as_tool("expert", "Knows.")])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(outer, "Hi", run_config=config)

    journal: Journal = {}
    for crash_after in (1, 1, 1):
        with pytest.raises(Crash):
            await attempt(FakeContext(journal, crash_after=crash_after), handler)
    assert (await attempt(FakeContext(journal), handler)).final_output == "cold"
    # Two of the three crashes lost an answer of the inner model; no recorded call is repeated.
    assert (len(model.calls("inner")), len(model.calls("outer"))) == (4, 2)
    await replay(journal, handler)
    assert any("/agent:Expert#1/tool:get_weather:" in key for key in journal)


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
    journal: Journal = {}
    result = await attempt(
        FakeContext(journal), lambda: durable_agents.run(agent, "Hi", run_config=config)
    )
    assert result.final_output == "hello"
    await replay(journal, lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert len(model.calls("judge")) == 1
    with pytest.raises(agents.InputGuardrailTripwireTriggered) as tripped:
        await attempt(
            FakeContext({}), lambda: durable_agents.run(agent, "stupid", run_config=config)
        )
    assert isinstance(tripped.value, TerminalError)


async def test_errors_of_the_sdk_are_terminal_and_its_own(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("weather", lambda _: Turn(tool_calls=(TWO_CITIES[0],)))
    agent = Agent(name="Weather", model="weather", tools=[get_weather])
    with pytest.raises(agents.MaxTurnsExceeded) as ended:
        await attempt(
            FakeContext({}),
            lambda: durable_agents.run(agent, "Hi", run_config=config, max_turns=2),
        )
    assert isinstance(ended.value, TerminalError)
    assert ended.value.code == 500
    assert "Max turns (2) exceeded" in ended.value.message
    assert ended.value.run_data is not None
    assert ended.value.run_data.last_agent is agent
    model.scenario("weather", [Turn(tool_calls=(ToolCall("unknown"),))])
    with pytest.raises(agents.ModelBehaviorError) as wrong:
        await attempt(FakeContext({}), lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert isinstance(wrong.value, TerminalError)


async def test_two_runs_in_one_handler(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("echo", [lambda request: f"{request.prompt} {request.call_number}"])
    agent = Agent(name="Echo", model="echo")

    async def handler() -> list[str]:
        first = await durable_agents.run(agent, "a", run_config=config)
        second = await durable_agents.run(agent, "b", run_config=config)
        return [first.final_output, second.final_output]

    journal: Journal = {}
    assert await attempt(FakeContext(journal), handler) == ["a 1", "b 2"]
    assert await replay(journal, handler) == ["a 1", "b 2"]
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
    journal: Journal = {}
    result = await attempt(
        FakeContext(journal), lambda: durable_agents.run(agent, "Hi", run_config=config)
    )
    assert result.final_output == "plain"
    assert len(journal) == 3
    assert (await Runner.run(echo, "x", run_config=config)).final_output == "plain"
    streamed = Runner.run_streamed(echo, "x", run_config=config)
    assert [event.type async for event in streamed.stream_events()]


async def test_run_outside_of_a_handler() -> None:
    with pytest.raises(UsageError, match="no durable context"):
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
    released = asyncio.Event()

    async def aclose(self: agents.MultiProvider) -> None:
        with pytest.raises(UsageError):
            current()  # Nothing durable can be done here.
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
    context = FakeContext({}, crash_after=1 if way_out == "interrupt" else None)
    if way_out == "refusal":
        shell = agents.LocalShellTool(executor=lambda _: "")
        agent = Agent(name="Weather", model="weather", tools=[shell])

    async def handler() -> Any:
        max_turns = 1 if way_out == "SDK error" else 10
        return await durable_agents.run(agent, "Hi", max_turns=max_turns)

    async with asyncio.timeout(10):
        match way_out:
            case "result":
                assert (await attempt(context, handler)).final_output == "Take a coat."
            case "SDK error":
                with pytest.raises(agents.MaxTurnsExceeded):
                    await attempt(context, handler)
            case "interrupt":
                with pytest.raises(Crash):
                    await attempt(context, handler)
            case _:
                with pytest.raises(UsageError, match="acts on this machine"):
                    await attempt(context, handler)
        released.set()
        while not closed:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(closed) == 1
    assert ("failed to close a model provider" in caplog.text) == (closing == "fails")
