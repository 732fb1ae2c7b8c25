"""Scopes of agents: keys, inheritance, and what ends a run."""

from __future__ import annotations

import asyncio

import pytest

import holdfast as hf
from holdfast import ai
from holdfast.ai.agent import current_options, end_run
from holdfast.sdk.interrupt import Carried
from holdfast.testing import environment


async def test_two_agents_side_by_side() -> None:
    """Their steps have keys of their own, whatever tasks their frameworks make."""
    service = hf.Service("Agents")

    async def agent(name: str, helpers: int) -> str:
        with ai.agent_scope(name):
            for _ in range(helpers):
                await asyncio.create_task(asyncio.sleep(0))
            return await hf.current().run("model call", str.upper, name)

    @service.handler
    async def go(ctx: hf.Context) -> list[str]:
        return await asyncio.gather(agent("a", 3), agent("b", 0), agent("a", 1))

    async with environment(hf.App(service)) as env:
        env.crash_at("after:step", every=True)
        sent = await env.client.send(go)
        assert await env.client.attach(sent.invocation_id, type=list[str]) == ["A", "B", "A"]
        journal = await env.journal(sent.invocation_id)
    keys = [str(entry["key"]) for entry in journal if entry["kind"] == "Command: Run"]
    assert len(keys) == 3
    assert all("agent:" in key and key.endswith("run:model call#0") for key in keys)


async def test_inner_runs_inherit() -> None:
    service = hf.Service("Agents")
    retry = hf.RetryPolicy(max_attempts=7)

    @service.handler
    async def go(ctx: hf.Context) -> list[str]:
        assert current_options() == ai.Options()
        outer = ai.Options(model_retry=retry)
        with (
            ai.agent_scope("outer", outer, conversation_id="c1") as first,
            ai.agent_scope("inner") as second,
        ):
            assert second.options is outer
            assert second.parent is first
            assert ai.current_agent() is second
            names = [second.name, second.conversation_id or ""]
        assert ai.current_agent() is None
        return names

    async with environment(hf.App(service)) as env:
        assert await env.client.call(go) == ["inner", "c1"]


async def test_what_ends_a_run_gets_through_task_groups() -> None:
    service = hf.Service("Agents")

    async def ending() -> None:
        end_run(ValueError("over"))

    async def framework() -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ending())
                group.create_task(asyncio.sleep(3600))
        except Exception:
            return "swallowed"
        return "nothing"

    @service.handler
    async def go(ctx: hf.Context) -> str:
        try:
            with ai.agent_scope("a"):
                return await framework()
        except ValueError as error:
            return str(error)

    async with environment(hf.App(service)) as env:
        assert await env.client.call(go) == "over"


def test_without_a_run_the_error_is_raised_as_it_is() -> None:
    with pytest.raises(ValueError, match="over"):
        end_run(ValueError("over"))


async def test_other_groups_are_left_alone() -> None:
    service = hf.Service("Agents")

    @service.handler
    async def go(ctx: hf.Context) -> str:
        try:
            with ai.agent_scope("a"):
                raise BaseExceptionGroup("x", [ValueError("1"), KeyboardInterrupt()])
        except BaseExceptionGroup as group:
            return str(len(group.exceptions))

    async with environment(hf.App(service)) as env:
        assert await env.client.call(go) == "2"


async def test_a_scope_needs_a_handler() -> None:
    with pytest.raises(hf.UsageError) as refused, ai.agent_scope("a"):
        pass
    assert refused.value.code == "HF0502"


def test_a_carried_error_says_what_it_carries() -> None:
    assert "ValueError: over" in str(Carried(ValueError("over")))
