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

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.ai import LoopStopped, Options, ToolOptions
from holdfast.domain.errors import TerminalError, UsageError
from holdfast.testing import environment
from holdfast.testing.scripted_model import (
    ScriptedModel,
    ToolCall,
    Turn,
)

from .durable import durably, served
from .sample import TWO_CITIES, get_weather, ran, summary


async def test_scoped_tool_uses_the_context(model: ScriptedModel, config: RunConfig) -> None:
    """A scoped tool has its own steps, may wait, and its result is recorded."""
    entered: list[str] = []

    @function_tool
    @durable_agents.scoped
    async def approve(claim: str) -> str:
        ctx = hf.current()

        async def ask() -> dict[str, Any]:
            ran.append(f"ask about {claim}")
            return {"asked": claim}

        await ctx.run("ask", ask)
        decision = await ctx.approve("Pay?")
        entered.append(claim)
        return f"{claim}: {decision.approved}"

    calls = (ToolCall("approve", {"claim": "tooth"}), TWO_CITIES[0])
    model.scenario("claims", [Turn(tool_calls=calls), summary])
    agent = Agent(name="Claims", model="claims", tools=[approve, get_weather])

    async def run(ctx: hf.Context) -> str:
        result = await durable_agents.run(agent, "Hi", run_config=config)
        await ctx.sleep(1)
        return str(result.final_output)

    async with environment(served(run), always_replay=True) as env:
        sent = await env.client.send("Agent/handle")
        (waiting,) = await env.approvals()
        await env.decide(waiting.id, True)
        said = await env.client.attach(sent.invocation_id)
    assert said == "tooth: True | 3 degrees in Oslo"
    assert ran.count("ask about tooth") == 1
    assert len(model.calls("claims")) == 2
    # Once its result is recorded, no replay enters it again.
    assert entered == ["tooth"]


@pytest.mark.parametrize("how", ["above", "option"])
async def test_other_ways_to_mark_scoped(model: ScriptedModel, config: RunConfig, how: str) -> None:
    @function_tool
    async def approve() -> str:
        return f"in {hf.current().id[:4]}"

    tool = durable_agents.scoped(approve) if how == "above" else approve
    model.scenario("claims", [Turn(tool_calls=(ToolCall("approve"),)), summary])
    agent = Agent(name="Claims", model="claims", tools=[tool])

    options = Options(tools={"approve": ToolOptions(mode="scoped")} if how == "option" else {})

    async def handler() -> agents.RunResult:
        return await durable_agents.run(agent, "Hi", run_config=config, options=options)

    result, *_ = await durably(handler)
    assert result.final_output == "in inv_"


async def test_context_in_a_plain_tool_is_explained(
    model: ScriptedModel, config: RunConfig
) -> None:
    """The failure handler of the tool must not turn this mistake into a text for the model."""

    @function_tool
    async def approve() -> str:
        return hf.current().id

    model.scenario("claims", [Turn(tool_calls=(ToolCall("approve"),)), "never"])
    agent = Agent(name="Claims", model="claims", tools=[approve])
    with pytest.raises(TerminalError, match=r"'approve' used .*mode=\"scoped\".*HF0601"):
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
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

    for result in await durably(handler):
        assert result.final_output == "sorry: no such city"
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
            options = Options(tool_retry=hf.RetryPolicy(max_attempts=3))
            return await durable_agents.run(agent, "Hi", run_config=config, options=options)

        for result in await durably(handler):
            assert result.final_output == said
        assert len(tried) == 3


async def test_tool_without_failure_handler(model: ScriptedModel, config: RunConfig) -> None:
    """`failure_error_function=None`: an error ends the run as itself; retries go before that."""
    tried: list[bool] = []

    @function_tool(failure_error_function=None)
    async def broken(terminal: bool) -> str:
        tried.append(terminal)
        raise TerminalError("gone", code=410) if terminal else ValueError("down")

    agent = Agent(name="Weather", model="weather", tools=[broken])
    handler = lambda: durable_agents.run(agent, "Hi", run_config=config)  # noqa: E731
    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken", {"terminal": True}),))])
    with pytest.raises(TerminalError, match="gone") as ended:
        await durably(handler)
    assert ended.value.code == 410
    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken", {"terminal": False}),))])
    with pytest.raises(ValueError, match="down"):
        await durably(handler)
    options = Options(tool_retry=hf.RetryPolicy(max_attempts=3))
    with pytest.raises(ValueError, match="down"):
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config, options=options))
    assert tried == [True, *[False] * 4]


async def test_a_failure_may_end_the_loop(model: ScriptedModel, config: RunConfig) -> None:
    """`on_error` of the options goes before the tool's own failure handler."""

    @function_tool
    async def broken() -> str:
        raise ValueError("down")

    model.scenario("weather", [Turn(tool_calls=(ToolCall("broken"),)), "never"])
    agent = Agent(name="Weather", model="weather", tools=[broken])
    options = Options(tools={"broken": ToolOptions(on_error="stop")})
    with pytest.raises(LoopStopped) as stopped:
        await durably(lambda: durable_agents.run(agent, "Hi", run_config=config, options=options))
    assert isinstance(stopped.value.error, ValueError)
    assert len(model.calls("weather")) == 1


async def test_cancellation_is_no_text_for_the_model(
    model: ScriptedModel, config: RunConfig
) -> None:
    """A cancelled invocation stops, even if a tool's failure handler would go on."""
    started = asyncio.Event()

    @function_tool
    @durable_agents.scoped
    async def wait() -> str:
        started.set()
        await hf.current().sleep(3600)
        return "late"

    model.scenario("claims", [Turn(tool_calls=(ToolCall("wait"), TWO_CITIES[0])), "never"])
    agent = Agent(name="Claims", model="claims", tools=[wait, get_weather])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "Hi", run_config=config)).final_output)

    async with environment(served(run), autojump=False) as env:
        sent = await env.client.send("Agent/handle")
        await started.wait()
        await env.client.cancel(sent.invocation_id)
        with pytest.raises(TerminalError, match="cancelled") as ended:
            await env.client.attach(sent.invocation_id)
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

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "Hi", run_config=config)).final_output)

    async with environment(served(run), autojump=False) as env:
        await env.client.send("Agent/handle")
        await started.wait()
    # The server is gone now, in the middle of the tool.
    assert len(model.calls("claims")) == 1


async def test_tool_timeout_is_recorded(model: ScriptedModel, config: RunConfig) -> None:
    @function_tool(timeout=0.01)
    async def slow() -> str:
        ran.append("slow")
        await asyncio.sleep(30)
        return "late"

    model.scenario("weather", [Turn(tool_calls=(ToolCall("slow"),)), summary])
    agent = Agent(name="Weather", model="weather", tools=[slow])
    results = await durably(lambda: durable_agents.run(agent, "Hi", run_config=config))
    assert "timed out" in results[0].final_output
    assert all(result.final_output == results[0].final_output for result in results)
    assert ran == ["slow"]
