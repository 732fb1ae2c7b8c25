"""Agents and graphs of LangChain in durable handlers: features of their own, errors, options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain.tools import tool
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send
from pydantic import BaseModel

import holdfast as hf
from holdfast.ai import LoopStopped, Options, ToolOptions, agent_scope
from holdfast.ai.langchain import Durable, durable_model, durable_tool_call
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, ToolCall, Turn, TurnSpec

from .conftest import MakeChat

ASK: Any = {"messages": [{"role": "user", "content": "go"}]}


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
    turn = Turn(tool_calls=(ToolCall("City", {"name": "Rome", "degrees": 21}),))
    with ScriptedModel({"m": [turn]}) as model:
        agent = create_agent(chat(model, model="m"), response_format=City, middleware=[Durable()])

        async def run(ctx: hf.Context) -> Any:
            result = await agent.ainvoke(ASK)
            city = result["structured_response"]
            assert isinstance(city, City)
            return [city.name, city.degrees]

        assert await outcome(run) == ["Rome", 21]
        assert len(model.calls("m")) == 1


async def test_other_middleware_stays_around(chat: MakeChat) -> None:
    class Polite(AgentMiddleware[Any, Any, Any]):
        async def awrap_model_call(self, request: Any, handler: Any) -> Any:
            system = f"{request.system_prompt} Please."
            return await handler(request.override(system_prompt=system))

    with ScriptedModel({"m": ["Done."]}) as model:
        agent = create_agent(
            chat(model, model="m"), system_prompt="Work.", middleware=[Polite(), Durable()]
        )

        async def run(ctx: hf.Context) -> str:
            return str((await agent.ainvoke(ASK))["messages"][-1].text)

        assert await outcome(run) == "Done."
        assert "Work. Please." in str(model.calls("m")[0].body)


async def test_the_retries_of_the_client_are_off(chat: MakeChat) -> None:
    turn = Turn(text="Done.", faults=(Fault(status=500), Fault(status=429, retry_after_s=1)))
    with ScriptedModel({"m": [turn]}) as model:
        own = chat(model, model="m")
        agent = create_agent(own, middleware=[Durable()])

        async def run(ctx: hf.Context) -> str:
            return str((await agent.ainvoke(ASK))["messages"][-1].text)

        assert await outcome(run, crash="before:step 1") == "Done."
        assert len(model.calls("m")) == 3
        assert own.max_retries is None, "the user's model was changed"


async def test_a_tool_gets_the_durable_context(chat: MakeChat) -> None:
    called = 0

    async def pay(amount: int) -> str:
        """Pay."""
        nonlocal called
        await hf.current().sleep(3600)

        def charge() -> int:
            nonlocal called
            called += 1
            return amount

        return f"paid {await hf.current().run('charge', charge)}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("pay", {"amount": 5}),)),
        lambda r: r.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = create_agent(
            chat(model, model="m"),
            tools=[pay],
            middleware=[Durable(Options(tools={"pay": ToolOptions(mode="scoped")}))],
        )

        async def run(ctx: hf.Context) -> str:
            return str((await agent.ainvoke(ASK))["messages"][-1].text)

        assert await outcome(run) == "paid 5"
        assert called == 1


class TooExpensive(Exception):
    """What a tool raises."""


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("feed", "Error: no money"), ("fail", "TooExpensive"), ("stop", "LoopStopped")],
)
async def test_what_a_tool_raises(chat: MakeChat, on_error: Any, expected: str) -> None:
    @tool
    async def pay() -> str:
        """Pay."""
        raise TooExpensive("no money")

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("pay"),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = create_agent(chat(model, model="m"), tools=[pay], middleware=[Durable()])

        async def run(ctx: hf.Context) -> str:
            try:
                with agent_scope("payer", Options(on_tool_error=on_error)):
                    return str((await agent.ainvoke(ASK))["messages"][-1].text)
            except (TooExpensive, LoopStopped) as error:
                return type(error).__name__

        assert (await outcome(run)).startswith(expected)


booked: list[str] = []


@tool
async def book(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Book."""
    booked.append(tool_call_id)
    return Command(update={"messages": [ToolMessage("booked", tool_call_id=tool_call_id)]})


