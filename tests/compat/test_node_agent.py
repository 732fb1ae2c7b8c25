"""Agents of the Vercel AI SDK behind a Holdfast server: no answer is asked for twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("pyqwest")

from holdfast.testing.scripted_model import ScriptedModel, ToolCall, Turn
from tests.compat.front_door import FrontDoor, front_door, until
from tests.compat.node_process import NodeProcess
from tests.compat.npm import NotThere
from tests.e2e.harness import Holdfast

SCENARIOS = {
    "refund": [
        Turn(tool_calls=tuple(ToolCall("lookUp", {"order": each}) for each in "ABC")),
        Turn(tool_calls=(ToolCall("askPerson", {"amount": 30}),)),
        "Refunded.",
    ],
    "chat": ["Hello Ada.", "Your name is Ada."],
}


class Stage(NamedTuple):
    """Everything that runs."""

    holdfast: Holdfast
    door: FrontDoor
    node: NodeProcess
    model: ScriptedModel

    async def kill(self, victim: str) -> None:
        """Kill a process and start it again."""
        if victim in ("handlers", "both"):
            self.node.kill()
        if victim in ("server", "both"):
            self.holdfast.current("server").kill()
            await asyncio.to_thread(self.holdfast.server().until, "Ready")
        if victim in ("handlers", "both"):
            await asyncio.to_thread(self.node.start)


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    with contextlib.ExitStack() as stack:
        model = stack.enter_context(ScriptedModel(SCENARIOS))
        try:
            node = NodeProcess("agent.mjs", folder, {"MODEL_URL": model.url})
        except NotThere as why:
            pytest.skip(f"no Vercel AI SDK: {why}")
        stack.enter_context(node)
        holdfast = stack.enter_context(Holdfast(folder, ""))
        await asyncio.to_thread(holdfast.server().until, "Ready")
        async with front_door(f"http://{holdfast.ingress}", f"http://{holdfast.admin}") as door:
            await door.register(node.uri)
            yield Stage(holdfast, door, node, model)


@pytest.mark.parametrize(
    ("api", "victim"),
    [
        ("responses", "both"),
        pytest.param("responses", "handlers", marks=pytest.mark.nightly),
        pytest.param("responses", "server", marks=pytest.mark.nightly),
        pytest.param("chat", "both", marks=pytest.mark.nightly),
    ],
)
async def test_an_approval_outlives_a_kill(tmp_path: Path, api: str, victim: str) -> None:
    """Three steps at once, then a person who takes longer than the processes live."""
    async with staged(tmp_path) as stage:
        asked = {"api": api, "prompt": "Refund A, B and C."}
        invocation_id = await stage.door.send("Agent/refund", asked)
        ledger = stage.node.ledger
        await until(lambda: any(line.startswith("asked 30 ") for line in ledger.lines()))
        # Asked is not yet recorded as asked.
        journal = f"{stage.door.admin}/holdfast/v1/invocations/{invocation_id}/journal"
        async with asyncio.timeout(10):
            while [
                entry["kind"] for entry in (await stage.door.ask("GET", journal)).json["entries"]
            ].count("Notification: Run") < 6:
                await asyncio.sleep(0.005)
        await stage.kill(victim)
        awakeable_id = ledger.lines()[-1].split()[-1]
        url = f"{stage.door.ingress}/restate/awakeables/{awakeable_id}/resolve"
        assert (await stage.door.ask("POST", url, "approved")).status == 202
        answer = await stage.door.attach(invocation_id)
        assert answer.json == {"text": "Refunded.", "steps": 3}
        assert len(stage.model.calls("refund")) == 3
        expected = ["looked up A", "looked up B", "looked up C", f"asked 30 {awakeable_id}"]
        assert sorted(ledger.lines()) == sorted(expected)
        assert "approved" in str(stage.model.calls("refund")[-1].body)


@pytest.mark.parametrize("api", [pytest.param("responses", marks=pytest.mark.nightly), "chat"])
async def test_a_chat_remembers(tmp_path: Path, api: str) -> None:
    """The conversation is the state of an object, and is there after a kill of all processes."""
    async with staged(tmp_path) as stage:
        said = await stage.door.call("Chat/ada/say", {"api": api, "text": "I am Ada."})
        assert said == ["Hello Ada.", 1]
        await stage.kill("both")
        said = await stage.door.call("Chat/ada/say", {"api": api, "text": "Who am I?"})
        assert said == ["Your name is Ada.", 3]
        assert len(stage.model.calls("chat")) == 2
        assert "I am Ada." in str(stage.model.calls("chat")[-1].body)
