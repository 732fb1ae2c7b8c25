"""Model calls as durable steps."""

from __future__ import annotations

import dataclasses
from typing import Any

import agents
import pytest
from agents import (
    Agent,
    RunConfig,
)

import holdfast.ai.openai_agents as durable_agents
from holdfast.domain.errors import TerminalError
from holdfast.testing.scripted_model import (
    Fault,
    ScriptedModel,
    Turn,
)

from ..fake_context import AttemptFailed, FakeContext, Journal, Retry, attempt
from .sample import replay


async def test_model_retries_have_one_knob(model: ScriptedModel, config: RunConfig) -> None:
    """Neither the client nor the SDK retries by itself: one call per attempt of the step."""
    faults = (Fault(status=429, retry_after_s=0), Fault(status=500), Fault(drop=True))
    model.scenario("busy", [Turn(text="at last", faults=faults)])
    agent = Agent(name="Busy", model="busy")
    with pytest.raises(AttemptFailed, match="429"):
        await attempt(FakeContext({}), lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert len(model.calls("busy")) == 1
    policy: Any = Retry(max_attempts=5)
    result = await attempt(
        FakeContext({}),
        lambda: durable_agents.run(agent, "Hi", run_config=config, model_retry=policy),
    )
    assert result.final_output == "at last"
    assert len(model.calls("busy")) == 4


async def test_hopeless_requests_end_the_invocation(
    model: ScriptedModel, config: RunConfig
) -> None:
    agent = Agent(name="Nobody", model="nobody")
    policy: Any = Retry(max_attempts=5)
    journal: Journal = {}
    for _ in range(2):
        with pytest.raises(TerminalError, match=r"refused the request \(404\).*no scenario"):
            await attempt(
                FakeContext(journal),
                lambda: durable_agents.run(agent, "Hi", run_config=config, model_retry=policy),
            )
    assert len(journal) == 1


async def test_model_instance_on_the_agent(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("weather", ["hello"])
    instance = config.model_provider.get_model("weather")
    agent = Agent(name="Weather", model=instance)
    for settings in (RunConfig(), RunConfig(model=instance), {"model": instance}, None):
        journal: Journal = {}
        handler = lambda: durable_agents.run(  # noqa: E731
            agent,
            "Hi",
            run_config=settings,  # noqa: B023
        )
        await attempt(FakeContext(journal), handler)
        await replay(journal, handler)
        assert len(journal) == 1
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
    await attempt(FakeContext({}), lambda: durable_agents.run(agent, "x", run_config=config))
    assert traces == []
    named = dataclasses.replace(config, workflow_name="mine")
    await attempt(FakeContext({}), lambda: durable_agents.run(agent, "x", run_config=named))
    assert traces == ["mine"]
