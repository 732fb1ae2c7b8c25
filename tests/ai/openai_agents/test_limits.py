"""What is not durable says so."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import agents
import pydantic
import pytest
from agents import (
    Agent,
    ModelSettings,
    RunConfig,
    RunContextWrapper,
    Runner,
    function_tool,
)

import holdfast.ai.openai_agents as durable_agents
from holdfast.domain.errors import UsageError
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
)

from .durable import durably
from .sample import get_weather


@dataclasses.dataclass
class State:
    count: int = 0


def refused() -> list[Any]:
    @durable_agents.scoped
    @function_tool(timeout=1)
    async def slow() -> None: ...

    class Out(pydantic.BaseModel):
        a: int

    typed = function_tool(get_weather.__wrapped__, output_type=Out)
    shell = agents.LocalShellTool(executor=lambda _: "")
    behind = Agent(name="Front", handoffs=[agents.handoff(Agent(name="B", tools=[shell]))])
    nested = Agent(name="Outer", tools=[Agent(name="B", tools=[shell]).as_tool("b", "B")])
    return [
        pytest.param(Agent(name="A", tools=[slow]), {}, "would count again", id="timeout"),
        pytest.param(Agent(name="A", tools=[typed]), {}, "output schema", id="schema"),
        pytest.param(Agent(name="A", tools=[shell]), {}, "acts on this machine", id="shell"),
        pytest.param(behind, {}, "acts on this machine", id="behind a handoff"),
        pytest.param(nested, {}, "acts on this machine", id="in an agent as tool"),
        pytest.param(
            Agent(name="A"),
            {"session": agents.SQLiteSession("x")},
            "outside of the journal",
            id="session",
        ),
        pytest.param(
            Agent(name="A"),
            {"run_config": RunConfig(sandbox=agents.run_config.SandboxRunConfig())},
            "sandbox",
            id="sandbox",
        ),
    ]


@pytest.mark.parametrize(("agent", "options", "why"), refused())
async def test_what_is_not_durable_is_refused(
    agent: Agent[Any], options: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why) as refusal:
        await durably(lambda: durable_agents.run(agent, "Hi", **options))
    assert refusal.value.code in ("HF0605", "HF0606")

    async def follow() -> None:
        durable_agents.run_streamed(agent, "Hi", **options)

    with pytest.raises(UsageError, match=why):
        await durably(follow)


async def test_resuming_a_run_state_is_refused(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("hi", ["ho"])
    agent = Agent(name="A", model="hi")
    state = (await Runner.run(agent, "x", run_config=config)).to_state()
    with pytest.raises(UsageError, match="RunState"):
        await durably(lambda: durable_agents.run(agent, state))  # type: ignore[arg-type]


async def test_warnings(
    model: ScriptedModel, config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """What is only partly durable is said once, not at each replay."""

    @function_tool
    def increment(context: RunContextWrapper[State]) -> str:
        context.context.count += 1
        return "ok"

    model.scenario("count", [Turn(tool_calls=(ToolCall("increment"),)), "done"])
    retry = agents.ModelRetrySettings(max_retries=7)
    agent = Agent[State](
        name="Count", model="count", tools=[increment], model_settings=ModelSettings(retry=retry)
    )
    await durably(lambda: durable_agents.run(agent, "Hi", run_config=config, context=State()))
    messages = [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and record.name.startswith("holdfast")
    ]
    assert len(messages) == 2
    assert "model_retry" in messages[0]
    assert "'increment' changed the run's context" in messages[1]
