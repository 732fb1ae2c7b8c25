"""Model calls as durable steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import agents
import openai
import pytest
from agents import (
    Agent,
    RunConfig,
)

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.ai import Options
from holdfast.domain.errors import TerminalError
from holdfast.testing.scripted_model import (
    Fault,
    ScriptedModel,
    ToolCall,
    Turn,
    Usage,
)

from .durable import durably
from .sample import get_weather


async def test_model_retries_have_one_knob(model: ScriptedModel, config: RunConfig) -> None:
    """Neither the client nor the SDK retries by itself: one call per attempt of the step."""
    faults = (Fault(status=429, retry_after_s=0), Fault(status=500), Fault(drop=True))
    model.scenario("busy", [Turn(text="at last", faults=faults)])
    agent = Agent(name="Busy", model="busy")
    for attempts, asked in ((1, 1), (2, 3)):
        options = Options(model_retry=hf.RetryPolicy(max_attempts=attempts))
        with pytest.raises(TerminalError):
            await durably(
                lambda: durable_agents.run(agent, "Hi", run_config=config, options=options)  # noqa: B023
            )
        assert len(model.calls("busy")) == asked
    result, *_ = await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert result.final_output == "at last"
    assert len(model.calls("busy")) == 4


async def test_hopeless_requests_end_the_invocation(
    model: ScriptedModel, config: RunConfig
) -> None:
    model.scenario("nobody", [Turn(text="never", faults=(Fault(status=404),))])
    agent = Agent(name="Nobody", model="nobody")
    with pytest.raises(openai.NotFoundError) as refused:
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert isinstance(refused.value, TerminalError)
    assert len(model.calls("nobody")) == 1


async def test_model_instance_on_the_agent(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("weather", ["hello"])
    instance = config.model_provider.get_model("weather")
    agent = Agent(name="Weather", model=instance)
    for settings in (RunConfig(), RunConfig(model=instance), {"model": instance}, None):
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=settings))  # noqa: B023
    assert agent.model is instance
    assert len(model.calls("weather")) == 4


async def test_tracing_is_off_unless_configured(model: ScriptedModel, config: RunConfig) -> None:
    traces: list[str] = []

    class Processor(agents.tracing.TracingProcessor):
        def on_trace_start(self, trace: Any) -> None:
            traces.append(trace.name)

        def on_trace_end(self, trace: Any) -> None: ...
        def on_span_start(self, span: Any) -> None: ...
        def on_span_end(self, span: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self) -> None: ...

    agents.set_trace_processors([Processor()])
    model.scenario("hi", lambda _: "ho")
    agent = Agent(name="A", model="hi")
    await durably(lambda: durable_agents.run(agent, "x", run_config=config))
    assert traces == []
    named = dataclasses.replace(config, workflow_name="mine")
    await durably(lambda: durable_agents.run(agent, "x", run_config=named))
    assert set(traces) == {"mine"}


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_what_is_shown_of_a_call(
    model: ScriptedModel, config: RunConfig, monkeypatch: pytest.MonkeyPatch, is_streamed: bool
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("holdfast.ai.record.describe_step", shown.append)
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=1)
    turn = Turn(text="See:", tool_calls=(ToolCall("get_weather", {"city": "Oslo"}),), usage=usage)
    model.scenario("weather", [turn, "Take a coat."])
    agent = Agent(
        name="Weather",
        model="weather",
        instructions="Look.",
        tools=[get_weather],
        model_settings=agents.ModelSettings(include_usage=True),
    )

    async def handler() -> None:
        if not is_streamed:
            await durable_agents.run(agent, "Hi", run_config=config)
            return
        result = durable_agents.run_streamed(agent, "Hi", run_config=config)
        async for _ in result.stream_events():
            pass

    await durably(handler)
    call, tool, last = shown
    assert (call.provider, call.request_model, call.agent_name) == ("openai", "weather", "Weather")
    assert [each.get("kind", each.get("role")) for each in call.messages] == [
        "tool",
        "system",
        "user",
    ]
    assert call.tool_calls[0]["name"] == tool.name == "get_weather"
    assert tool.call_id == call.tool_calls[0]["id"]
    assert tool.arguments == {"city": "Oslo"}
    assert call.usage.output == 5
    assert call.usage.cached_input == 4
    assert call.is_streamed is is_streamed
    assert "fake" not in call.response_id
    assert "Take a coat." in str(last.answer)
