"""Function tools as durable steps and scopes."""

from __future__ import annotations

import asyncio
from typing import Any

import agents
import pytest
from agents import (
    Agent,
    RunConfig,
    function_tool,
)

import holdfast.ai.openai_agents as durable_agents
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
)

from ..fake_context import AttemptFailed, Crash, FakeContext, Journal, Retry, attempt, current
from .sample import TWO_CITIES, get_weather, ran, replay, summary


async def test_scoped_tool_uses_the_context(model: ScriptedModel, config: RunConfig) -> None:
    """A scoped tool has its own steps, may wait, and its result is recorded."""

    @function_tool
    @durable_agents.scoped
    async def approve(claim: str) -> str:
        ctx = current()

        async def ask() -> dict[str, Any]:
            ran.append(f"ask about {claim}")
            return {"asked": claim}

        await ctx.run("ask", ask)
        return f"{claim}: {ctx.promise('decision')}"

    calls = (ToolCall("approve", {"claim": "tooth"}), TWO_CITIES[0])
    model.scenario("claims", [Turn(tool_calls=calls), summary])
    agent = Agent(name="Claims", model="claims", tools=[approve, get_weather])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    journal: Journal = {}
    with pytest.raises(Crash):
        await attempt(FakeContext(journal), handler)
    assert any(key.endswith("/ask#1") for key in journal)
    result = await attempt(FakeContext(journal, promises={"decision": "yes"}), handler)
    assert result.final_output == "tooth: yes | 3 degrees in Oslo"
    assert ran.count("ask about tooth") == 1
    assert len(model.calls("claims")) == 2
    # The recorded result counts, whatever the body would say now.
    context = FakeContext(journal, promises={"decision": "no"})
    assert (await attempt(context, handler)).final_output == "tooth: yes | 3 degrees in Oslo"


@pytest.mark.parametrize("how", ["above", "option"])
async def test_other_ways_to_mark_scoped(model: ScriptedModel, config: RunConfig, how: str) -> None:
    @function_tool
    async def approve() -> str:
        return f"in {current().id}"

    tool = durable_agents.scoped(approve) if how == "above" else approve
    model.scenario("claims", [Turn(tool_calls=(ToolCall("approve"),)), summary])
    agent = Agent(name="Claims", model="claims", tools=[tool])

    async def handler() -> agents.RunResult:
        names = {"approve"} if how == "option" else set()
        return await durable_agents.run(agent, "Hi", run_config=config, scoped_tools=names)

    result = await attempt(FakeContext({}), handler)
    assert result.final_output == "in inv_1"


async def test_context_in_a_plain_tool_is_explained(
    model: ScriptedModel, config: RunConfig
) -> None:
    """The failure handler of the tool must not turn this mistake into a text for the model."""

    @function_tool
    async def approve() -> str:
        return current().id

    model.scenario("claims", [Turn(tool_calls=(ToolCall("approve"),)), "never"])
    agent = Agent(name="Claims", model="claims", tools=[approve])
    journal: Journal = {}
    for _ in range(2):
        with pytest.raises(TerminalError, match=r"'approve' used .* @durable_agents.scoped"):
            await attempt(
                FakeContext(journal), lambda: durable_agents.run(agent, "Hi", run_config=config)
            )
    assert len(model.calls("claims")) == 1


def test_scoped_needs_an_async_function() -> None:
    def approve() -> None: ...

    with pytest.raises(UsageError, match="'approve' is not"):
        durable_agents.scoped(approve)
    with pytest.raises(UsageError, match="'approve' is not"):
        durable_agents.scoped(function_tool(approve))
    with pytest.raises(UsageError, match="tools and functions"):
        durable_agents.scoped(3)


async def test_tool_errors_go_to_the_model_as_usual(
    model: ScriptedModel, config: RunConfig
) -> None:
    """The tool's own failure handler decides, and what it said is recorded."""
    tried: list[str] = []

    @function_tool(failure_error_function=lambda _, error: f"sorry: {error}")
    async def broken() -> str:
        tried.append("broken")
        raise ValueError("no such city")

    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken"),)), summary])
    agent = Agent(name="Weather", model="weather", tools=[broken])

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config)

    journal: Journal = {}
    assert (await attempt(FakeContext(journal), handler)).final_output == "sorry: no such city"
    assert (await replay(journal, handler)).final_output == "sorry: no such city"
    assert tried == ["broken"]


