"""Streams read with the Vercel AI SDK: its transport, its parser and its messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import holdfast as hf
from holdfast.chunk import Custom, Reasoning, ToolCall, ToolCallDelta, ToolResult
from holdfast.server.app import Server
from holdfast.server.config import ServerConfig
from holdfast.transport.inprocess import InProcessPort
from tests.compat.node_process import SOURCES, node_modules
from tests.compat.npm import NotThere

chat = hf.Service("Chat", retry=hf.RetryPolicy(initial_interval=0.01))
tries = 0


@chat.handler
async def answer(ctx: hf.Context, prompt: str) -> str:
    async def think() -> None:
        for part in ("It asks ", "for the sky."):
            hf.emit(Reasoning(part))
        hf.emit(ToolCallDelta("c1", "weather", '{"city":'))
        hf.emit(ToolCallDelta("c1", "weather", '"Paris"}'))
        hf.emit(ToolCall("c1", "weather", {"city": "Paris"}))

    async def tool() -> dict[str, str]:
        result = {"sky": "blue"}
        hf.emit(ToolResult("c1", result))
        return result

    async def speak() -> str:
        for word in ("The ", "sky ", "is ", "blue."):
            hf.emit(word)
        hf.emit(Custom("sources", ["weather"]))
        return "The sky is blue."

    await ctx.run("think", think)
    await ctx.run("weather", tool)
    return f"{prompt}: {await ctx.run('speak', speak)}"


@chat.handler
async def stumble(ctx: hf.Context, prompt: str) -> str:
    """The second step is lost in the middle, and says something else the second time."""

    async def speak() -> str:
        global tries
        tries += 1
        for word in ("Once ", "upon "):
            await hf.emit(f"{word}({tries}) ")
        # Readers have it before it is lost.
        await asyncio.sleep(0.05)
        if tries == 1:
            raise ConnectionError("the model has gone")
        hf.emit("a time.")
        return "done"

    ctx.emit("Listen: ")
    return await ctx.run("speak", speak)


@chat.handler
async def fail(ctx: hf.Context, prompt: str) -> str:
    ctx.emit("Well, ")
    raise hf.TerminalError("no idea")


@contextlib.asynccontextmanager
async def serving(folder: Path) -> AsyncGenerator[Server]:
    config = ServerConfig(
        store=f"sqlite:{folder / 'h.db'}", ingress="127.0.0.1:0", admin="127.0.0.1:0"
    )
    async with Server(config) as server:
        await server.host.attach_worker(InProcessPort(hf.App(chat)))
        yield server


async def read(folder: Path, *arguments: str) -> tuple[list[Any], Any]:
    """Read a stream in a Node process; return all states of the message, and how it ended."""
    try:
        modules = node_modules()
    except NotThere as why:
        pytest.skip(f"no Vercel AI SDK: {why}")
    home = folder / "node"
    if not home.exists():
        home.mkdir()
        shutil.copy(SOURCES / "read-stream.mjs", home)
        (home / "node_modules").symlink_to(modules)
    process = await asyncio.create_subprocess_exec(
        "node", "read-stream.mjs", *arguments, cwd=home, stdout=-1, stderr=-1
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    *states, end = (json.loads(line) for line in out.splitlines())
    return [state["state"] for state in states], end


def shown(message: Any) -> list[str]:
    """Return the texts that a user interface shows."""
    return [part["text"] for part in message["parts"] if part["type"] == "text"]


async def test_messages_with_reasoning_tools_and_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        url = f"{server.ingress_url}/holdfast/v1/stream/Chat/answer?format=ai-sdk"
        states, end = await read(tmp_path, "send", url, "Sky?")
    assert end["errors"] == []
    message = end["message"]
    assert message["role"] == "assistant"
    assert message["id"].startswith("inv_")
    assert message["metadata"] == {"result": "Sky?: The sky is blue."}
    parts = {part["type"]: part for part in message["parts"]}
    assert parts["reasoning"]["text"] == "It asks for the sky."
    tool = parts["dynamic-tool"]
    assert (tool["toolName"], tool["state"]) == ("weather", "output-available")
    assert (tool["input"], tool["output"]) == ({"city": "Paris"}, {"sky": "blue"})
    assert (parts["text"]["text"], parts["text"]["state"]) == ("The sky is blue.", "done")
    assert parts["data-sources"]["data"] == ["weather"]
    assert len(states) > 5, "it came bit by bit"


async def test_nobody_sees_lost_text_beside_the_new(tmp_path: Path) -> None:
    global tries
    tries = 0
    async with serving(tmp_path) as server:
        url = f"{server.ingress_url}/holdfast/v1/stream/Chat/stumble?format=ai-sdk"
        states, end = await read(tmp_path, "send", url, "Go")
        assert end["errors"] == []
        assert shown(end["message"]) == ["Listen: ", "Once (2) upon (2) a time."]
        assert any("(1)" in "".join(shown(state)) for state in states)
        for state in states:
            text = "".join(shown(state))
            assert not ("(1)" in text and "(2)" in text), state
        # Someone who reloads the page gets the whole message once more, and no lost text at all.
        again = f"{server.ingress_url}/holdfast/v1/invocations/{end['message']['id']}/stream"
        states, end = await read(tmp_path, "resume", f"{again}?format=ai-sdk")
        assert shown(end["message"]) == ["Listen: ", "Once (2) upon (2) a time."]
        assert not any("(1)" in "".join(shown(state)) for state in states)


async def test_a_failure_is_an_error_of_the_chat(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        url = f"{server.ingress_url}/holdfast/v1/stream/Chat/fail?format=ai-sdk"
        _, end = await read(tmp_path, "send", url, "Go")
    assert end["errors"] == ["Error: no idea"]
    assert shown(end["message"]) == ["Well, "]