async def test_a_command_of_a_tool_is_recorded(chat: MakeChat) -> None:
    booked.clear()
    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("book"),)),
        lambda request: request.tool_outputs[0],
    ]
    with ScriptedModel({"m": turns}) as model:
        agent = create_agent(chat(model, model="m"), tools=[book], middleware=[Durable()])

        async def run(ctx: hf.Context) -> str:
            return str((await agent.ainvoke(ASK))["messages"][-1].text)

        assert await outcome(run) == "booked"
        assert len(booked) == 1


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


async def test_a_graph_of_ones_own(chat: MakeChat) -> None:
    ran: list[str] = []

    @tool
    async def look(place: str) -> str:
        """Look."""
        ran.append(place)
        return f"seen {place}"

    turns: list[TurnSpec] = [
        Turn(tool_calls=(ToolCall("look", {"place": "a"}), ToolCall("look", {"place": "b"}))),
        lambda request: ", ".join(request.tool_outputs),
    ]
    with ScriptedModel({"m": turns}) as model:
        bound = durable_model(chat(model, model="m")).bind_tools([look])

        async def think(state: State) -> dict[str, Any]:
            return {"messages": [await bound.ainvoke(state["messages"])]}

        builder = StateGraph(State)
        builder.add_node("think", think)
        builder.add_node("tools", ToolNode([look], awrap_tool_call=durable_tool_call))
        builder.add_edge(START, "think")
        builder.add_conditional_edges("think", tools_condition)
        builder.add_edge("tools", "think")
        graph = builder.compile()

        async def run(ctx: hf.Context) -> str:
            return str(
                (await graph.ainvoke({"messages": [HumanMessage("go")]}))["messages"][-1].text
            )

        assert await outcome(run) == "seen a, seen b"
        assert sorted(ran) == ["a", "b"]
        assert len(model.calls("m")) == 2


async def test_parallel_nodes_replay_right(chat: MakeChat) -> None:
    class Trip(TypedDict, total=False):
        cities: list[str]
        city: str
        said: Annotated[list[str], lambda a, b: sorted(a + b)]

    with ScriptedModel({"m": lambda request: f"about {request.prompt}"}) as model:
        durable = durable_model(chat(model, model="m"))

        async def write(state: Trip) -> Trip:
            answer = await durable.ainvoke([HumanMessage(state["city"])])
            assert isinstance(answer, AIMessage)
            return {"said": [f"{state['city']}: {answer.text}"]}

        builder = StateGraph(Trip)
        builder.add_node("write", write)
        builder.add_conditional_edges(
            START, lambda state: [Send("write", {"city": city}) for city in state["cities"]]
        )
        builder.add_edge("write", END)
        graph = builder.compile()
        cities = [f"city {number}" for number in range(8)]

        async def run(ctx: hf.Context) -> Any:
            return (await graph.ainvoke({"cities": cities}))["said"]

        for crash in ("after:step 3", "during:step 5", "before:step 8"):
            assert await outcome(run, crash=crash) == [f"{city}: about {city}" for city in cities]


async def test_tokens_come_as_a_stream(chat: MakeChat) -> None:
    with ScriptedModel({"m": ["One two three four."]}) as model:
        agent = create_agent(chat(model, model="m"), middleware=[Durable()])
        pieces: list[list[str]] = []

        async def run(ctx: hf.Context) -> str:
            seen: list[str] = []
            pieces.append(seen)
            async for chunk, _ in agent.astream(ASK, stream_mode="messages"):
                seen.append(str(getattr(chunk, "text", "")))
            return "".join(seen)

        assert await outcome(run, crash="after:step 1") == "One two three four."
        assert len(pieces[0]) > 1, "the first run did not stream"
        assert pieces[-1] == ["One two three four."]
        assert len(model.calls("m")) == 1


async def test_outside_of_a_handler_it_says_that_nothing_is_durable(
    chat: MakeChat, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.ai.guard._warned", set())
    with ScriptedModel({"m": ["Done."]}) as model:
        agent = create_agent(chat(model, model="m"), middleware=[Durable()])
        assert (await agent.ainvoke(ASK))["messages"][-1].text == "Done."
    assert "outside of a durable handler" in caplog.text
