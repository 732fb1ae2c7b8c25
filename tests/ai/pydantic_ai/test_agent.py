"""Agents of Pydantic AI in durable handlers: features of their own, errors, options, approvals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, AgentStreamEvent, ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.messages import PartDeltaEvent

import holdfast as hf
from holdfast.ai import Options, ToolOptions
from holdfast.ai.pydantic_ai import Durability, ask_people
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, ToolCall, Turn, TurnSpec

from .conftest import MakeChat


def served(run: Callable[[hf.Context], Any]) -> hf.App:
    service = hf.Service("Agent")

    @service.handler(retry=hf.RetryPolicy(max_attempts=3, on_max_attempts="kill"))
    async def handle(ctx: hf.Context) -> Any:
        return await run(ctx)

    return hf.App(service)


async def outcome(run: Callable[[hf.Context], Any], *, crash: str | None = None) -> Any:
    async with environment(served(run), always_replay=crash is None) as env:
        if crash is not None:
            env.crash_at(crash)
        return await env.client.call("Agent/handle")


class City(BaseModel):
    """A city to go to."""

    name: str
    degrees: int


async def test_structured_output_is_of_its_type(chat: MakeChat) -> None:
    turn = Turn(tool_calls=(ToolCall("final_result", {"name": "Rome", "degrees": 21}),))
    with ScriptedModel({"m": [turn]}) as model:
        agent = Agent(chat(model, "m"), name="a", output_type=City, capabilities=[Durability()])

        async def run(ctx: hf.Context) -> Any:
            city = (await agent.run("go")).output
            assert isinstance(city, City)
            return city.degrees

        assert await outcome(run) == 21
        assert len(model.calls("m")) == 1


async def test_a_tool_that_asks_the_model_to_try_again(chat: MakeChat) -> None:
    tries = 0

    async def pay(amount: int) -> str:
        """Pay."""
        nonlocal tries
        tries += 1
        if amount > 10:
            raise ModelRetry("too much")
        return f"paid {amount}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("pay", {"amount": 50}),)),
        Turn(tool_calls=(ToolCall("pay", {"amount": 5}),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = Agent(chat(model, "m"), name="a", tools=[pay], capabilities=[Durability()])

        async def run(ctx: hf.Context) -> str:
            return (await agent.run("go")).output

        assert await outcome(run) == "paid 5"
        assert tries == 2


class Broke(Exception):
    """What a tool raises."""


async def test_the_exception_of_a_tool_keeps_its_type(chat: MakeChat) -> None:
    tries = 0

    async def pay() -> str:
        """Pay."""
        nonlocal tries
        tries += 1
        raise Broke("no money")

    with ScriptedModel({"m": [Turn(tool_calls=(ToolCall("pay"),))]}) as model:
        agent = Agent(chat(model, "m"), name="a", tools=[pay], capabilities=[Durability()])

        async def run(ctx: hf.Context) -> str:
            try:
                return (await agent.run("go")).output
            except Broke as error:
                await ctx.sleep(1)
                return f"caught {error}"

        assert await outcome(run) == "caught no money"
        assert tries == 1


async def test_a_refused_request_keeps_its_type(chat: MakeChat) -> None:
    turn = Turn(text="x", faults=(Fault(status=400),) * 9)
    with ScriptedModel({"m": [turn]}) as model:
        agent = Agent(chat(model, "m"), name="a", capabilities=[Durability()])

        async def run(ctx: hf.Context) -> Any:
            try:
                await agent.run("go")
            except ModelHTTPError as error:
                await ctx.sleep(1)
                return error.status_code

        assert await outcome(run) == 400
        assert len(model.calls("m")) == 1


async def test_the_retries_of_the_client_are_off(chat: MakeChat) -> None:
    turn = Turn(text="Done.", faults=(Fault(status=500), Fault(status=429, retry_after_s=1)))
    with ScriptedModel({"m": [turn]}) as model:
        agent = Agent(chat(model, "m"), name="a", capabilities=[Durability()])

        async def run(ctx: hf.Context) -> str:
            return (await agent.run("go")).output

        assert await outcome(run) == "Done."
        assert len(model.calls("m")) == 3


async def test_a_tool_gets_the_durable_context(chat: MakeChat) -> None:
    charged = 0

    def charge(amount: int) -> int:
        nonlocal charged
        charged += 1
        return amount

    async def pay(amount: int) -> str:
        """Pay."""
        await hf.current().sleep(3600)
        return f"paid {await hf.current().run('charge', charge, amount)}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("pay", {"amount": 5}),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        options = Options(tools={"pay": ToolOptions(mode="scoped")})
        agent = Agent(chat(model, "m"), name="a", tools=[pay], capabilities=[Durability(options)])

        async def run(ctx: hf.Context) -> str:
            return (await agent.run("go")).output

        assert await outcome(run) == "paid 5"
        assert charged == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"approved": True}, "paid 50"),
        ({"approved": True, "arguments": {"amount": 5}}, "paid 5"),
        ({"approved": False, "comment": "too dear"}, "denied: too dear"),
    ],
    ids=["approved", "changed", "rejected"],
)
async def test_a_tool_waits_for_a_person(
    chat: MakeChat, answer: dict[str, Any], expected: str
) -> None:
    def pay(amount: int) -> str:
        """Pay."""
        return f"paid {amount}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("pay", {"amount": 50}),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = Agent(
            chat(model, "m"),
            name="a",
            tools=[Tool(pay, requires_approval=True)],
            capabilities=[Durability(), ask_people(assignee="finance")],
        )

        async def run(ctx: hf.Context) -> str:
            return (await agent.run("go")).output

        async with environment(served(run), always_replay=True) as env:
            sent = await env.client.send("Agent/handle")
            (waiting,) = await env.approvals()
            await env.decide(waiting.id, **answer)
            assert expected in await env.client.attach(sent.invocation_id, type=str)
        assert len(model.calls("m")) == 2


async def test_parallel_agents_in_one_handler(chat: MakeChat) -> None:
    with ScriptedModel({"m": lambda request: f"about {request.prompt}"}) as model:
        agent = Agent(chat(model, "m"), name="a", capabilities=[Durability()])

        async def run(ctx: hf.Context) -> Any:
            results = await asyncio.gather(*(agent.run(f"city {n}") for n in range(6)))
            return [result.output for result in results]

        for crash in ("after:step 2", "during:step 4", "before:step 6"):
            assert await outcome(run, crash=crash) == [f"about city {n}" for n in range(6)]


async def test_ids_and_dependencies(chat: MakeChat) -> None:
    seen: list[tuple[str | None, str]] = []

    async def look(ctx: RunContext[str]) -> str:
        """Look."""
        return f"{ctx.deps} {ctx.tool_call_id is not None}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("look"),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = Agent(
            chat(model, "m"),
            name="a",
            deps_type=str,
            tools=[Tool(look, takes_ctx=True)],
            capabilities=[Durability()],
        )

        async def run(ctx: hf.Context) -> str:
            result = await agent.run("go", deps="me")
            seen.append((result.run_id, result.output))
            await ctx.sleep(1)
            return result.output

        assert await outcome(run) == "me True"
        assert len(seen) > 1
        assert len(set(seen)) == 1, "a replay had another run id"


async def test_events_of_a_model_call_come_live(chat: MakeChat) -> None:
    pieces: list[str] = []

    async def listen(ctx: RunContext[Any], events: AsyncIterable[AgentStreamEvent]) -> None:
        async for event in events:
            if isinstance(event, PartDeltaEvent):
                pieces.append(str(getattr(event.delta, "content_delta", "")))

    with ScriptedModel({"m": ["One two three four."]}) as model:
        agent = Agent(
            chat(model, "m"), name="a", capabilities=[Durability(event_stream_handler=listen)]
        )

        async def run(ctx: hf.Context) -> str:
            return (await agent.run("go")).output

        assert await outcome(run, crash="after:step 1") == "One two three four."
        assert len(pieces) > 1
        assert len(model.calls("m")) == 1


async def test_outside_of_a_handler_it_says_that_nothing_is_durable(
    chat: MakeChat, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.ai.guard._warned", set())
    with ScriptedModel({"m": ["Done."]}) as model:
        agent = Agent(chat(model, "m"), name="a", capabilities=[Durability()])
        assert (await agent.run("go")).output == "Done."
    assert "outside of a durable handler" in caplog.text
