"""Agents of the Agent Development Kit in durable handlers: features of their own, errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("google.adk", reason="the Agent Development Kit is in the matrix only")

from google.adk.agents import LlmAgent, ParallelAgent, RunConfig, SequentialAgent
from google.adk.agents.run_config import StreamingMode
from google.adk.models import LlmResponse
from google.adk.plugins import BasePlugin
from google.adk.tools import AgentTool, FunctionTool, ToolContext
from google.genai import types

import holdfast as hf
from holdfast.ai import LoopStopped, Options, ToolOptions, agent_scope
from holdfast.ai.adk import Durable
from holdfast.ai.adk._model import decode_response, encode_response
from holdfast.testing import environment
from holdfast.testing.scripted_model import Fault, ScriptedModel, ToolCall, Turn, TurnSpec

from ..http.shown import shown_text
from .sample import KITS_OWN_WARNINGS, MakeGemini, ask, make_runner

Run = Callable[[hf.Context], Awaitable[Any]]
ANY_CRASH = ("after:step 1", "during:step 2", "before:step 3", "after:step 4")

pytestmark = KITS_OWN_WARNINGS


def served(run: Run) -> hf.App:
    service = hf.Service("Agent")

    @service.handler(retry=hf.RetryPolicy(max_attempts=3, on_max_attempts="kill"))
    async def handle(ctx: hf.Context) -> Any:
        return await run(ctx)

    return hf.App(service)


async def outcome(run: Run, *, crash: str | None = None, replay: bool = True) -> Any:
    async with environment(served(run), always_replay=replay and crash is None) as env:
        if crash is not None:
            env.crash_at(crash)
        return await env.client.call("Agent/handle")


def call_then_repeat(*calls: ToolCall) -> list[TurnSpec]:
    return [Turn(tool_calls=calls), lambda request: ", ".join(request.tool_outputs)]


async def test_the_retries_of_the_client_are_off(gemini: MakeGemini) -> None:
    turn = Turn(text="Done.", faults=(Fault(status=500), Fault(status=429, retry_after_s=1)))
    with ScriptedModel({"m": [turn]}) as model:
        own = gemini(model, "m")
        own.retry_options = types.HttpRetryOptions(attempts=4, initial_delay=0.001)
        runner = make_runner(LlmAgent(name="a", model=own))
        assert await outcome(lambda ctx: ask(runner, "go"), crash="before:step 1") == "Done."
        assert len(model.calls("m")) == 3


async def test_a_refused_request_ends_the_run(gemini: MakeGemini) -> None:
    with ScriptedModel() as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m")))
        with pytest.raises(hf.TerminalError, match="has no scenario"):
            await outcome(lambda ctx: ask(runner, "go"), replay=False)


async def test_what_a_tool_does_to_the_run_is_recorded(gemini: MakeGemini) -> None:
    ran: list[str] = []

    def note(text: str, tool_context: ToolContext) -> dict[str, str]:
        """Take a note."""
        ran.append(text)
        tool_context.state["note"] = text
        tool_context.state["temp:draft"] = True
        tool_context.actions.skip_summarization = True
        return {"noted": text}

    with ScriptedModel({"m": [Turn(tool_calls=(ToolCall("note", {"text": "x"}),))]}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m"), tools=[note]))

        async def run(ctx: hf.Context) -> Any:
            await ask(runner, "go", "one")
            session: Any = await runner.session_service.get_session(
                app_name="tests", user_id="ada", session_id="one"
            )
            return [session.state, len(session.events)]

        assert await outcome(run) == [{"note": "x"}, 3]
        assert await outcome(run, crash="after:step 2") == [{"note": "x"}, 3]
        assert ran == ["x", "x"], "once in each run"
        assert len(model.calls("m")) == 2


async def test_a_tool_gets_the_durable_context(gemini: MakeGemini) -> None:
    charged: list[int] = []

    async def pay(amount: int) -> str:
        """Pay."""
        await hf.current().sleep(3600)
        await hf.current().run("charge", charged.append, amount)
        return f"paid {amount}"

    turns = call_then_repeat(ToolCall("pay", {"amount": 5}))
    with ScriptedModel({"m": turns}) as model:
        options = Options(tools={"pay": ToolOptions(mode="scoped")})
        agent = LlmAgent(name="a", model=gemini(model, "m"), tools=[pay])
        runner = make_runner(agent, options=options)
        assert "paid 5" in await outcome(lambda ctx: ask(runner, "go"))
        assert charged == [5]


class TooExpensive(Exception):
    """What a tool raises."""


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [("feed", TooExpensive), ("fail", TooExpensive), ("stop", LoopStopped)],
)
async def test_what_a_tool_raises(
    gemini: MakeGemini, on_error: Any, expected: type[Exception]
) -> None:
    handled: list[str] = []

    class Watch(BasePlugin):
        async def on_tool_error_callback(self, *, error: Exception, **_: Any) -> None:
            handled.append(type(error).__name__)

    def pay() -> str:
        """Pay."""
        raise TooExpensive("no money")

    with ScriptedModel({"m": call_then_repeat(ToolCall("pay"))}) as model:
        agent = LlmAgent(name="a", model=gemini(model, "m"), tools=[pay])
        runner = make_runner(agent, Watch("watch"))

        async def run(ctx: hf.Context) -> str:
            payer = agent_scope("payer", Options(on_tool_error=on_error))
            with pytest.raises(expected, match="no money"), payer:
                await ask(runner, "go")
            return "raised"

        assert await outcome(run) == "raised"
        # Only what is fed back is the kit's to handle.
        assert set(handled) == ({"TooExpensive"} if on_error == "feed" else set())


async def test_callbacks_and_plugins_see_everything(gemini: MakeGemini) -> None:
    seen: list[str] = []

    class Watch(BasePlugin):
        async def before_model_callback(self, **_: Any) -> None:
            seen.append("plugin before model")

        async def after_tool_callback(self, *, result: Any, **_: Any) -> dict[str, Any]:
            seen.append("plugin after tool")
            return {"result": f"{result} and more"}

    def before_model(callback_context: Any, llm_request: Any) -> None:
        llm_request.config.temperature = 0.5
        seen.append("before model")

    def before_tool(tool: Any, args: dict[str, Any], tool_context: Any) -> None:
        assert isinstance(tool, FunctionTool)
        args["what"] += "!"

    async def look(what: str) -> str:
        """Look."""
        return f"seen {what}"

    turns = call_then_repeat(ToolCall("look", {"what": "Rome"}))
    with ScriptedModel({"m": turns}) as model:
        agent = LlmAgent(
            name="a",
            model=gemini(model, "m"),
            tools=[look],
            before_model_callback=before_model,
            before_tool_callback=before_tool,
        )
        runner = make_runner(agent, Watch("watch"))
        answer = await outcome(lambda ctx: ask(runner, "go"), replay=False)
        assert "seen Rome! and more" in answer
        assert model.calls("m")[0].body["generationConfig"]["temperature"] == 0.5
        assert seen == [
            *("plugin before model", "before model", "plugin after tool"),
            *("plugin before model", "before model"),
        ]


async def test_an_agent_hands_over_to_another(gemini: MakeGemini) -> None:
    turns: dict[str, list[TurnSpec]] = {
        "m": [Turn(tool_calls=(ToolCall("transfer_to_agent", {"agent_name": "booker"}),))],
        "n": ["Booked."],
    }
    with ScriptedModel(turns) as model:
        booker = LlmAgent(name="booker", model=gemini(model, "n"), description="Books.")
        first = LlmAgent(name="first", model=gemini(model, "m"), sub_agents=[booker])
        runner = make_runner(first)
        for crash in (None, "after:step 2", "during:step 3"):
            assert await outcome(lambda ctx: ask(runner, "go"), crash=crash) == "Booked."
        assert len(model.calls("m")) == 3


async def test_an_agent_as_a_tool(gemini: MakeGemini) -> None:
    scenario: dict[str, list[TurnSpec]] = {
        "m": call_then_repeat(
            ToolCall("expert", {"request": "Rome?"}), ToolCall("expert", {"request": "Oslo?"})
        ),
        "e": [lambda request: f"expertise on {request.prompt}"],
    }
    with ScriptedModel(scenario) as model:
        expert = LlmAgent(name="expert", model=gemini(model, "e"), description="Knows.")
        runner = make_runner(
            LlmAgent(name="a", model=gemini(model, "m"), tools=[AgentTool(expert)])
        )
        for crash in (None, *ANY_CRASH):
            answer = await outcome(lambda ctx: ask(runner, "go"), crash=crash)
            assert "expertise on Rome?" in answer
            assert "expertise on Oslo?" in answer


async def test_parallel_agents_replay_right(gemini: MakeGemini) -> None:
    ran: list[str] = []

    async def look(what: str) -> str:
        """Look."""
        ran.append(what)
        return f"seen {what}"

    cities = [f"city{number}" for number in range(5)]
    scenario: dict[str, list[TurnSpec]] = {
        city: [
            Turn(tool_calls=(ToolCall("look", {"what": city}),), delay_s=0.002 * (number % 3)),
            f"{city} is fine",
        ]
        for number, city in enumerate(cities)
    }
    scenario["sum"] = [lambda request: "all fine"]
    with ScriptedModel(scenario) as model:
        writers = [
            LlmAgent(name=city, model=gemini(model, city), tools=[look], output_key=city)
            for city in cities
        ]
        together = ParallelAgent(name="together", sub_agents=writers)
        last = LlmAgent(name="last", model=gemini(model, "sum"), instruction="Sum {city1} up.")
        runner = make_runner(SequentialAgent(name="root", sub_agents=[together, last]))
        for crash in ("after:step 2", "during:step 7", "before:step 11", "after:step 15"):
            ran.clear()
            assert await outcome(lambda ctx: ask(runner, "go"), crash=crash) == "all fine"
            assert set(ran) == set(cities)
            # A call whose result was lost is made again, no other.
            assert len(ran) <= len(cities) + len(cities) - 1
        assert "city1 is fine" in str(model.calls("sum")[-1].body["systemInstruction"])


async def test_a_streamed_answer_is_shown_once(gemini: MakeGemini) -> None:
    with ScriptedModel({"m": ["One two three four."]}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m")))
        config = RunConfig(streaming_mode=StreamingMode.SSE)

        async def run(ctx: hf.Context) -> str:
            return await ask(runner, "go", run_config=config)

        async with environment(served(run)) as env:
            env.crash_at("after:step 1")
            sent = await env.client.send("Agent/handle")
            assert await env.client.attach(sent.invocation_id) == "One two three four."
            assert await shown_text(env, sent.invocation_id) == "One two three four."
        assert len(model.calls("m")) == 1


async def test_ids_and_times_are_the_same_at_replay(gemini: MakeGemini) -> None:
    seen: list[Any] = []

    def look() -> str:
        """Look."""
        return "seen"

    with ScriptedModel({"m": call_then_repeat(ToolCall("look"))}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m"), tools=[look]))

        async def run(ctx: hf.Context) -> Any:
            who: Any = {"app_name": "tests", "user_id": "ada"}
            session = await runner.session_service.create_session(**who)
            message = types.Content(role="user", parts=[types.Part(text="go")])
            async for _ in runner.run_async(
                user_id="ada", session_id=session.id, new_message=message
            ):
                continue
            events = (await runner.session_service.get_session(**who, session_id=session.id)).events
            found = [[e.id, e.invocation_id, e.timestamp] for e in events]
            seen.append(found)
            return await ctx.run("end", lambda: found)

        await outcome(run)
        assert len(seen) > 1
        assert all(found == seen[0] for found in seen)


async def test_a_session_lives_in_the_state_of_an_object(gemini: MakeGemini) -> None:
    chat = hf.VirtualObject("Chat")
    said: list[TurnSpec] = [
        "Hello Ada.",
        lambda request: f"You said {len(request.body['contents'])}.",
    ]
    with ScriptedModel({"m": said}) as model:
        agent = LlmAgent(name="a", model=gemini(model, "m"), output_key="user:last")
        runner = make_runner(agent)

        @chat.handler
        async def say(ctx: hf.ObjectContext, text: str) -> str:
            return await ask(runner, text, "talk")

        @chat.handler
        async def end(ctx: hf.ObjectContext) -> Any:
            who: Any = {"app_name": "tests", "user_id": "ada"}
            found = await runner.session_service.list_sessions(**who)
            await runner.session_service.delete_session(**who, session_id="talk")
            session = await runner.session_service.get_session(**who, session_id="talk")
            return [[one.id for one in found.sessions], found.sessions[0].state, session is None]

        async with environment(hf.App(chat)) as env:
            env.crash_at("after:step 1")
            assert await env.client.call("Chat/say", "I am Ada", key="k") == "Hello Ada."
            assert await env.client.call("Chat/say", "And now?", key="k") == "You said 3."
            state = {"user:last": "You said 3."}
            assert await env.client.call("Chat/end", key="k") == [["talk"], state, True]
        assert len(model.calls("m")) == 2


async def test_outside_of_a_handler_it_says_that_nothing_is_durable(
    gemini: MakeGemini, caplog: pytest.LogCaptureFixture
) -> None:
    def look() -> str:
        """Look."""
        return "seen"

    with ScriptedModel({"m": call_then_repeat(ToolCall("look"))}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m"), tools=[look]))
        assert "seen" in await ask(runner, "go")
    said = [one.getMessage() for one in caplog.records if one.name == "holdfast.ai"]
    names = [text.partition(" runs outside")[0] for text in said]
    assert names == ["a call of ScriptedGemini", "tool 'look'"]


async def test_what_a_tool_returns_must_have_a_json_form(gemini: MakeGemini) -> None:
    def look() -> object:
        """Look."""
        return object()

    with ScriptedModel({"m": call_then_repeat(ToolCall("look"))}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m"), tools=[look]))
        with pytest.raises(hf.TerminalError, match="HF0620"):
            await outcome(lambda ctx: ask(runner, "go"), replay=False)


async def test_media_of_a_tool_is_recorded(gemini: MakeGemini) -> None:
    def draw() -> list[Any]:
        """Draw."""
        return ["a circle", types.Part.from_bytes(data=b"\xff\x00\xfe", mime_type="image/png")]

    turns: list[TurnSpec] = [Turn(tool_calls=(ToolCall("draw"),)), "Done."]
    with ScriptedModel({"m": turns}) as model:
        runner = make_runner(LlmAgent(name="a", model=gemini(model, "m"), tools=[draw]))
        assert await outcome(lambda ctx: ask(runner, "go"), crash="after:step 2") == "Done."
        assert "image/png" in str(model.calls("m")[-1].body)


def test_an_answer_keeps_its_bytes() -> None:
    part = types.Part(text="so", thought=True, thought_signature=b"\xff\x00\xfe\x80")
    response = LlmResponse(content=types.Content(role="model", parts=[part]))
    assert decode_response(encode_response(response)) == response


def test_one_plugin_may_have_another_name() -> None:
    assert [Durable().name, Durable(name="second").name] == ["holdfast", "second"]
