"""Tests of `approval.py`: days pass in milliseconds, and the process dies where it hurts.

Run them, where pytest and pytest-asyncio are installed:

    python -m pytest -o asyncio_mode=auto examples/test_approval.py
"""

import pytest
from approval import Claim, app, claim

import holdfast as hf


@pytest.mark.parametrize(
    "point", ["before:approve", "during:tell manager", "after:step", "before:pay"]
)
async def test_a_claim_is_paid_through_any_crash(holdfast_env, point: str) -> None:
    async with holdfast_env(app) as env:
        env.crash_at(point)
        sent = await env.client.send(claim, Claim("Ada", 120))
        await env.advance(3 * 24 * 3600)  # nobody decides for three days
        [approval] = await env.approvals()
        await env.decide(approval.id, True, arguments={"euros": 100}, by="Grace")
        assert await env.client.attach(sent.invocation_id, type=str) == "Ada gets 100.00 euros"
        assert await env.steps(sent.invocation_id) == ["tell manager", "pay"]
        assert env.crashes


async def test_who_is_not_answered_gets_nothing(holdfast_env) -> None:
    async with holdfast_env(app) as env:
        assert await env.client.call(claim, Claim("Ada", 120)) == "Ada gets nothing"


async def test_the_handler_is_deterministic(holdfast_env) -> None:
    async with holdfast_env(app, always_replay=True, strict=True) as env:
        sent = await env.client.send(claim, Claim("Grace", 5))
        await env.settle()
        recording = await env.recording(sent.invocation_id)
        [approval] = await env.approvals()
        await env.decide(approval.id, False)
        assert await env.client.attach(sent.invocation_id, type=str) == "Grace gets nothing"
    report = await hf.testing.replay(recording, app)
    assert report.is_ok, report
