"""Ids and times for frameworks."""

from __future__ import annotations

import asyncio
from typing import Any

import holdfast as hf
from holdfast.ai import guard, ids
from holdfast.testing import environment

seen: list[list[Any]] = []


async def test_the_same_at_replay() -> None:
    seen.clear()
    service = hf.Service("Ids")

    async def in_a_step() -> list[str]:
        assert guard.whereabouts() == "step"
        return [ids.new_id("run_"), str(ids.new_uuid())]

    def in_a_thread() -> str:
        assert guard.whereabouts() == "thread"
        return ids.new_id()

    @service.handler
    async def go(ctx: hf.Context) -> list[str]:
        assert guard.whereabouts() == "handler"
        made = [ids.new_id("msg_"), str(ids.new_uuid()), ids.now().isoformat()]
        made += await ctx.run("step", in_a_step)
        assert len(await asyncio.to_thread(in_a_thread)) == 32
        seen.append(made)
        return made

    async with environment(hf.App(service)) as env:
        env.crash_at("before:output")
        made = await env.client.call(go)
    assert seen == [made, made]
    assert made[0].startswith("msg_")
    assert len(set(made)) == 5


def test_outside_of_handlers_they_are_real() -> None:
    assert guard.whereabouts() == "outside"
    assert ids.new_id() != ids.new_id()
    assert ids.new_uuid().version == 4
    assert ids.now().tzinfo is not None
