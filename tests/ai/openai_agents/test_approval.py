"""Tools that need an approval wait for a person."""

from __future__ import annotations

from typing import Any

import pytest
from agents import (
    Agent,
    HostedMCPTool,
    MCPToolApprovalFunctionResult,
    MCPToolApprovalRequest,
    RunConfig,
    RunContextWrapper,
    function_tool,
)
from agents.run_config import ToolErrorFormatterArgs
from openai.types.responses.response_output_item import McpApprovalRequest

import holdfast as hf
import holdfast.ai.openai_agents as durable_agents
from holdfast.ai.openai_agents import Approvals
from holdfast.ai.openai_agents._mcp import durable_hosted
from holdfast.domain.errors import TerminalError
from holdfast.testing import environment
from holdfast.testing.scripted_model import ScriptedModel, ToolCall, Turn

from .durable import outcome, served
from .sample import ran, summary


async def pay(amount: int) -> str:
    """Pay."""
    ran.append(f"pay {amount}")
    return f"paid {amount}"


PAY = Turn(tool_calls=(ToolCall("pay", {"amount": 50}),))
ANSWERS = [
    pytest.param({"approved": True}, "paid 50", id="approved"),
    pytest.param({"approved": True, "arguments": {"amount": 5}}, "paid 5", id="changed"),
    pytest.param({"approved": False, "comment": "too dear"}, "too dear", id="commented"),
    pytest.param({"approved": False}, "Tool execution was not approved.", id="rejected"),
]


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_a_tool_waits_for_a_person(
    model: ScriptedModel,
    config: RunConfig,
    answer: dict[str, Any],
    expected: str,
    is_streamed: bool,
) -> None:
    model.scenario("m", [PAY, summary])
    agent = Agent(name="A", model="m", tools=[function_tool(pay, needs_approval=True)])
    how = Approvals(assignee="finance")

    async def run(ctx: hf.Context) -> str:
        if not is_streamed:
            result = await durable_agents.run(agent, "go", run_config=config, approvals=how)
            return str(result.final_output)
        streamed = durable_agents.run_streamed(agent, "go", run_config=config, approvals=how)
        async for _ in streamed.stream_events():
            pass
        return str(streamed.final_output)

    async with environment(served(run), always_replay=True) as env:
        sent = await env.client.send("Agent/handle")
        (waiting,) = await env.approvals()
        assert waiting.asked is not None
        assert waiting.asked.title == "May the agent use pay?"
        assert waiting.asked.assignees == ("finance",)
        assert ran == []
        await env.decide(waiting.id, **answer)
        assert expected in await env.client.attach(sent.invocation_id, type=str)
    assert len(ran) == ("paid" in expected)
    assert len(model.calls("m")) == 2


async def test_parallel_calls_wait_side_by_side(model: ScriptedModel, config: RunConfig) -> None:
    calls = tuple(ToolCall("pay", {"amount": amount}) for amount in (1, 2))
    model.scenario("m", [Turn(tool_calls=calls), summary])
    agent = Agent(name="A", model="m", tools=[function_tool(pay, needs_approval=True)])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

    async with environment(served(run)) as env:
        sent = await env.client.send("Agent/handle")
        waiting = await env.approvals()
        assert len(waiting) == 2
        for approval in waiting:
            assert approval.asked is not None
            await env.decide(approval.id, b"1" in approval.asked.arguments)
        said = await env.client.attach(sent.invocation_id)
    assert said == "paid 1 | Tool execution was not approved."


