"""Messages between partitions: in order, none lost, also when one cannot be applied."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from holdfast.domain.ids import key_partition_key, partition_of
from holdfast.domain.message import OneWayCall
from holdfast.engine.apply import apply
from holdfast.engine.decision import Answer, Reply
from holdfast.engine.record import Inbound, Invoke, KillRequested, Record
from holdfast.engine.view import Draft
from holdfast.server.outbox import Outbox
from tests.server.harness import CountingStore, ScriptedPort, hosting, request, until


def is_poison(record: Record) -> bool:
    match record:
        case Inbound(message=Invoke(parameter=b"poison")):
            return True
        case _:
            return False


async def test_a_message_that_cannot_be_applied_waits_and_loses_none_behind_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_mended = False
    refused: list[Record] = []

    def failing_apply(view: Any, record: Record, stamp: Any) -> Draft:
        if is_poison(record) and not is_mended:
            refused.append(record)
            raise AssertionError("rows contradict each other")
        return apply(view, record, stamp)

    monkeypatch.setattr("holdfast.server.partition.apply", failing_apply)
    monkeypatch.setattr("holdfast.server.outbox._RETRY_S", 0.001)
    monkeypatch.setattr("holdfast.server.outbox._REFUSED_RETRY_S_MAX", 0.01)
    store, port = CountingStore(partition_count=2), ScriptedPort()
    key = {partition_of(key_partition_key(str(n)), 2): str(n) for n in range(50)}
    async with hosting(store, port) as host:
        await host.send(request(host, key[0]))
        await until(lambda: port.attempts)
        bodies = [b"before", b"poison", b"behind", b"last"]
        port.attempts[0].say(
            *(
                OneWayCall("Box", "put", body, key[1], (), None, 0, number)
                for number, body in enumerate(bodies, 1)
            )
        )
        await until(lambda: len(refused) > 6)
        assert len(port.attempts) == 2
        assert host.health()["messages_refused"] == 1
        assert host.health()["messages_waiting"] == 3
        is_mended = True
        for number in range(1, 5):
            await until(lambda n=number: len(port.attempts) > n)
            [entry] = port.attempts[number].entries
            assert getattr(entry, "value").content == bodies[number - 1]  # noqa: B009
            port.attempts[number].finish()
        assert host.health()["messages_refused"] == host.health()["messages_waiting"] == 0
    told = [r for r in caplog.records if r.levelno == logging.ERROR and "HF2036" in r.getMessage()]
    assert "message 2 of partition 0, a Invoke for inv_" in told[0].getMessage()


async def test_only_what_was_answered_counts_as_taken_in() -> None:
    replies = [Reply.ACCEPTED, Reply.CONFLICT, Reply.ACCEPTED]

    class Receiver:
        def propose(self, record: Inbound) -> asyncio.Future[Answer]:
            answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            answer.set_result(Answer(replies[record.sequence - 1]))
            return answer

    receiver: Any = Receiver()
    outbox = Outbox(receiver, CountingStore(), lambda _: receiver)
    receiver.index = 0
    messages = [(number, KillRequested("inv")) for number in (1, 2, 3)]
    count, error = await outbox._send(1, messages)
    assert count == 1
    assert "not taken in" in str(error)