async def test_tool_retry(model: ScriptedModel, config: RunConfig) -> None:
    """With a policy the step is retried first; then the model is told."""
    tried: list[str] = []

    @function_tool(failure_error_function=lambda _, error: f"sorry: {error}")
    async def shaky(works_at: int) -> str:
        tried.append("shaky")
        if len(tried) < works_at:
            raise ValueError("down")
        return "up"

    agent = Agent(name="Weather", model="weather", tools=[shaky])
    for works_at, said in ((3, "up"), (99, "sorry: down")):
        tried.clear()
        call = ToolCall("shaky", {"works_at": works_at})
        model.scenario("weather", [Turn(tool_calls=(call,)), summary])

        async def handler() -> agents.RunResult:
            policy: Any = Retry(max_attempts=3)
            return await durable_agents.run(agent, "Hi", run_config=config, tool_retry=policy)

        journal: Journal = {}
        assert (await attempt(FakeContext(journal), handler)).final_output == said
        assert (await replay(journal, handler)).final_output == said
        assert len(tried) == 3


async def test_tool_without_failure_handler(model: ScriptedModel, config: RunConfig) -> None:
    """`failure_error_function=None`: errors are retried by Holdfast, terminal ones end the run."""

    @function_tool(failure_error_function=None)
    async def broken(terminal: bool) -> str:
        raise TerminalError("gone", code=410) if terminal else ValueError("down")

    agent = Agent(name="Weather", model="weather", tools=[broken])
    handler = lambda: durable_agents.run(agent, "Hi", run_config=config)  # noqa: E731
    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken", {"terminal": True}),))])
    with pytest.raises(TerminalError, match="gone") as ended:
        await attempt(FakeContext({}), handler)
    assert ended.value.code == 410
    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken", {"terminal": False}),))])
    with pytest.raises(AttemptFailed, match="down"):
        await attempt(FakeContext({}), handler)


async def test_cancellation_is_no_text_for_the_model(
    model: ScriptedModel, config: RunConfig
) -> None:
    """A cancelled invocation stops, even if a tool's failure handler would go on."""

    @function_tool
    @durable_agents.scoped
    async def wait() -> str:
        raise TerminalError("cancelled", code=409)

    model.scenario("claims", [Turn(tool_calls=(ToolCall("wait"), TWO_CITIES[0])), "never"])
    agent = Agent(name="Claims", model="claims", tools=[wait, get_weather])
    with pytest.raises(TerminalError, match="cancelled") as ended:
        await attempt(FakeContext({}), lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert ended.value.code == 409
    assert len(model.calls("claims")) == 1


@pytest.mark.parametrize("scoped", [False, True])
async def test_stopped_attempt_does_nothing_more(
    model: ScriptedModel, config: RunConfig, scoped: bool
) -> None:
    """When the tasks of an attempt are cancelled, no failure handler makes a text of that."""
    started = asyncio.Event()

    @function_tool
    async def wait() -> str:
        started.set()
        await asyncio.sleep(30)
        return "late"

    tool = durable_agents.scoped(wait) if scoped else wait
    model.scenario("claims", [Turn(tool_calls=(ToolCall("wait"),)), "never"])
    agent = Agent(name="Claims", model="claims", tools=[tool])
    journal: Journal = {}
    before = asyncio.all_tasks()
    running = asyncio.create_task(
        attempt(FakeContext(journal), lambda: durable_agents.run(agent, "Hi", run_config=config))
    )
    await started.wait()
    for task in asyncio.all_tasks() - before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(journal) == 1
    assert len(model.calls("claims")) == 1


async def test_tool_timeout_is_recorded(model: ScriptedModel, config: RunConfig) -> None:
    @function_tool(timeout=0.01)
    async def slow() -> str:
        ran.append("slow")
        await asyncio.sleep(30)
        return "late"

    model.scenario("weather", [Turn(tool_calls=(ToolCall("slow"),)), summary])
    agent = Agent(name="Weather", model="weather", tools=[slow])
    journal: Journal = {}
    handler = lambda: durable_agents.run(agent, "Hi", run_config=config)  # noqa: E731
    first = await attempt(FakeContext(journal), handler)
    assert "timed out" in first.final_output
    assert (await replay(journal, handler)).final_output == first.final_output
    assert ran == ["slow"]