async def test_a_policy_decides_who_is_asked(model: ScriptedModel, config: RunConfig) -> None:
    """By the arguments; in an agent that is a tool, too."""

    async def is_much(_: RunContextWrapper[Any], arguments: dict[str, Any], call_id: str) -> bool:
        return bool(arguments["amount"] > 10)

    calls = tuple(ToolCall("pay", {"amount": amount}) for amount in (5, 50))
    model.scenario("inner", [Turn(tool_calls=calls), summary])
    model.scenario("outer", [Turn(tool_calls=(ToolCall("payer", {"input": "x"}),)), summary])
    tool = function_tool(pay, needs_approval=is_much)
    payer = Agent(name="Payer", model="inner", tools=[tool])
    agent = Agent(name="A", model="outer", tools=[payer.as_tool("payer", "Pays.")])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

    async with environment(served(run)) as env:
        sent = await env.client.send("Agent/handle")
        (waiting,) = await env.approvals()
        assert ran == ["pay 5"]
        await env.decide(waiting.id, True)
        assert await env.client.attach(sent.invocation_id) == "paid 5 | paid 50"


@pytest.mark.parametrize(
    ("on_timeout", "expected"), [("reject", "not approved"), ("approve", "paid 50")]
)
async def test_nobody_answers(
    model: ScriptedModel, config: RunConfig, on_timeout: str, expected: str
) -> None:
    model.scenario("m", [PAY, summary])
    agent = Agent(name="A", model="m", tools=[function_tool(pay, needs_approval=True)])
    how = Approvals(timeout=3600, on_timeout=on_timeout)

    async def run(ctx: hf.Context) -> str:
        result = await durable_agents.run(agent, "go", run_config=config, approvals=how)
        return str(result.final_output)

    assert expected in await outcome(run)


async def test_nobody_answers_and_the_run_ends(model: ScriptedModel, config: RunConfig) -> None:
    model.scenario("m", [PAY, "never"])
    agent = Agent(name="A", model="m", tools=[function_tool(pay, needs_approval=True)])
    how = Approvals(timeout=3600, on_timeout="fail")

    async def run(ctx: hf.Context) -> str:
        return str(await durable_agents.run(agent, "go", run_config=config, approvals=how))

    with pytest.raises(TerminalError) as ended:
        await outcome(run)
    assert ended.value.code == 408
    assert len(model.calls("m")) == 1


async def test_the_formatter_of_the_run_words_a_rejection(
    model: ScriptedModel, config: RunConfig
) -> None:
    def word(given: ToolErrorFormatterArgs[Any]) -> str:
        return f"{given.kind}: {given.tool_name}"

    config.tool_error_formatter = word
    model.scenario("m", [PAY, summary])
    agent = Agent(name="A", model="m", tools=[function_tool(pay, needs_approval=True)])

    async def run(ctx: hf.Context) -> str:
        return str((await durable_agents.run(agent, "go", run_config=config)).final_output)

    async with environment(served(run), always_replay=True) as env:
        sent = await env.client.send("Agent/handle")
        (waiting,) = await env.approvals()
        await env.decide(waiting.id, False)
        assert await env.client.attach(sent.invocation_id) == "approval_rejected: pay"


@pytest.mark.parametrize("by", ["person", "program"])
async def test_hosted_servers_ask_in_the_inbox(by: str) -> None:
    """A person, or the user's own function, once."""
    own = 0

    def decide(request: MCPToolApprovalRequest) -> MCPToolApprovalFunctionResult:
        nonlocal own
        own += 1
        return {"approve": False, "reason": f"no {request.data.name}"}

    hosted = HostedMCPTool(
        tool_config={"type": "mcp", "server_label": "crm", "server_url": "http://127.0.0.1:1"},
        on_approval_request=decide if by == "program" else None,
    )
    request = McpApprovalRequest(
        id="mcpr_1", arguments="{}", name="drop", server_label="crm", type="mcp_approval_request"
    )

    async def run(ctx: hf.Context) -> Any:
        ask: Any = durable_hosted(hosted, Approvals()).on_approval_request
        answer = await ask(MCPToolApprovalRequest(RunContextWrapper(None), request))
        await ctx.sleep(1)
        return answer

    async with environment(served(run), always_replay=True) as env:
        sent = await env.client.send("Agent/handle")
        for waiting in await env.approvals():
            await env.decide(waiting.id, False, comment="no drop")
        said = await env.client.attach(sent.invocation_id)
    assert said == {"approve": False, "reason": "no drop"}
    assert own == (by == "program")
