from __future__ import annotations

import asyncio

import pytest

from holdfast.ingress.hangup import ClientGone
from holdfast.ingress.wait import wait_for_client
from holdfast.web.asgi import Message
from holdfast.web.problem import Refusal


class Connection:
    """A client that may disconnect."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.is_watched = asyncio.Event()

    async def receive(self) -> Message:
        self.is_watched.set()
        await self.gone.wait()
        return {"type": "http.disconnect"}


async def test_returns_the_outcome_and_leaves_nothing_behind() -> None:
    connection = Connection()
    before = asyncio.all_tasks()

    async def outcome() -> str:
        await connection.is_watched.wait()
        return "done"

    result = await wait_for_client(connection.receive, outcome(), watch_after_s=0)
    assert result == "done"
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_short_waits_are_not_watched() -> None:
    connection = Connection()

    async def outcome() -> int:
        await asyncio.sleep(0)
        return 1

    assert await wait_for_client(connection.receive, outcome(), watch_after_s=60) == 1
    assert not connection.is_watched.is_set()


async def test_ends_when_the_client_goes() -> None:
    connection = Connection()
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.gone.set()
    with pytest.raises(ClientGone):
        await wait_for_client(connection.receive, outcome, watch_after_s=0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_passes_on_what_goes_wrong() -> None:
    async def outcome() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await wait_for_client(Connection().receive, outcome())


async def test_a_cancelled_request_stays_cancelled() -> None:
    connection = Connection()
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(wait_for_client(connection.receive, outcome, watch_after_s=0))
    await connection.is_watched.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_server_that_stops_says_so() -> None:
    outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    outcome.cancel()
    with pytest.raises(Refusal, match="The server is stopping") as caught:
        await wait_for_client(Connection().receive, outcome)
    assert (caught.value.status, caught.value.code) == (503, "HF1052")
