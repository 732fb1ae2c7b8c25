"""One agent, written for each client: three turns, two of them with two parallel tools.

The tools have several steps of their own. What the bodies of steps do is counted in `ran`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types

import holdfast as hf
from holdfast import ai
from holdfast.testing.scripted_model import ModelRequest, ScriptedModel, ToolCall, Turn

ran: Counter[str] = Counter()
"""How often the body of each step of the tools has run."""

CITIES = ("Oslo", "Rome")
RETRY = hf.RetryPolicy(initial_interval=0.001, max_interval=0.001, max_attempts=None)


def summary(request: ModelRequest) -> str:
    return " | ".join(sorted(request.tool_outputs))


SCENARIO: list[Any] = [
    Turn(text="Let me look.", tool_calls=tuple(ToolCall("weather", {"city": c}) for c in CITIES)),
    Turn(tool_calls=tuple(ToolCall("hotel", {"city": c}) for c in CITIES)),
    summary,
]
ANSWER = "hotel in Oslo with 3 rooms | hotel in Rome with 3 rooms"
MODEL_CALLS = 3


async def look(what: str) -> int:
    ran[what] += 1
    if "LEDGER" in os.environ:
        # In a worker that is killed: written at once, and in one go.
        file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{what}\n".encode())
        os.close(file)
    # Several turns of the loop, so that parallel tools interleave.
    for _ in range(len(what) % 3):
        await asyncio.sleep(0)
    return 3


async def weather(city: str) -> str:
    """Tell the weather."""
    ctx = hf.current()
    degrees = await ctx.run("measure", look, f"weather {city}")
    wind = await ctx.run("measure", look, f"wind {city}")
    return f"{degrees} degrees and wind {wind} in {city}"


async def hotel(city: str) -> str:
    """Find a hotel."""
    rooms = await hf.current().run("search", look, f"hotel {city}")
    return f"hotel in {city} with {rooms} rooms"


TOOLS: dict[str, Callable[..., Awaitable[str]]] = {"weather": weather, "hotel": hotel}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCOPED = ai.Options(tool_mode="scoped")


async def _tool(name: str, call_id: str, arguments: dict[str, Any]) -> str:
    return await ai.durable_tool_call(name, call_id, TOOLS[name], arguments)


async def openai_chat(url: str, *, stream: bool = False) -> str:
    tools: Any = [
        {"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in TOOLS
    ]
    messages: list[Any] = [{"role": "user", "content": "Where shall I stay?"}]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        with ai.agent_scope("trip", SCOPED):
            while True:
                chat = client.chat.completions
                if stream:
                    async with chat.stream(model="trip", messages=messages, tools=tools) as events:
                        async for _ in events:
                            continue
                        answer = await events.get_final_completion()
                else:
                    answer = await chat.create(model="trip", messages=messages, tools=tools)
                message = answer.choices[0].message
                if not message.tool_calls:
                    return message.content or ""
                messages.append(message.to_dict())
                outputs = await asyncio.gather(
                    *(
                        _tool(c.function.name, c.id, json.loads(c.function.arguments))
                        for c in message.tool_calls
                    )
                )
                messages += [
                    {"role": "tool", "tool_call_id": call.id, "content": output}
                    for call, output in zip(message.tool_calls, outputs, strict=True)
                ]


async def openai_chat_stream(url: str) -> str:
    return await openai_chat(url, stream=True)


async def openai_responses(url: str, *, stream: bool = False) -> str:
    tools: Any = [{"type": "function", "name": n, "parameters": SCHEMA} for n in TOOLS]
    items: list[Any] = [{"role": "user", "content": "Where shall I stay?"}]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        with ai.agent_scope("trip", SCOPED):
            while True:
                if stream:
                    async with client.responses.stream(
                        model="trip", input=items, tools=tools
                    ) as events:
                        answer: Any = await events.get_final_response()
                else:
                    answer = await client.responses.create(model="trip", input=items, tools=tools)
                calls = [item for item in answer.output if item.type == "function_call"]
                if not calls:
                    return str(answer.output_text)
                items += [item.to_dict() for item in answer.output]
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(_tool(c.name, c.call_id, json.loads(c.arguments)))
                        for c in calls
                    ]
                items += [
                    {"type": "function_call_output", "call_id": c.call_id, "output": task.result()}
                    for c, task in zip(calls, tasks, strict=True)
                ]


async def openai_responses_stream(url: str) -> str:
    return await openai_responses(url, stream=True)


async def anthropic_messages(url: str, *, stream: bool = False) -> str:
    tools: Any = [{"name": n, "description": n, "input_schema": SCHEMA} for n in TOOLS]
    messages: list[Any] = [{"role": "user", "content": "Where shall I stay?"}]
    asked: Any = {"model": "trip", "max_tokens": 100, "tools": tools}
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any") as client:
        with ai.agent_scope("trip", SCOPED):
            while True:
                if stream:
                    async with client.messages.stream(messages=messages, **asked) as events:
                        message: Any = await events.get_final_message()
                else:
                    message = await client.messages.create(messages=messages, **asked)
                calls = [block for block in message.content if block.type == "tool_use"]
                if not calls:
                    return str(message.content[0].text)
                content = [block.to_dict() for block in message.content]
                messages.append({"role": "assistant", "content": content})
                outputs = await asyncio.gather(*(_tool(c.name, c.id, c.input) for c in calls))
                results = [
                    {"type": "tool_result", "tool_use_id": call.id, "content": output}
                    for call, output in zip(calls, outputs, strict=True)
                ]
                messages.append({"role": "user", "content": results})


async def anthropic_messages_stream(url: str) -> str:
    return await anthropic_messages(url, stream=True)


async def anthropic_tool_runner(url: str) -> str:
    async with anthropic.AsyncAnthropic(base_url=url, api_key="any") as client:
        runner = client.beta.messages.tool_runner(
            model="trip",
            max_tokens=100,
            messages=[{"role": "user", "content": "Where shall I stay?"}],
            tools=[anthropic.beta_async_tool(weather), anthropic.beta_async_tool(hotel)],
        )
        message: Any = await runner.until_done()
    return str(message.content[0].text)


async def google_genai(url: str) -> str:
    options = types.HttpOptions(base_url=url)
    client = genai.Client(api_key="any", http_options=options)
    try:
        chat = client.aio.chats.create(
            model="trip", config=types.GenerateContentConfig(tools=[weather, hotel])
        )
        answer = await chat.send_message("Where shall I stay?")
    finally:
        await client.aio.aclose()
    return answer.text or ""


async def google_genai_stream(url: str) -> str:
    options = types.HttpOptions(base_url=url)
    client = genai.Client(api_key="any", http_options=options)
    try:
        chat = client.aio.chats.create(
            model="trip", config=types.GenerateContentConfig(tools=[weather, hotel])
        )
        texts = [
            "".join(part.text or "" for part in chunk.candidates[0].content.parts)
            async for chunk in await chat.send_message_stream("Where shall I stay?")
            if chunk.candidates and chunk.candidates[0].content
            if chunk.candidates[0].content.parts
        ]
    finally:
        await client.aio.aclose()
    return "".join(texts).removeprefix("Let me look.")


async def litellm_completion(url: str) -> str:
    import litellm

    tools = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in TOOLS]
    messages: list[Any] = [{"role": "user", "content": "Where shall I stay?"}]
    with ai.agent_scope("trip", SCOPED):
        while True:
            answer: Any = await litellm.acompletion(
                model="openai/trip",
                api_base=f"{url}/v1",
                api_key="any",
                messages=messages,
                tools=tools,
            )
            message = answer.choices[0].message
            if not message.tool_calls:
                return str(message.content)
            messages.append(message.model_dump())
            outputs = await asyncio.gather(
                *(
                    _tool(c.function.name, c.id, json.loads(c.function.arguments))
                    for c in message.tool_calls
                )
            )
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": output}
                for call, output in zip(message.tool_calls, outputs, strict=True)
            ]


CLIENTS: list[Callable[[str], Awaitable[str]]] = [
    openai_chat,
    openai_chat_stream,
    openai_responses,
    openai_responses_stream,
    anthropic_messages,
    anthropic_messages_stream,
    anthropic_tool_runner,
    google_genai,
    google_genai_stream,
    litellm_completion,
]


def app_of(client: Callable[[str], Awaitable[str]]) -> hf.App:
    """Return an app whose only handler runs the agent against a model at an address."""
    service = hf.Service("Trip", retry=RETRY)

    @service.handler
    async def run(ctx: hf.Context, url: str) -> str:
        return await client(url)

    return hf.App(service)


def trip_model() -> ScriptedModel:
    return ScriptedModel({"trip": SCENARIO})
