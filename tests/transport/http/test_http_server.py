"""A whole server and its connections to an endpoint; what is said on them is in `test_wire_*`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import scripted_endpoint
from wire_harness import OK, Attempt, Mode, Wire, wired


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with wired(Mode(7), tmp_path) as wire:
        yield wire


def stream_of(attempt: Attempt) -> scripted_endpoint.Exchange:
    assert isinstance(attempt.exchange, scripted_endpoint.Exchange)
    return attempt.exchange


async def test_a_killed_invocation_resets_its_exchange(wire: Wire) -> None:
    invocation_id, attempt = await wire.begun()
    await wire.host.kill(invocation_id)
    await attempt.until_given_up()
    assert stream_of(attempt).reset_code == 8


async def test_stopping_the_server_resets_what_is_open(wire: Wire) -> None:
    _, attempt = await wire.begun()
    await wire.host.stop()
    await attempt.until_given_up()


async def test_a_hundred_attempts_at_once(wire: Wire) -> None:
    ids = [await wire.send() for _ in range(150)]
    attempts = [await wire.attempt(invocation_id) for invocation_id in ids]
    assert len({id(stream_of(attempt).connection) for attempt in attempts}) == 2
    for attempt in attempts:
        attempt.finish()
    for invocation_id in ids:
        assert await wire.outcome(invocation_id) == OK.result
