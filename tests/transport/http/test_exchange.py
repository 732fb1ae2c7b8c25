"""An attempt whose request ends before the attempt does: silent peers, late cancellations."""

from __future__ import annotations

import pytest
from port_harness import CODEC, OK, Joined, joined, replayed

from holdfast.domain.message import (
    SIGNAL_CANCEL,
    Completion,
    End,
    Output,
    Signal,
    Value,
    Void,
)
from holdfast.transport.http import client as client_module
from holdfast.transport.http import exchange as exchange_module

CANCEL = Signal(Void(), index=SIGNAL_CANCEL)
SLEPT = Completion(0x800C, 1, Void())


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "SILENCE_TIMEOUT_S", 0.05)


async def broken_once(it: Joined) -> None:
    """Let the endpoint break a connection."""
    stream, _, exchange = await it.open()
    exchange.connection.hang_up()
    reason = await stream.reason()
    assert reason is not None
    assert "[HF1343]" in reason


@pytest.mark.usefixtures("hasty")
async def test_a_peer_that_breaks_connections_and_stays_silent_is_told_that_no_more_comes() -> None:
    async with joined() as it:
        await broken_once(it)
        stream, handler, exchange = await it.open()
        await exchange.until(lambda: exchange.has_ended)
        assert not stream.is_over
        handler.send([SLEPT])  # It waits in the journal.
        exchange.respond(200, OK)
        exchange.send(CODEC.encode(Output(Value(b"1"))) + CODEC.encode(End()))
        exchange.end()
        assert await stream.reason() is None
        assert stream.messages == [Output(Value(b"1")), End()]
        assert len(replayed(exchange)[1]) == 1


@pytest.mark.usefixtures("hasty")
async def test_a_peer_that_answers_is_still_told_things_later() -> None:
    async with joined() as it:
        await broken_once(it)
        _, handler, exchange = await it.opened()
        other, _, silent = await it.open()
        # By now the first one would have been told, too.
        await silent.until(lambda: silent.has_ended)
        assert not other.is_over
        assert not exchange.has_ended
        handler.send([SLEPT])
        await exchange.until(lambda: SLEPT in replayed(exchange)[1])


@pytest.mark.usefixtures("hasty")
async def test_a_peer_that_gave_up_its_connection_without_hanging_up_loses_the_attempt() -> None:
    """As hypercorn does after its number of requests: it answers nothing, until something comes."""
    async with joined() as it:
        await broken_once(it)
        stream, _, exchange = await it.open()
        await exchange.until(lambda: len(replayed(exchange)[1]) == 1)
        exchange.connection.h2.close_connection()
        exchange.connection.flush()
        reason = await stream.reason()
        assert reason is not None
        assert reason.endswith("[HF1343]")


@pytest.mark.usefixtures("hasty")
async def test_a_peer_that_is_only_slow_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with joined() as it, joined() as other:
        _, _, slow = await it.open()
        # Some time ago is as good as never.
        await broken_once(other)
        monkeypatch.setattr(client_module, "SUSPICION_S", 0.0)
        _, _, mended = await other.open()
        monkeypatch.setattr(client_module, "SUSPICION_S", 60.0)
        _, _, suspect = await other.open()
        await suspect.until(lambda: suspect.has_ended)
        assert not slow.has_ended
        assert not mended.has_ended


async def test_a_cancellation_behind_the_end_of_the_request_is_told_to_the_server() -> None:
    async with joined() as it:
        stream, handler, exchange = await it.opened()
        handler.send([CANCEL])
        await exchange.until(lambda: CANCEL in replayed(exchange)[1])
        handler.close_input()
        await exchange.until(lambda: exchange.has_ended)
        handler.send([SLEPT])
        handler.send([CANCEL])
        assert stream.unheard_count == 0, "the server is inside a call of its own"
        await stream.until(lambda: stream.unheard_count)
        handler.abort()
        await exchange.until(lambda: exchange.reset_code is not None)
        assert (stream.unheard_count, stream.is_over) == (1, False)


async def test_a_cancellation_of_an_attempt_that_is_over_is_told_to_nobody() -> None:
    async with joined() as it:
        stream, handler, exchange = await it.opened()
        handler.close_input()
        handler.send([CANCEL])
        handler.abort()
        await exchange.until(lambda: exchange.reset_code is not None)
        assert stream.unheard_count == 0


async def test_a_cancellation_of_a_request_that_was_sent_whole() -> None:
    async with joined(is_bidirectional=False) as it:
        stream, handler, exchange = await it.open()
        handler.send([CANCEL])
        await stream.until(lambda: stream.unheard_count == 1)
        handler.abort()
        await exchange.until(lambda: exchange.reset_code is not None)
