"""What is not durable says so, once."""

from __future__ import annotations

import logging

import pytest

import holdfast as hf
from holdfast.ai import guard
from holdfast.testing import environment


def test_outside_it_is_said_once_for_each_thing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "holdfast.ai"):
        for what in ("Agent a", "Agent b", "Agent a"):
            assert guard.warn_if_outside(what)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert said[0].startswith("Agent a runs outside of a durable handler")


async def test_inside_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    service = hf.Service("Quiet")

    @service.handler
    async def go(ctx: hf.Context) -> list[bool]:
        here = guard.warn_if_outside("it")
        return [here, await ctx.run("step", guard.warn_if_outside, "it")]

    async with environment(hf.App(service)) as env:
        with caplog.at_level(logging.WARNING, "holdfast.ai"):
            assert await env.client.call(go) == [False, False]
    assert not [record for record in caplog.records if record.name == "holdfast.ai"]
